"""The virtio console: one port, several, their control messages, and what snapshots keep."""

from __future__ import annotations

import struct

from runtime.devices.character import PENDING, Character
from runtime.devices.virtio import mmio
from runtime.devices.virtio.console import (
    ADD,
    CONSOLE_PORT,
    CONTROL_RECEIVE,
    CONTROL_TRANSMIT,
    F_MULTIPORT,
    NAME,
    OPEN,
    PORT_READY,
    READY,
    RESIZE,
    Console,
    Port,
)
from tests.runtime.devices.driver import Driver


def character():
    made = Character()
    made.sent = bytearray()
    made.output = made.sent.extend
    return made


def control(number, event, value=0):
    return struct.pack("<IHH", number, event, value)


def messages(driver):
    return [(*struct.unpack_from("<IHH", data), data[8:]) for data in driver.received(CONTROL_RECEIVE)]


def several(memory):
    """A driver of a console with a terminal and a port, started as Linux does."""
    ports = [Port(character()), Port(character(), "org.test.0")]
    driver = Driver(Console(ports, 80, 25), memory)
    for _ in range(12):
        driver.give(64, CONTROL_RECEIVE)
    return driver, ports[0].backend, ports[1].backend


def test_one_console(memory):
    backend = character()
    driver = Driver(Console([Port(backend)], 80, 25), memory)
    assert not driver.features & F_MULTIPORT and driver.config(0, 4) == struct.pack("<HH", 80, 25)
    assert driver.submit(b"from the guest", queue=1) == (b"", 0)
    assert backend.sent == b"from the guest"
    backend.feed(b"to the guest")
    driver.give(5)
    driver.give(100)
    assert driver.received() == [b"to th", b"e guest"]
    driver.give(100)
    backend.feed(b"more")
    assert driver.received() == [b"more"]


def test_the_emergency_write(memory):
    backend = character()
    driver = Driver(Console([Port(backend)]), memory)
    driver.slot.write(mmio.CONFIG + 8, 4, ord("!"))
    assert backend.sent == b"!"


def test_a_resize_tells_the_driver(memory):
    device = Console([Port(character())], 80, 25)
    driver = Driver(device, memory)
    before = driver.read(mmio.CONFIG_GENERATION)
    device.resize(100, 40)
    assert driver.config(0, 4) == struct.pack("<HH", 100, 40)
    assert driver.read(mmio.CONFIG_GENERATION) != before
    assert driver.line.level and driver.read(mmio.INTERRUPT_STATUS) == 2


def test_ports_are_announced_named_and_opened(memory):
    driver, _, port = several(memory)
    assert driver.features & F_MULTIPORT and driver.config(4, 4) == struct.pack("<I", 2)
    port.connected = False
    driver.submit(control(0, READY, 1), queue=CONTROL_TRANSMIT)
    assert messages(driver) == [(0, ADD, 1, b""), (1, ADD, 1, b"")]
    driver.submit(control(0, PORT_READY, 1), queue=CONTROL_TRANSMIT)
    size = struct.pack("<HH", 80, 25)
    assert messages(driver) == [(0, CONSOLE_PORT, 1, b""), (0, RESIZE, 0, size), (0, OPEN, 1, b"")]
    driver.submit(control(1, PORT_READY, 1), queue=CONTROL_TRANSMIT)
    assert messages(driver) == [(1, NAME, 1, b"org.test.0")]
    port.connected = True
    assert messages(driver) == [(1, OPEN, 1, b"")]
    port.connected = False
    assert messages(driver) == [(1, OPEN, 0, b"")]


def test_a_port_gets_input_when_the_guest_has_opened_it(memory):
    driver, terminal, port = several(memory)
    driver.give(100, 0)
    driver.give(100, 4)
    terminal.feed(b"typed")
    assert driver.received(0) == [b"typed"]
    port.feed(b"for the port")
    assert driver.received(4) == []
    driver.submit(control(1, OPEN, 1), queue=CONTROL_TRANSMIT)
    assert driver.received(4) == [b"for the port"]
    driver.submit(b"back", queue=5)
    assert port.sent == b"back" and not terminal.sent


def test_bad_control_messages_are_ignored(memory):
    driver, _, _ = several(memory)
    for message in (
        b"",
        b"abc",
        control(99, PORT_READY, 1),
        control(0, 99),
        control(0, OPEN, 1) + b"x" * 100,
    ):
        driver.submit(message + b"\0" * (not message), queue=CONTROL_TRANSMIT)
    for _ in range(300):
        driver.submit(control(0, READY, 1), queue=CONTROL_TRANSMIT)  # nobody takes the answers
    assert not driver.broken


def test_a_snapshot_keeps_what_waits(memory):
    driver, terminal, port = several(memory)
    driver.submit(control(1, OPEN, 1), queue=CONTROL_TRANSMIT)
    terminal.feed(b"typed \xff")
    port.feed(b"sent")
    saved = driver.slot.save().model_dump_json()
    driver.give(100, 0)
    driver.give(100, 4)
    assert driver.received(0) == [b"typed \xff"] and driver.received(4) == [b"sent"]
    driver.slot.restore(mmio.VirtioMmioState.model_validate_json(saved))
    assert terminal.waiting == b"typed \xff" and port.waiting == b"sent"


def test_a_backend_holds_so_much():
    backend = character()
    roomy = []
    backend.on_room = lambda: roomy.append(backend.room)
    backend.feed(b"x" * (PENDING + 10))
    assert backend.room == 0 and backend.available == PENDING
    assert backend.take(100) == b"x" * 100 and roomy == [100]
