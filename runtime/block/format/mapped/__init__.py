"""What the formats share whose disks are equal blocks, found through a table: VDI, VHD, VHDX, VMDK, QED,
Parallels.
"""
