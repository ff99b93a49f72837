"""Hostile drivers: random registers, rings and descriptors for every virtio device, and random accesses to
the board's other devices. Nothing may raise, loop or grow; afterwards devices still work for good drivers.
"""

from __future__ import annotations

import random
import struct
import time
import tracemalloc

import pytest

from runtime.clock import CountedClock
from runtime.devices.aclint import Aclint
from runtime.devices.backends.network import Loopback
from runtime.devices.character import Character
from runtime.devices.device import Line
from runtime.devices.goldfish_rtc import GoldfishRtc
from runtime.devices.ninep.folder import Folder
from runtime.devices.plic import Plic
from runtime.devices.sifive_test import SifiveTest
from runtime.devices.uart16550 import Uart16550
from runtime.devices.virtio import mmio
from runtime.devices.virtio.balloon import Balloon
from runtime.devices.virtio.console import Console, Port
from runtime.devices.virtio.entropy import Entropy
from runtime.devices.virtio.filesystem import FileSystem
from runtime.devices.virtio.input import Keyboard, Tablet
from runtime.devices.virtio.mmio import VirtioMmio, VirtioMmioState
from runtime.devices.virtio.network import Network
from runtime.devices.virtio.queue import INDIRECT, NEXT, WRITE
from tests.runtime.devices.driver import AVAILABLE, BUFFERS, ENTRIES, QUEUE, RAM, SIZE, TABLE, USED, Driver


def devices(memory, tmp_path):
    return {
        "network": lambda: Network(Loopback(), b"RT\0\0\0\1"),
        "console": lambda: Console([Port(Character()), Port(Character(), "a"), Port(Character())]),
        "entropy": lambda: Entropy(bytes),
        "balloon": lambda: Balloon(memory, 64 << 20),
        "keyboard": Keyboard,
        "tablet": Tablet,
        "filesystem": lambda: FileSystem(Folder(tmp_path), "t"),
    }


NAMES = sorted(devices(None, None))


def scribble(generator, memory, queues):
    """Break something in the queues."""
    queue = generator.randrange(queues)
    place = generator.choice((RAM, RAM + SIZE - 16, 0, (1 << 64) - 8, BUFFERS, TABLE + QUEUE * queue))
    length = generator.choice((0, 1, 8, 10, 16, 4096, 1 << 20, 0xFFFFFFFF))
    flags = generator.choice((0, WRITE, NEXT, NEXT | WRITE, INDIRECT, generator.getrandbits(16)))
    row = struct.pack("<QIHH", place, length, flags, generator.choice((0, 1, 2, 15, 16, 65535)))
    memory.write(TABLE + QUEUE * queue + 16 * generator.randrange(ENTRIES), row)
    memory.write(BUFFERS + generator.randrange(4096), generator.randbytes(generator.randrange(64)))
    if generator.random() < 0.1:
        ring = generator.choice((AVAILABLE, USED)) + QUEUE * queue
        memory.write(ring + 2 * generator.randrange(20), generator.randbytes(2))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_drivers(memory, tmp_path, name):
    make = devices(memory, tmp_path)[name]
    device = make()
    driver = Driver(device, memory)
    generator = random.Random(name)
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    begin = time.monotonic()
    for _ in range(2500):
        action = generator.random()
        if driver.broken or action < 0.01:
            driver.start()
        elif action < 0.5:
            scribble(generator, memory, device.queue_count)
        elif action < 0.9:
            driver.offer(
                generator.choice((0, 0, 1, 5, ENTRIES, 65535)), generator.randrange(device.queue_count)
            )
        elif action < 0.95:
            offset = generator.choice((*range(0, 0x100, 4), generator.randrange(0x200)))
            value = generator.choice((0, 1, 3, 15, TABLE & 0xFFFFFFFF, generator.getrandbits(32)))
            driver.slot.write(offset, generator.choice((1, 2, 4, 8)), value)
            driver.slot.read(offset, generator.choice((1, 2, 4, 8)))
        elif action < 0.96:
            saved = driver.slot.save().model_dump_json()
            driver.slot.restore(VirtioMmioState.model_validate_json(saved))
        elif isinstance(device, Keyboard):
            device.press("a")
        elif isinstance(device, Console):
            device._ports[generator.randrange(3)].backend.feed(b"x" * 1000)
    assert time.monotonic() - begin < 60
    assert tracemalloc.get_traced_memory()[0] - base < 32 << 20
    tracemalloc.stop()
    driver.start()
    assert not driver.broken
    driver.write(mmio.STATUS, 0)


def test_a_slot_without_a_driver_keeps_quiet(memory, tmp_path):
    """Notifications before the driver is ready do nothing."""
    for make in devices(memory, tmp_path).values():
        line = Line()
        slot = VirtioMmio(memory, line, make())
        for queue in range(10):
            slot.write(mmio.QUEUE_NOTIFY, 4, queue)
        assert slot.read(mmio.STATUS, 4) == 0 and not line.level


class Ticks:
    def ticks(self):
        return 5

    def set_ticks(self, value):
        pass

    def deadline(self, ticks):
        return ticks


def board():
    clock = CountedClock()
    plic = Plic(95, [Line() for _ in range(4)])
    return {
        "uart": Uart16550(Character(), plic.source(10)),
        "rtc": GoldfishRtc(clock, 0, plic.source(11)),
        "test": SifiveTest(lambda status=0: None, lambda: None),
        "clint": Aclint(clock, Ticks(), [Line(), Line()], [Line(), Line()]),
        "plic": plic,
    }


@pytest.mark.parametrize("name", sorted(board()))
def test_random_accesses(name):
    device = board()[name]
    generator = random.Random(name)
    places = [
        0,
        4,
        8,
        0xC,
        0x10,
        0x1000,
        0x2000,
        0x4000,
        0x200000,
        0x200004,
        device.size - 8,
        device.size - 1,
    ]
    for _ in range(5000):
        offset = generator.choice((generator.choice(places), generator.randrange(device.size)))
        offset = min(offset, device.size - 1)
        size = generator.choice((1, 2, 4, 8))
        value = generator.choice((0, 1, 0xFF, 1 << 8 * size - 1, generator.getrandbits(8 * size)))
        device.write(offset, size, value & (1 << 8 * size) - 1)
        assert isinstance(device.read(offset, size), int)
        if generator.random() < 0.02:
            saved = device.save()
            device.restore(type(saved).model_validate_json(saved.model_dump_json()))
            assert device.save() == saved
    device.reset()
