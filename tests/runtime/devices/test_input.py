"""Virtio keyboard and tablet, and the memory balloon."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from runtime.devices.keys import KEYS, chord
from runtime.devices.virtio import mmio
from runtime.devices.virtio.balloon import DEFLATE, INFLATE, NAMES, STATISTICS, Balloon
from runtime.devices.virtio.input import EV_ABS, EV_KEY, EV_LED, EV_REL, LARGEST_POSITION, Keyboard, Tablet
from runtime.devices.virtio.queue import NEXT, WRITE
from runtime.errors import IsagenError
from tests.conftest import absent
from tests.runtime.devices.driver import ENTRIES, QUEUE, RAM, SIZE, TABLE, Driver


def ask(driver, select, sub):
    driver.slot.write(mmio.CONFIG, 1, select)
    driver.slot.write(mmio.CONFIG + 1, 1, sub)
    return driver.config(8, driver.config(2, 1)[0])


def events(driver, count):
    for _ in range(count):
        driver.give(8)
    return [struct.unpack("<HHI", data) for data in driver.received()]


def test_a_keyboard_says_what_it_is(memory):
    driver = Driver(Keyboard(), memory)
    assert ask(driver, 1, 0) == b"isagen keyboard"
    keys = int.from_bytes(ask(driver, 0x11, EV_KEY), "little")
    assert {code for code in range(256) if keys >> code & 1} == set(KEYS.values())
    assert (
        ask(driver, 0x11, EV_LED) == b"\7"
        and ask(driver, 0x11, EV_ABS) == b""
        and ask(driver, 0x55, 3) == b""
    )
    assert len(ask(driver, 3, 0)) == 8


def test_keys_arrive_in_order(memory):
    keyboard = Keyboard()
    driver = Driver(keyboard, memory)
    keyboard.press("ctrl", "c")
    sync = (0, 0, 0)
    assert events(driver, 10) == [
        *((EV_KEY, 29, 1), sync, (EV_KEY, 46, 1), sync),
        *((EV_KEY, 46, 0), sync, (EV_KEY, 29, 0), sync),
    ]
    with pytest.raises(IsagenError, match="no key 'any'"):
        keyboard.press("any")
    with pytest.raises(IsagenError, match="no key types"):
        keyboard.type("aé")
    keyboard.type("A")
    assert [event[:2] for event in events(driver, 8) if event[0]] == [(EV_KEY, c) for c in (42, 30, 30, 42)]


def test_lights(memory):
    keyboard = Keyboard()
    driver = Driver(keyboard, memory)
    driver.submit(struct.pack("<HHI", EV_LED, 1, 1), queue=1)
    assert keyboard.lights == {"caps_lock"}
    driver.submit(struct.pack("<HHI", EV_LED, 1, 0), queue=1)
    driver.submit(b"abc", queue=1)
    assert keyboard.lights == set()


def test_a_tablet_points(memory):
    tablet = Tablet()
    driver = Driver(tablet, memory)
    assert struct.unpack("<5I", ask(driver, 0x12, 1))[:2] == (0, LARGEST_POSITION)
    tablet.move(-5, 100000)
    tablet.button("left", True)
    tablet.wheel(-1)
    assert [event for event in events(driver, 8) if event[0]] == [
        *((EV_ABS, 0, 0), (EV_ABS, 1, LARGEST_POSITION)),
        *((EV_KEY, 0x110, 1), (EV_REL, 8, 0xFFFFFFFF)),
    ]


def test_events_that_nobody_takes_are_bounded_and_kept_in_snapshots(memory):
    keyboard = Keyboard()
    driver = Driver(keyboard, memory)
    for _ in range(3000):
        keyboard.press("a")
    saved = driver.slot.save()
    assert len(saved.device["events"]) <= 1024
    first = events(driver, 4)
    driver.slot.restore(mmio.VirtioMmioState.model_validate_json(saved.model_dump_json()))
    assert len(keyboard._events) == len(saved.device["events"]) and first[0] == (EV_KEY, 30, 1)


def test_keys_are_those_of_linux():
    header = Path("/usr/include/linux/input-event-codes.h")
    if not header.exists():
        absent("linux-libc-dev")
    numbers = {}
    for line in header.read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "#define" and words[1].startswith("KEY_") and words[2].isdigit():
            numbers[words[1][4:].lower()] = int(words[2])
    same = {name for name in KEYS if name in numbers}
    assert len(same) > 60 and all(KEYS[name] == numbers[name] for name in same)
    others = {"ret": "enter", "spc": "space", "ctrl": "leftctrl", "pgdn": "pagedown", "meta_r": "rightmeta"}
    assert all(KEYS[ours] == numbers[theirs] for ours, theirs in others.items())


def test_text_is_typed_as_on_an_american_keyboard():
    assert chord("?") == ["shift", "slash"] and chord("1") == ["1"] and chord("Z") == ["shift", "z"]
    assert chord("\n") == ["ret"] and chord("é") is None
    assert all(set(chord(chr(code))) <= set(KEYS) for code in range(32, 127))


# --- the balloon --------------------------------------------------------------------------------------------


def test_the_balloon_takes_pages_and_gives_them_back(memory):
    balloon = Balloon(memory, 64 << 20)
    driver = Driver(balloon, memory)
    balloon.target = 60 << 20
    assert driver.line.level and driver.config(0, 4) == struct.pack("<I", 1024)
    page = RAM + SIZE - 0x5000
    memory.write(page, b"x" * 0x3000)
    driver.submit(struct.pack("<2I", page + 0x1000 >> 12, page >> 12), queue=INFLATE)
    assert memory.read(page, 0x3000) == bytes(0x2000) + b"x" * 0x1000
    driver.slot.write(mmio.CONFIG + 4, 4, 2)
    assert balloon.size == (64 << 20) - 8192
    driver.submit(struct.pack("<2I", page + 0x1000 >> 12, page >> 12), queue=DEFLATE)
    assert not driver.broken


def test_free_pages_are_reported(memory):
    driver = Driver(Balloon(memory, 64 << 20), memory)
    place = 0x80100000 + 3 * 0x10000
    memory.write(place, b"x" * 0x3000)
    driver.submit(0x2000, queue=3)
    assert memory.read(place, 0x3000) == bytes(0x2000) + b"x" * 0x1000


def test_reports_may_be_of_much_memory(memory):
    """Linux reports 32 blocks of up to 4 MiB at a time."""
    driver = Driver(Balloon(memory, 64 << 20), memory)
    free, size = 0x100000000, 4 << 20
    memory.map(free, ENTRIES * size)
    memory.write(free + 5 * size, b"x")
    memory.map(free + ENTRIES * size, size)
    for number in range(ENTRIES):
        length = size if number else 2 * size
        last = number == ENTRIES - 1
        row = struct.pack("<QIHH", free + number * size, length, WRITE | (0 if last else NEXT), number + 1)
        memory.write(TABLE + 3 * QUEUE + 16 * number, row)
    driver.offer(0, 3)
    assert not driver.broken and driver.finished(3) == [(0, 0)]
    assert memory.read(free + 5 * size, 1) == b"\0"


def test_statistics(memory):
    balloon = Balloon(memory, 64 << 20)
    driver = Driver(balloon, memory)
    memory.write(0x80100000 + STATISTICS * 0x10000, struct.pack("<HQHQ", 4, 1234, 99, 1))
    row = struct.pack("<QIHH", 0x80100000 + STATISTICS * 0x10000, 20, 0, 0)
    memory.write(0x80000000 + STATISTICS * 0x4000, row)
    driver.offer(0, STATISTICS)
    assert balloon.statistics == {NAMES[4]: 1234} and driver.finished(STATISTICS) == []
    saved = driver.slot.save()
    balloon.ask()
    assert driver.finished(STATISTICS) == [(0, 0)]
    balloon.ask()
    assert driver.finished(STATISTICS) == []
    assert saved.device["held"] == 0


def test_pages_that_are_not_there_break_the_driver(memory):
    driver = Driver(Balloon(memory, 64 << 20), memory)
    memory.write(0x80100000, struct.pack("<I", 1))
    memory.write(0x80000000, struct.pack("<QIHH", 0x80100000, 4, 0, 0))
    driver.offer(0, INFLATE)
    assert driver.broken
