"""The virtio network card: frames, filters, the control queue; and the wires that it hangs on."""

from __future__ import annotations

import random
import selectors
import socket
import struct

import pytest

from runtime.devices.backends.address import Address
from runtime.devices.backends.network import Loopback, StreamWire
from runtime.devices.virtio import mmio
from runtime.devices.virtio.network import (
    CONTROL,
    F_ANNOUNCE,
    HEADER,
    HEADER_SIZE,
    RECEIVE,
    TRANSMIT,
    Network,
)
from runtime.errors import IsagenError
from tests.runtime.devices.driver import Driver

MAC = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400000001")
GROUP = bytes.fromhex("333300000001")
BROADCAST = b"\xff" * 6


class Wire:
    def __init__(self):
        self.sent, self.is_up = [], True

    def send(self, frame):
        self.sent.append(frame)


def frame(target, payload=b"x" * 50, kind=b"\x08\x00"):
    return target + OTHER + kind + payload


def card(memory, **options):
    wire = Wire()
    device = Network(wire, MAC, **options)
    driver = Driver(device, memory)
    return driver, wire, device


def command(driver, kind, number, data):
    return driver.submit(bytes([kind, number]) + data, 1, queue=CONTROL)[0] == b"\0"


def test_frames_go_out_and_come_in(memory):
    driver, wire, _ = card(memory)
    assert driver.config(0, 8) == MAC + b"\1\0"
    driver.submit(bytes(HEADER_SIZE) + frame(OTHER), queue=TRANSMIT)
    assert wire.sent == [frame(OTHER)]
    driver.give(1526, RECEIVE)
    wire.on_frame(frame(MAC))
    assert driver.received(RECEIVE) == [HEADER + frame(MAC)]
    wire.on_frame(frame(MAC, b"short"))
    driver.give(1526, RECEIVE)  # it waited
    assert driver.received(RECEIVE) == [HEADER + frame(MAC, b"short").ljust(60, b"\0")]


def test_no_offloads_are_offered(memory):
    driver, wire, _ = card(memory)
    assert not driver.features & 0x7F83  # checksums and segmentation, both ways
    for header in (b"\1", b"\0\1"):
        driver.submit(header.ljust(HEADER_SIZE, b"\0") + frame(OTHER), queue=TRANSMIT)
    driver.submit(bytes(HEADER_SIZE), queue=TRANSMIT)
    driver.submit(b"abc", queue=TRANSMIT)
    assert wire.sent == [] and not driver.broken


def test_filters(memory):
    driver, wire, _ = card(memory)
    frames = {
        "own": frame(MAC),
        "other": frame(OTHER),
        "group": frame(GROUP),
        "broadcast": frame(BROADCAST),
        "vlan": frame(MAC, b"\0\x05" + b"x" * 48, b"\x81\0"),
    }

    def accepted():
        found = set()
        for name, data in frames.items():
            wire.on_frame(data)
            driver.give(2000, RECEIVE)
            if driver.received(RECEIVE):
                found.add(name)
            else:  # use the buffer up
                command(driver, 0, 0, b"\1")
                wire.on_frame(frame(MAC, b"used up"))
                assert driver.received(RECEIVE)
                command(driver, 0, 0, b"\0")
        return found

    assert accepted() == set(frames)  # until the driver has chosen
    assert command(driver, 0, 0, b"\0")
    assert accepted() == {"own", "broadcast"}
    assert command(driver, 2, 0, struct.pack("<H", 5))
    assert accepted() == {"own", "broadcast", "vlan"}
    assert command(driver, 0, 1, b"\1")
    assert accepted() == {"own", "broadcast", "vlan", "group"}
    assert command(driver, 0, 1, b"\0") and command(driver, 0, 5, b"\1") and command(driver, 2, 1, b"\5\0")
    assert accepted() == {"own"}
    table = struct.pack("<I", 1) + OTHER + struct.pack("<I", 1) + GROUP
    assert command(driver, 1, 0, table)
    assert accepted() == {"own", "other", "group"}
    assert command(driver, 1, 1, OTHER) and driver.config(0, 6) == OTHER
    assert command(driver, 1, 0, bytes(8))
    assert accepted() == {"other"}


@pytest.mark.parametrize(
    ("kind", "number", "data"),
    ((9, 0, b""), (0, 9, b"\0"), (1, 0, b"\1\0\0\0"), (1, 0, b"\xff" * 8), (1, 1, b"12345"), (2, 0, b"")),
)
def test_wrong_commands_are_refused(memory, kind, number, data):
    driver, _, _ = card(memory)
    assert not command(driver, kind, number, data) and not driver.broken


def test_frames_beyond_the_buffers_and_the_backlog_are_lost(memory):
    driver, wire, _ = card(memory)
    driver.give(100, RECEIVE)
    wire.on_frame(frame(MAC, b"y" * 200))
    wire.on_frame(frame(MAC, b"z" * 50))
    assert driver.received(RECEIVE) == [HEADER + frame(MAC, b"z" * 50)]
    for _ in range(2000):
        wire.on_frame(frame(MAC))
    assert not driver.broken


def test_the_link_goes_down_and_up(memory):
    driver, wire, _ = card(memory, mtu=9000)
    wire.is_up = False
    wire.on_link()
    assert (
        driver.line.level
        and driver.config(6, 2) == b"\0\0"
        and driver.config(10, 2) == struct.pack("<H", 9000)
    )


