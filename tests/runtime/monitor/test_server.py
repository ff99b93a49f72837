"""The remote protocol against a made-up debuggee: answers, bounds, garbage from the network."""

from __future__ import annotations

import random
import socket
import threading
from typing import Literal

import pytest

from runtime.errors import IsagenError
from runtime.monitor.gdb import GdbServer, StopEvent
from runtime.monitor.gdb.debuggee import RegisterSlot, WatchKind
from runtime.monitor.gdb.packets import LIMIT, escape, unescape
from runtime.monitor.gdb.server import Resume


class Box:
    """64 KiB at 0x1000, two registers."""

    slots: tuple[RegisterSlot, ...] = (
        RegisterSlot("a", 8, "a"),
        RegisterSlot("gone", 4, None),
        RegisterSlot("pc", 8, "pc"),
    )
    description = b"<target>}#$*</target>" * 2000
    byte_order: Literal["little", "big"] = "little"

    def __init__(self) -> None:
        self.memory = bytearray(0x10000)
        self.registers = {"a": 0x1122334455667788, "pc": 0x1000}
        self.points: frozenset[int] = frozenset()
        self.watches: frozenset[tuple[WatchKind, int, int]] = frozenset()
        self.killed = False

    def threads(self) -> tuple[int, ...]:
        return 1, 2

    def thread_name(self, thread: int) -> str:
        return f"thread {thread}"

    def read_register(self, thread: int, name: str) -> int | None:
        return self.registers[name] + (thread == 2)

    def write_register(self, thread: int, name: str, value: int) -> bool:
        self.registers[name] = value
        return True

    def read_memory(self, thread: int, address: int, size: int) -> bytes:
        return bytes(self.memory[address - 0x1000 :][:size]) if address >= 0x1000 else b""

    def write_memory(self, thread: int, address: int, data: bytes) -> bool:
        if not 0x1000 <= address <= 0x11000 - len(data):
            return False
        self.memory[address - 0x1000 : address - 0x1000 + len(data)] = data
        return True

    def set_breakpoints(self, addresses: frozenset[int]) -> None:
        self.points = addresses

    def set_watchpoints(self, watches: frozenset[tuple[WatchKind, int, int]]) -> None:
        self.watches = watches

    def kill(self) -> None:
        self.killed = True

    def object(self, kind: str) -> bytes | None:
        return b"x" * 50 if kind == "auxv" else None

    def command(self, text: str) -> str | None:
        return "did " + text if text.startswith("do") else None


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def server(box: Box) -> GdbServer:
    return GdbServer(box, 0)


def ask(server: GdbServer, packet: str) -> str:
    answer = server.handle(packet.encode())
    assert isinstance(answer, bytes)
    return answer.decode("latin-1")


def test_registers(server: GdbServer, box: Box) -> None:
    assert ask(server, "g") == "8877665544332211" + "xx" * 4 + "0010000000000000"
    assert ask(server, "p0") == "8877665544332211"
    assert ask(server, "p1") == "xxxxxxxx"
    assert ask(server, "p3") == "E16"
    assert ask(server, "P0=0100000000000000") == "OK"
    assert box.registers["a"] == 1
    assert ask(server, "P0=01") == "E16"
    for wrong in ("P-1=0100000000000000", "P+0=0100000000000000", "P0_0=0100000000000000", "p-1", "p"):
        assert ask(server, wrong) == "E16"
    assert ask(server, "G" + "02" + "00" * 7 + "xx" * 4 + "0020000000000000") == "OK"
    assert box.registers == {"a": 2, "pc": 0x2000}
    assert ask(server, "Hg2") == "OK"
    assert ask(server, "p0").startswith("03")
    assert ask(server, "Hg7") == "E16"


def test_memory(server: GdbServer, box: Box) -> None:
    assert ask(server, "M1000,3:616263") == "OK"
    assert ask(server, "m1000,4") == "61626300"
    assert ask(server, "X1000,3:}]#") == "E16"
    assert server.handle(b"X1000,2:}\x03x") == b"OK"
    assert box.memory[:2] == b"#x"
    assert ask(server, "m0,4") == "E0e"
    assert ask(server, "M0,1:00") == "E0e"
    assert len(ask(server, "m1000,ffffffff")) <= LIMIT
    assert ask(server, "m1000,ffffffffffffffffff") == "E16"


def test_points(server: GdbServer, box: Box) -> None:
    assert ask(server, "Z0,1000,4") == "OK"
    assert ask(server, "Z1,2000,2") == "OK"
    assert box.points == {0x1000, 0x2000}
    assert ask(server, "z0,1000,4") == "OK"
    assert ask(server, "Z2,3000,8") == ask(server, "Z4,3000,1") == "OK"
    assert box.watches == {("write", 0x3000, 8), ("access", 0x3000, 1)}
    assert ask(server, "Z2,3000,0") == "E16"
    assert ask(server, "Z2,3000,ffffffff") == "E16"
    assert ask(server, "Z9,3000,1") == ""
    answers = {ask(server, f"Z0,{n:x},1") for n in range(5000)}
    assert answers == {"OK", "E16"}
    assert len(box.points) <= 1024


