"""A virtio driver in Python: what a guest's does, register by register (virtio 1.2, 3.1.1 and 4.2.3)."""

from __future__ import annotations

import struct

from runtime.devices.device import Line
from runtime.devices.virtio import mmio
from runtime.devices.virtio.mmio import VirtioMmio
from runtime.devices.virtio.queue import INDIRECT, NEXT, WRITE

RAM, SIZE = 0x80000000, 4 << 20
QUEUE, ROOM = 0x4000, 0x10000
TABLE, AVAILABLE, USED, BUFFERS = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x100000
"""Those of queue 0; the parts of queue n lie `QUEUE`, its buffers `ROOM` bytes further."""
ENTRIES = 16
EVENT_INDEX = 1 << 29


class Driver:
    """`refused`: feature bits that it doesn't take."""

    def __init__(self, device, memory, refused=0):
        self.memory, self.line, self.device = memory, Line(), device
        self.slot = VirtioMmio(memory, self.line, device)
        self.start(refused)

    def start(self, refused=0):
        """Reset, and begin anew."""
        self.write(mmio.STATUS, 0)
        queues = self.device.queue_count
        self.available, self.seen, self.told = [0] * queues, [0] * queues, set()
        assert self.read(mmio.MAGIC_VALUE) == 0x74726976 and self.read(mmio.VERSION) == 2
        self.write(mmio.STATUS, 3)
        features = 0
        for selector in (0, 1):
            self.write(mmio.DEVICE_FEATURES_SEL, selector)
            features |= self.read(mmio.DEVICE_FEATURES) << 32 * selector
        assert features >> 32 & 1  # VIRTIO_F_VERSION_1
        self.features = features & ~refused
        for selector in (0, 1):
            self.write(mmio.DRIVER_FEATURES_SEL, selector)
            self.write(mmio.DRIVER_FEATURES, self.features >> 32 * selector & 0xFFFFFFFF)
        self.write(mmio.STATUS, 11)
        assert self.read(mmio.STATUS) == 11
        for queue in range(queues):
            self.memory.write(AVAILABLE + QUEUE * queue, bytes(0x2000))
            self.write(mmio.QUEUE_SEL, queue)
            self.write(mmio.QUEUE_NUM, ENTRIES)
            for register, address in (
                (mmio.QUEUE_DESC, TABLE),
                (mmio.QUEUE_DRIVER, AVAILABLE),
                (mmio.QUEUE_DEVICE, USED),
            ):
                address += QUEUE * queue
                self.write(register, address & 0xFFFFFFFF)
                self.write(register + 4, address >> 32)
            self.write(mmio.QUEUE_READY, 1)
        self.write(mmio.STATUS, 15)

    def read(self, offset):
        return self.slot.read(offset, 4)

    def write(self, offset, value):
        self.slot.write(offset, 4, value)

    def config(self, offset, size):
        """Bytes of the configuration space, read as a driver does."""
        return b"".join(
            self.slot.read(mmio.CONFIG + offset + n, 1).to_bytes(1, "little") for n in range(size)
        )

    def submit(self, *buffers, indirect=False, queue=0):
        """Buffers (bytes to send or a length to receive), served at once; returns what was received, and how
        much the device says it is.
        """
        rows, at = [], BUFFERS + ROOM * queue
        for buffer in buffers:
            length = buffer if isinstance(buffer, int) else len(buffer)
            if not isinstance(buffer, int):
                self.memory.write(at, buffer)
            rows.append([at, length, WRITE if isinstance(buffer, int) else 0, 0])
            at += length
        for number, row in enumerate(rows[:-1]):
            row[2:] = [row[2] | NEXT, number + 1]
        start = TABLE + QUEUE * queue
        table = start + 0x800 if indirect else start
        for number, row in enumerate(rows):
            self.memory.write(table + 16 * number, struct.pack("<QIHH", *row))
        if indirect:
            self.memory.write(start, struct.pack("<QIHH", table, 16 * len(rows), INDIRECT, 0))
        self.offer(0, queue)
        ((head, written),) = self.finished(queue)
        assert head == 0
        received = b"".join(self.memory.read(a, n) for a, n, flags, _ in rows if flags & WRITE)
        return received, written

    def give(self, length, queue=0):
        """A buffer for the device to fill when it has something."""
        number = self.available[queue] % ENTRIES
        place = BUFFERS + ROOM * queue + 0x1000 * number
        row = struct.pack("<QIHH", place, length, WRITE, 0)
        self.memory.write(TABLE + QUEUE * queue + 16 * number, row)
        self.offer(number, queue)

    def received(self, queue=0):
        """What came in buffers that were given."""
        places = BUFFERS + ROOM * queue
        return [self.memory.read(places + 0x1000 * head, size) for head, size in self.finished(queue)]

    def offer(self, head, queue=0):
        """Make a chain available, and tell the device."""
        ring = AVAILABLE + QUEUE * queue
        self.memory.write(ring + 4 + 2 * (self.available[queue] % ENTRIES), struct.pack("<H", head))
        self.memory.write(ring + 4 + 2 * ENTRIES, struct.pack("<H", self.seen[queue]))  # used_event
        self.available[queue] = (self.available[queue] + 1) % 65536
        self.memory.write(ring + 2, struct.pack("<H", self.available[queue]))
        self.write(mmio.QUEUE_NOTIFY, queue)

    def finished(self, queue=0):
        """(head, length) of what the device handed back since the last call; it has interrupted for it."""
        ring = USED + QUEUE * queue
        used = int.from_bytes(self.memory.read(ring + 2, 2), "little")
        done = []
        while self.seen[queue] != used:
            place = ring + 4 + 8 * (self.seen[queue] % ENTRIES)
            done.append(struct.unpack("<II", self.memory.read(place, 8)))
            self.seen[queue] = (self.seen[queue] + 1) % 65536
        if self.line.level:
            assert self.read(mmio.INTERRUPT_STATUS)
            self.write(mmio.INTERRUPT_ACK, 3)
            assert not self.line.level
            self.told = set(range(len(self.seen)))  # of all queues
        if done:
            assert queue in self.told
            self.told.discard(queue)
        self.memory.write(AVAILABLE + QUEUE * queue + 4 + 2 * ENTRIES, struct.pack("<H", used))
        return done

    @property
    def broken(self):
        return bool(self.read(mmio.STATUS) & mmio.NEEDS_RESET)