def test_announcing(memory):
    driver, _, device = card(memory)
    assert driver.features & F_ANNOUNCE
    device.announce()
    assert driver.config(6, 2) == b"\3\0" and driver.read(mmio.INTERRUPT_STATUS) == 2
    driver.write(mmio.INTERRUPT_ACK, 2)
    assert command(driver, 3, 0, b"") and driver.config(6, 2) == b"\1\0"


def test_a_snapshot_keeps_the_filters(memory):
    driver, wire, device = card(memory)
    command(driver, 0, 0, b"\0")
    command(driver, 2, 0, struct.pack("<H", 7))
    command(driver, 1, 0, struct.pack("<I", 1) + OTHER + struct.pack("<I", 0))
    saved = driver.slot.save()
    driver.write(mmio.STATUS, 0)
    driver.slot.restore(mmio.VirtioMmioState.model_validate_json(saved.model_dump_json()))
    assert driver.slot.save() == saved
    driver.give(2000, RECEIVE)
    wire.on_frame(frame(GROUP))
    wire.on_frame(frame(OTHER))
    assert driver.received(RECEIVE) == [HEADER + frame(OTHER)]
    assert device.queues


# --- wires --------------------------------------------------------------------------------------------------


def turn(selector, count=20):
    for _ in range(count):
        for key, _ in selector.select(0.01):
            key.data()


def test_loopback(memory):
    driver = Driver(Network(Loopback(), MAC), memory)
    driver.give(2000, RECEIVE)
    driver.submit(bytes(HEADER_SIZE) + frame(MAC), queue=TRANSMIT)
    assert driver.received(RECEIVE) == [HEADER + frame(MAC)]


@pytest.fixture(params=("unix", "tcp"))
def pair(request, tmp_path):
    """A listening wire and one that is connected to it, with what each received."""
    selector = selectors.DefaultSelector()
    where = f"unix:{tmp_path}/wire" if request.param == "unix" else "tcp:127.0.0.1:0"
    left = StreamWire(Address.parse(where), listen=True)
    left.start(selector)
    place = left.description.removeprefix("listens at ")
    right = StreamWire(Address.parse(place), listen=False)
    right.start(selector)
    got = {left: [], right: []}
    for wire, frames in got.items():
        wire.on_frame = frames.append
    turn(selector)
    yield selector, left, right, got
    left.close()
    right.close()
    assert not selector.get_map()
    selector.close()
    assert not (tmp_path / "wire").exists()


def test_two_wires(pair):
    selector, left, right, got = pair
    assert left.is_up and right.is_up
    generator = random.Random(1)
    frames = [generator.randbytes(generator.randrange(14, 9000)) for _ in range(100)]
    for each in frames:
        left.send(each)
        right.send(each[::-1])
        turn(selector, 1)
    turn(selector)
    assert got[right] == frames and got[left] == [each[::-1] for each in frames]


def test_a_wire_waits_for_the_next_peer(pair):
    selector, left, right, _ = pair
    links = []
    left.on_link = lambda: links.append(left.is_up)
    right.close()
    turn(selector)
    left.send(b"x" * 60)
    assert links == [False]
    other = StreamWire(Address.parse(left.description.removeprefix("listens at ")), listen=False)
    other.start(selector)
    turn(selector)
    assert links == [False, True]
    other.close()


def test_a_peer_that_speaks_something_else_is_dropped(pair):
    selector, left, right, got = pair
    right.close()
    turn(selector)
    place = Address.parse(left.description.removeprefix("listens at "))
    with place.connect() as stranger:
        turn(selector)
        stranger.send(b"GET / HTTP/1.1\r\n\r\n")
        turn(selector)
        assert not left.is_up and got[left] == []
        stranger.setblocking(True)
        assert stranger.recv(10) == b""


def test_a_peer_that_does_not_read_costs_a_bounded_backlog(pair):
    selector, left, right, _ = pair
    right._peer.stream.close()
    for _ in range(3000):
        left.send(b"x" * 9000)
    assert len(left._peer.stream._backlog) < 2 << 20
    assert left.is_up and selector.get_map()


def test_addresses(tmp_path):
    assert Address.parse("tcp::80") == Address(host="127.0.0.1", port=80)
    assert Address.parse("localhost:80") == Address(host="localhost", port=80)
    assert Address.parse("tcp:[::1]:80") == Address(host="::1", port=80)
    for text in ("", "unix:", "tcp:80", "tcp:a:b", "tcp:a:70000", "unix:" + "x" * 108):
        with pytest.raises(ValueError):
            Address.parse(text)
    with pytest.raises(IsagenError, match="can't be connected to"):
        Address(path=str(tmp_path / "nobody")).connect()
    taken = socket.socket(socket.AF_UNIX)
    taken.bind(str(tmp_path / "s"))
    taken.listen()
    with pytest.raises(IsagenError, match="can't be listened on"):
        Address(path=str(tmp_path / "s")).listen()
    taken.close()
    Address(path=str(tmp_path / "s")).listen().close()  # nobody listens there any more
    (tmp_path / "file").write_text("precious")
    with pytest.raises(IsagenError, match="can't be listened on"):
        Address(path=str(tmp_path / "file")).listen()
    assert (tmp_path / "file").read_text() == "precious"
