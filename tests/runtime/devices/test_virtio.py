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
from tests.runtime.devices.driver import (
    AVAILABLE,
    BUFFERS,
    ENTRIES,
    EVENT_INDEX,
    TABLE,
    USED,
    Driver,
)


class Disk:
    def __init__(self, data):
        self.data, self.read_only, self.flushes, self.unmapped = bytearray(data), False, 0, []

    def length(self):
        return len(self.data)

    def pread(self, offset, size):
        return bytes(self.data[offset : offset + size])

    def pwrite(self, offset, data):
        self.data[offset : offset + len(data)] = data

    def read_into(self, offset, target):
        target[:] = self.data[offset : offset + len(target)]

    def write_zeroes(self, offset, length, *, unmap):
        self.data[offset : offset + length] = bytes(length)
        self.unmapped.append(unmap)

    def discard(self, offset, length):
        self.data[offset : offset + length] = bytes(length)

    def flush(self):
        self.flushes += 1


def header(kind, sector=0):
    return struct.pack("<IIQ", kind, 0, sector)


def test_interrupts_come_when_the_driver_asked_for_them(memory):
    """Event indexes: buffers are used without an interrupt until the one that the driver named (2.7.7.2)."""
    driver = Driver(Entropy(lambda n: bytes(n)), memory)
    event = AVAILABLE + 4 + 2 * ENTRIES
    driver.submit(16)
    memory.write(TABLE, struct.pack("<QIHH", BUFFERS, 16, WRITE, 0))
    levels = []
    for count in range(1, 5):
        memory.write(AVAILABLE + 4 + 2 * (count % ENTRIES), bytes(2))
        memory.write(AVAILABLE + 2, struct.pack("<H", count + 1))
        memory.write(event, struct.pack("<H", 3))
        driver.write(mmio.QUEUE_NOTIFY, 0)
        levels.append(driver.line.level)
        driver.write(mmio.INTERRUPT_ACK, 1)
        assert memory.read(USED + 4 + 8 * ENTRIES, 2) == struct.pack("<H", count + 1)  # avail_event
    assert levels == [False, False, True, False]


def test_interrupts_by_flag_without_event_indexes(memory):
    driver = Driver(Entropy(lambda n: bytes(n)), memory, refused=EVENT_INDEX)
    driver.submit(16)
    memory.write(AVAILABLE, struct.pack("<H", 1))  # VIRTQ_AVAIL_F_NO_INTERRUPT
    driver.offer(0)
    assert not driver.line.level and memory.read(USED + 2, 2) == b"\2\0"
    assert memory.read(USED + 4 + 8 * ENTRIES, 2) == bytes(2)


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
    for unmap in (0, 1):
        disk.data[512:1536] = b"x" * 1024
        ranges = struct.pack("<QII", 1, 2, unmap)
        assert driver.submit(header(13), ranges, 1, indirect=indirect)[0] == b"\0"
        assert disk.data[512:1536] == bytes(1024) and disk.unmapped[-1] == bool(unmap)
    for kind, flags in ((11, 1), (11, 2), (13, 2)):
        assert driver.submit(header(kind), struct.pack("<QII", 0, 1, flags), 1)[0] == b"\2"
    assert driver.submit(header(11), struct.pack("<QII", 62, 2, 0), 1)[0] == b"\0"
    assert disk.data[-1024:] == bytes(1024)
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
