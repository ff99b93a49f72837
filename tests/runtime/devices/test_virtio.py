"""Virtio over MMIO: a driver in Python, good and bad."""

from __future__ import annotations

import random
import struct

import pytest

from runtime.block.format.raw import RawNode
from runtime.block.protocol.memory import MemoryNode
from runtime.devices.device import Line
from runtime.devices.virtio import mmio
from runtime.devices.virtio.block import Block
from runtime.devices.virtio.entropy import Entropy
from runtime.devices.virtio.mmio import VirtioMmio
from runtime.devices.virtio.queue import INDIRECT, LARGEST, NEXT, WRITE
from runtime.memory.space import AddressSpace

RAM, SIZE = 0x80000000, 1 << 20
TABLE, AVAILABLE, USED, BUFFERS = RAM, RAM + 0x4000, RAM + 0x5000, RAM + 0x10000
ENTRIES = 16


class Driver:
    """What a guest's driver does, register by register (virtio 1.2, 3.1.1 and 4.2.3)."""

    def __init__(self, device, memory):
        self.memory, self.line = memory, Line()
        self.slot = VirtioMmio(memory, self.line, device)
        self.available = self.seen = 0
        assert self.read(mmio.MAGIC_VALUE) == 0x74726976 and self.read(mmio.VERSION) == 2
        self.write(mmio.STATUS, 3)
        self.write(mmio.DEVICE_FEATURES_SEL, 1)
        assert self.read(mmio.DEVICE_FEATURES) & 1  # VIRTIO_F_VERSION_1
        self.write(mmio.DEVICE_FEATURES_SEL, 0)
        low = self.read(mmio.DEVICE_FEATURES)
        for selector, value in ((0, low), (1, 1)):
            self.write(mmio.DRIVER_FEATURES_SEL, selector)
            self.write(mmio.DRIVER_FEATURES, value)
        self.write(mmio.STATUS, 11)
        assert self.read(mmio.STATUS) == 11
        self.write(mmio.QUEUE_NUM, ENTRIES)
        for register, address in (
            (mmio.QUEUE_DESC, TABLE),
            (mmio.QUEUE_DRIVER, AVAILABLE),
            (mmio.QUEUE_DEVICE, USED),
        ):
            self.write(register, address & 0xFFFFFFFF)
            self.write(register + 4, address >> 32)
        self.write(mmio.QUEUE_READY, 1)
        self.write(mmio.STATUS, 15)

    def read(self, offset):
        return self.slot.read(offset, 4)

    def write(self, offset, value):
        self.slot.write(offset, 4, value)

    def submit(self, *buffers, indirect=False):
        """Buffers (bytes to send or a length to receive); returns what was received."""
        rows, at = [], BUFFERS
        for buffer in buffers:
            length = buffer if isinstance(buffer, int) else len(buffer)
            if not isinstance(buffer, int):
                self.memory.write(at, buffer)
            rows.append([at, length, WRITE if isinstance(buffer, int) else 0, 0])
            at += length
        for number, row in enumerate(rows[:-1]):
            row[2:] = [row[2] | NEXT, number + 1]
        table = TABLE + 0x800 if indirect else TABLE
        for number, row in enumerate(rows):
            self.memory.write(table + 16 * number, struct.pack("<QIHH", *row))
        if indirect:
            self.memory.write(TABLE, struct.pack("<QIHH", table, 16 * len(rows), INDIRECT, 0))
        self.offer(0)
        used = int.from_bytes(self.memory.read(USED + 2, 2), "little")
        assert used == self.seen + 1, "the request wasn't completed"
        place = USED + 4 + 8 * (self.seen % ENTRIES)
        head, written = struct.unpack("<II", self.memory.read(place, 8))
        self.seen = used
        assert head == 0 and self.line.level and self.read(mmio.INTERRUPT_STATUS) == 1
        self.write(mmio.INTERRUPT_ACK, 1)
        assert not self.line.level
        received = b"".join(self.memory.read(a, n) for a, n, flags, _ in rows if flags & WRITE)
        return received, written

    def offer(self, head):
        self.memory.write(AVAILABLE + 4 + 2 * (self.available % ENTRIES), struct.pack("<H", head))
        self.available = (self.available + 1) % 65536
        self.memory.write(AVAILABLE + 2, struct.pack("<H", self.available))
        self.write(mmio.QUEUE_NOTIFY, 0)

    @property
    def broken(self):
        return bool(self.read(mmio.STATUS) & mmio.NEEDS_RESET)


@pytest.fixture
def memory():
    space = AddressSpace()
    space.map(RAM, SIZE)
    return space


class Disk:
    def __init__(self, data):
        self.data, self.read_only, self.flushes = bytearray(data), False, 0

    def length(self):
        return len(self.data)

    def pread(self, offset, size):
        return bytes(self.data[offset : offset + size])

    def pwrite(self, offset, data):
        self.data[offset : offset + len(data)] = data

    def write_zeroes(self, offset, length):
        self.data[offset : offset + length] = bytes(length)

    discard = write_zeroes

    def flush(self):
        self.flushes += 1


def header(kind, sector=0):
    return struct.pack("<IIQ", kind, 0, sector)


@pytest.mark.parametrize("indirect", (False, True))
def test_block_requests(memory, indirect):
    disk = Disk(random.Random(1).randbytes(64 * 512))
    driver = Driver(Block(disk, serial="abc"), memory)
    assert driver.slot.read(mmio.CONFIG, 8) == 64
    assert driver.submit(header(0, 3), 512, 512, 1, indirect=indirect) == (
        bytes(disk.data[1536:2560]) + b"\0",
        1025,
    )
    assert driver.submit(header(1, 63), b"x" * 512, 1, indirect=indirect) == (b"\0", 1)
    assert disk.data[-512:] == b"x" * 512
    assert driver.submit(header(4), 1) == (b"\0", 1) and disk.flushes == 1
    assert driver.submit(header(8), 20, 1)[0] == b"abc".ljust(20, b"\0") + b"\0"
    assert driver.submit(header(13), struct.pack("<QII", 1, 2, 1), 1)[0] == b"\0"
    assert disk.data[512:1536] == bytes(1024)
    assert driver.submit(header(99), 1)[0] == b"\2"
    assert not driver.broken


