"""QMP's protocol against a made-up machine: splitting, spelling, negotiation, errors, schema, garbage."""

from __future__ import annotations

import json
import random
import selectors
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from runtime.errors import IsagenError
from runtime.monitor.address import Address, parse
from runtime.monitor.qmp.messages import DEPTH, LIMIT, BadMessage, Splitter, decode
from runtime.monitor.qmp.registry import Arguments, QmpError, Registry, Value
from runtime.monitor.qmp.schema import Describer
from runtime.monitor.qmp.server import QmpServer


class Box(Arguments):
    the_size: int
    colour: Literal["red", "blue"] = "red"
    open: bool = False


class Found(Value):
    the_name: str
    more: list[int] = [1]  # noqa: RUF012 - a model's default
    gone: str | None = None


def refuse(_: object) -> None:
    raise IsagenError("not today", where="here")


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add("qmp_capabilities", lambda _: None)
    made.add("nothing", lambda _: None)
    made.add("refuse", refuse)
    made.add("make", lambda box: Found(the_name=f"{box.colour}{box.the_size}"), Box, Found)
    made.events["BANG"] = Box
    return made


class Talk:
    """A client, and the loop that serves it."""

    def __init__(self, registry: Registry, path: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.server = QmpServer(Address(path=str(path)), registry, self.selector, (1, 2, 3, "test"))
        self.peer = Address(path=str(path)).connect(5)
        self.data = b""

    def serve(self) -> None:
        while ready := self.selector.select(0.002):
            for key, _ in ready:
                key.data()

    def say(self, data: bytes | dict[str, Any]) -> list[dict[str, Any]]:
        """Send, and what comes back."""
        self.peer.sendall(data if isinstance(data, bytes) else json.dumps(data).encode())
        return self.hear()

    def hear(self) -> list[dict[str, Any]]:
        self.serve()
        self.peer.setblocking(False)
        try:
            while more := self.peer.recv(1 << 20):
                self.data += more
                self.serve()
        except BlockingIOError:
            pass
        finally:
            self.peer.settimeout(5)
        *lines, self.data = self.data.split(b"\r\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.peer.close()
        self.server.close()
        self.selector.close()


@pytest.fixture
def talk(registry: Registry, tmp_path: Path) -> Iterator[Talk]:
    made = Talk(registry, tmp_path / "qmp")
    yield made
    made.close()


def test_a_conversation(talk: Talk) -> None:
    (greeting,) = talk.hear()
    assert greeting["QMP"]["version"] == {"qemu": {"major": 1, "minor": 2, "micro": 3}, "package": "test"}
    assert greeting["QMP"]["capabilities"] == []
    (early,) = talk.say({"execute": "nothing", "id": [1, {"a": None}]})
    assert early["error"]["class"] == "CommandNotFound" and early["id"] == [1, {"a": None}]
    assert talk.say({"execute": "qmp_capabilities"}) == [{"return": {}}]
    assert talk.say({"execute": "qmp_capabilities"})[0]["error"]["class"] == "CommandNotFound"
    assert talk.say({"execute": "nothing", "id": "x"}) == [{"return": {}, "id": "x"}]
    (made,) = talk.say({"execute": "make", "arguments": {"the-size": 5}})
    assert made == {"return": {"the-name": "red5", "more": [1]}}
    assert talk.say({"execute": "refuse"})[0]["error"] == {"class": "GenericError", "desc": "here: not today"}
    assert talk.say({"execute": "none"})[0]["error"]["class"] == "CommandNotFound"
    talk.server.event("BANG", {"the-size": 1})
    (event,) = talk.hear()
    assert event["event"] == "BANG" and event["data"] == {"the-size": 1}
    assert set(event["timestamp"]) == {"seconds", "microseconds"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "'the-size' is missing"),
        ({"the-size": "5"}, "'the-size'"),
        ({"the-size": True}, "'the-size'"),
        ({"the-size": 1, "other": 2}, "'other' isn't expected"),
        ({"the-size": 1, "colour": "green"}, "'colour'"),
    ],
)
def test_arguments_are_checked(registry: Registry, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(QmpError, match=complaint):
        registry.execute("make", arguments)


@pytest.mark.parametrize(
    "request_",
    [
        b"[1]", b"5", b'"x"', b"{}", b'{"execute": 1}', b'{"execute": "nothing", "arguments": []}',
        b'{"execute": "nothing", "more": 1}', b'{"exec-oob": "nothing"}', b'{"execute": "nothing",}',
        b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": "\xc3\x28"}', b'{"a": "\x01"}', b"}",
        b"{" * (DEPTH + 5) + b"}" * (DEPTH + 5), b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_bad_requests_are_answered(talk: Talk, request_: bytes) -> None:
    talk.say({"execute": "qmp_capabilities"})
    answers = talk.say(request_ + b"\n")
    assert answers and all(answer["error"]["class"] == "GenericError" for answer in answers)
    assert talk.say(b'\xff{"execute": "nothing"}') == [{"return": {}}]


def test_the_stream_may_be_cut_anywhere() -> None:
    text = b"""{'execute': 'a"b\\'c'} {"x": ["}", "\\"{", {"y": "it's"}]}\n\n{"z":\n1}"""
    wanted = [{"execute": "a\"b'c"}, {"x": ["}", '"{', {"y": "it's"}]}, {"z": 1}]
    generator = random.Random(1)
    for _ in range(200):
        splitter, found, at = Splitter(), [], 0
        while at < len(text):
            size = generator.choice((1, 2, 3, 50))
            found += splitter.feed(text[at : at + size])
            at += size
        assert [decode(message) for message in found if isinstance(message, bytes)] == wanted
        assert len(found) == 3


def test_a_huge_message_is_refused_once_and_takes_no_memory() -> None:
    splitter = Splitter()
    found = splitter.feed(b'{"a": "')
    for _ in range(3 * LIMIT // 65536):
        found += splitter.feed(b"x" * 65536)
    assert [type(item) for item in found] == [BadMessage]
    assert len(splitter._data) <= LIMIT
    assert splitter.feed(b'"}') == []
    assert splitter.feed(b"{}") == [b"{}"]


def test_garbage_never_ends_the_server(talk: Talk) -> None:
    generator = random.Random(7)
    pieces = [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"'",
        b"\\",
        b":",
        b",",
        b"\xff",
        b"execute",
        b"nothing",
        b" ",
        b"\n",
    ]
    talk.say({"execute": "qmp_capabilities"})
    for _ in range(300):
        noise = b"".join(generator.choice(pieces) for _ in range(generator.randrange(60)))
        talk.say(noise + generator.randbytes(generator.randrange(20)))
    assert talk.say(b'\xff{"execute": "nothing"}')[-1] == {"return": {}}


def test_who_does_not_read_is_not_waited_for(talk: Talk) -> None:
    talk.say({"execute": "qmp_capabilities"})
    for _ in range(100_000):
        talk.server.event("BANG", {"text": "x" * 80})
    assert talk.server.event("BANG", {}) is None
    talk.peer.close()
    talk.serve()
    other = Address(path=talk.server.listener._address.path).connect(5)
    talk.serve()
    assert b"QMP" in other.recv(1000)
    other.close()


def test_the_schema_describes_itself(registry: Registry) -> None:
    schema = {entity["name"]: entity for entity in Describer().schema(registry)}
    assert schema["make"] == {
        "name": "make", "meta-type": "command", "arg-type": "Box", "ret-type": "Found",
    }  # fmt: skip
    members = {member["name"]: member for member in schema["Box"]["members"]}
    assert members["the-size"] == {"name": "the-size", "type": "int"}
    assert members["colour"] == {"name": "colour", "type": "red|blue", "default": None}
    assert schema["red|blue"]["values"] == ["red", "blue"]
    assert schema["[int]"] == {"name": "[int]", "meta-type": "array", "element-type": "int"}
    assert schema["BANG"]["meta-type"] == "event"
    for entity in schema.values():
        for key in ("arg-type", "ret-type", "element-type"):
            assert key not in entity or entity[key] in schema
        for member in entity.get("members", []):
            assert member.get("type", "str") in schema or entity["meta-type"] == "enum"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("unix:/a/b,server,nowait", Address(path="/a/b")),
        ("unix:q,server=on,wait=on", Address(path="q", wait=True)),
        ("/a/b", Address(path="/a/b")),
        ("name", Address(path="name")),
        ("tcp:localhost:12", Address(host="localhost", port=12)),
        ("tcp::12,server", Address(port=12)),
        ("tcp:[::1]:12", Address(host="::1", port=12)),
        ("4444", Address(port=4444)),
        ("localhost:1", Address(host="localhost", port=1)),
    ],
)
def test_addresses(text: str, wanted: Address) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "unix:", "tcp:x", "tcp:h:99999", "tcp:h:1,what", "unix:" + "a" * 200, "h:x"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(IsagenError):
        parse(text)


def test_a_dead_servers_socket_is_replaced_and_a_living_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    listener = Address(path=str(path)).listen()
    with pytest.raises(IsagenError, match="in use"):
        Address(path=str(path)).listen()
    listener.close()
    path.unlink()
    path.write_text("a file")
    with pytest.raises(IsagenError):
        Address(path=str(path)).listen()
    assert path.read_text() == "a file"
