"""Snapshots for every format that has none of its own: raw, VMDK, VDI, VHD, VHDX, QED, Parallels.

The image always holds the disk as it is now, so that other programs can use it as before. What a write would
destroy is copied first ("copy before write") into the newest snapshot's store. Stores are QCOW2 images,
each backed by the next newer one, and the newest by the image itself: any program that reads QCOW2 can read
a snapshot.

    disk.vdi                      the disk as it is now
    disk.vdi.snapshots/
        snapshots.json            names, dates, sizes, and the order (`manifest.Manifest`)
        0001.qcow2                the oldest snapshot: what differs from 0002.qcow2
        0002.qcow2                the newest one: what differs from ../disk.vdi
        0002.vmstate              the machine's state, where one was saved

The copy is durable before the write begins, so a crash at any moment leaves every snapshot whole. Without
the folder the image is still complete; only the snapshots are lost.
"""