def test_questions(server: GdbServer) -> None:
    assert "qXfer:auxv:read+" in ask(server, "qSupported:swbreak+;xmlRegisters=i386")
    assert "exec-file" not in ask(server, "qSupported")
    assert ask(server, "qfThreadInfo") == "m1,2"
    assert ask(server, "qsThreadInfo") == "l"
    assert ask(server, "T2") == "OK"
    assert ask(server, "T9") == "E16"
    assert bytes.fromhex(ask(server, "qRcmd," + b"do it".hex())) == b"did do it"
    assert ask(server, "qRcmd," + b"other".hex()) == ""
    assert ask(server, "qUnknown") == ask(server, "_") == ask(server, "") == ""
    found, offset = b"", 0
    while True:
        answer = server.handle(b"qXfer:features:read:target.xml:%x,ffff" % offset)
        assert isinstance(answer, bytes)
        assert len(answer) < LIMIT
        part = unescape(answer[1:])
        found += part
        offset += len(part)
        if answer[:1] == b"l":
            break
    assert found == Box.description


def test_going_on(server: GdbServer, box: Box) -> None:
    assert server.handle(b"c") == Resume("continue")
    assert server.handle(b"s2000") == Resume("step")
    assert box.registers["pc"] == 0x2000
    assert server.handle(b"C0b;1000") == Resume("continue", 11)
    assert server.handle(b"vCont;s:2;c") == Resume("step", 0, 2)
    assert server.handle(b"vCont;C0b:p1.1") == Resume("continue", 11, 1, None, frozenset({1}))
    assert server.handle(b"vCont;r1000,1010:1") == Resume("step", 0, 1, (0x1000, 0x1010), frozenset({1}))
    assert ask(server, "vCont;z") == "E16"
    assert ask(server, "vCont?").startswith("vCont;c")
    server.handle(b"Z0,1000,4")
    assert server.handle(b"D") == Resume("detach")
    assert not box.points


def test_escapes() -> None:
    data = bytes(range(256)) * 3
    assert unescape(escape(data)) == data
    assert not set(b"$#*") & set(escape(data))


def talk(server: GdbServer, data: bytes, shut: bool = True) -> bytes:
    """Send bytes to a server that stands still, and what it sends back until it is done."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(10)

        def send() -> None:
            client.sendall(data)
            if shut:
                client.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        server.accept()
        resume = server.stopped(StopEvent(), report=False)
        assert resume.how in ("continue", "step", "detach")
        server._disconnect()
        thread.join()
        while part := client.recv(1 << 16):
            received += part
    return received


def framed(data: bytes) -> bytes:
    return b"$" + data + b"#%02x" % (sum(data) & 255)


def test_a_conversation(server: GdbServer) -> None:
    reply = talk(
        server, b"+" + framed(b"?") + b"garbage" + framed(b"QStartNoAckMode") + framed(b"p0") + framed(b"c")
    )
    assert reply.startswith(
        b"+" + framed(b"T05thread:1;") + b"+" + framed(b"OK") + framed(b"8877665544332211")
    )


def test_wrong_checksums_are_asked_for_again(server: GdbServer) -> None:
    assert talk(server, b"$p0#00" + framed(b"p0")).startswith(b"-+" + framed(b"8877665544332211"))


def test_garbage_from_the_network(server: GdbServer, box: Box) -> None:
    """No exception, no endless answer, and the server still works."""
    choose = random.Random(1)
    letters = b"?gGpPmMXcsCSZzHTDkq!Qv"
    pieces = (
        b"0",
        b"ffffffffffffffff",
        b",",
        b":",
        b";",
        b"=",
        b"-1",
        b"p1.",
        b"Supported",
        b"Xfer",
        b"Cont;",
        b"\xff",
        b"}",
    )
    for _ in range(4000):
        packet = bytes([choose.choice(letters)]) + b"".join(
            choose.choice((*pieces, choose.randbytes(3))) for _ in range(choose.randrange(6))
        )
        if packet[:1] in b"kv":
            continue
        answer = server.handle(packet)
        assert isinstance(answer, Resume) or len(answer) <= LIMIT
    for _ in range(30):
        data = choose.randbytes(choose.randrange(3000)) + b"$" + b"a" * choose.choice((0, 100, 3 * LIMIT))
        received = talk(server, data)
        assert len(received) < 1 << 20
    assert talk(server, framed(b"p0")).startswith(b"+$")


def test_a_port_that_is_taken(server: GdbServer, box: Box) -> None:
    with pytest.raises(IsagenError, match="can't listen: address already in use"):
        GdbServer(box, server.port)