def test_block_on_a_real_node(memory):
    node = RawNode(MemoryNode(bytearray(8 * 512)), writable=True)
    driver = Driver(Block(node), memory)
    driver.submit(header(1, 1), b"q" * 512, 1)
    assert driver.submit(header(0, 0), 1024, 1)[0] == bytes(512) + b"q" * 512 + b"\0"


@pytest.mark.parametrize(
    "buffers",
    (
        (header(0, 64), 512, 1),
        (header(0, 1 << 63), 512, 1),
        (header(0, 0), 100, 1),
        (header(1, 63), b"x" * 1024, 1),
        (header(13), b"x" * 15, 1),
        (header(13), struct.pack("<QII", 60, 5, 0), 1),
        (header(13), struct.pack("<QII", 0, 1, 2), 1),
    ),
)
def test_bad_block_requests_get_an_error(memory, buffers):
    disk = Disk(bytes(64 * 512))
    driver = Driver(Block(disk), memory)
    assert driver.submit(*buffers)[0][-1:] == b"\1"
    assert disk.data == bytes(64 * 512) and not driver.broken


def test_a_read_only_disk_stays_so(memory):
    disk = Disk(bytes(512))
    disk.read_only = True
    driver = Driver(Block(disk), memory)
    assert driver.submit(header(1), b"x" * 512, 1)[0] == b"\1" and disk.data == bytes(512)


def test_entropy_fills_what_it_is_given(memory):
    driver = Driver(Entropy(lambda n: b"r" * n), memory)
    assert driver.submit(100, 28) == (b"r" * 128, 128)


@pytest.mark.parametrize(
    ("rows", "why"),
    (
        ([(BUFFERS, 16, NEXT, 99)], "a descriptor beyond the table"),
        ([(BUFFERS, 16, NEXT, 1), (BUFFERS, 16, NEXT, 0)], "a loop"),
        ([(BUFFERS, 16, WRITE | NEXT, 1), (BUFFERS, 16, 0, 0)], "readable behind writable"),
        ([(0, 16, WRITE, 0)], "no memory there"),
        ([(BUFFERS, 0xFFFFFFFF, WRITE, 0)], "too long"),
        ([(TABLE, 17, INDIRECT, 0)], "half an indirect descriptor"),
        ([(TABLE, 16 * (LARGEST + 1), INDIRECT, 0)], "too large a table"),
        ([(TABLE, 16, INDIRECT, 0)], "indirect in indirect"),
        ([(TABLE + 16, 16, INDIRECT | NEXT, 1), (BUFFERS, 16, 0, 0)], "indirect with next"),
    ),
)
def test_a_bad_driver_has_to_reset(memory, rows, why):
    driver = Driver(Entropy(lambda n: bytes(n)), memory)
    for number, row in enumerate(rows):
        memory.write(TABLE + 16 * number, struct.pack("<QIHH", *row))
    driver.offer(0)
    assert driver.broken, why
    driver.write(mmio.STATUS, 0)
    assert not driver.broken and not driver.line.level


def test_a_ring_that_runs_ahead(memory):
    driver = Driver(Entropy(lambda n: bytes(n)), memory)
    memory.write(AVAILABLE + 2, struct.pack("<H", ENTRIES + 1))
    driver.write(mmio.QUEUE_NOTIFY, 0)
    assert driver.broken


def test_features_that_were_not_offered_are_refused(memory):
    slot = VirtioMmio(memory, Line(), Entropy(lambda n: bytes(n)))
    for selector, value in ((0, 1 << 5), (1, 1)):
        slot.write(mmio.DRIVER_FEATURES_SEL, 4, selector)
        slot.write(mmio.DRIVER_FEATURES, 4, value)
    slot.write(mmio.STATUS, 4, 11)
    assert slot.read(mmio.STATUS, 4) == 3


def test_random_drivers(memory):
    """Random registers, descriptors and rings: no exception, and the device can be reset and used again."""
    generator = random.Random(7)
    disk = Disk(bytes(64 * 512))
    slot = VirtioMmio(memory, Line(), Block(disk, queues=2))
    for _ in range(3000):
        if generator.random() < 0.5:
            place = generator.choice((TABLE, AVAILABLE, USED)) + generator.randrange(256)
            memory.write(place, generator.randbytes(generator.choice((1, 2, 8, 16))))
        offset = generator.choice((*range(0, 0x110, 4), generator.randrange(0x200)))
        value = generator.choice((0, 1, 2, 15, 16, TABLE, AVAILABLE, USED, generator.getrandbits(32)))
        slot.write(offset, generator.choice((1, 2, 4, 4, 4, 8)), value)
        slot.read(offset, generator.choice((1, 2, 4, 8)))
        slot.restore(type(slot.save()).model_validate_json(slot.save().model_dump_json()))
    Driver(Block(disk), memory).submit(header(4), 1)


def test_an_empty_slot(memory):
    slot = VirtioMmio(memory, Line())
    assert slot.read(mmio.MAGIC_VALUE, 4) == 0x74726976 and slot.read(mmio.DEVICE_ID, 4) == 0
    slot.write(mmio.STATUS, 4, 15)
    slot.write(mmio.QUEUE_NOTIFY, 4, 0)
