"""Where serial ports lead to: sockets, pseudo-terminals, files."""

from __future__ import annotations

import os
import selectors
import socket

import pytest

from runtime.devices.backends.serial import connector
from runtime.devices.character import PENDING, Character
from runtime.errors import IsagenError


@pytest.fixture
def loop():
    with selectors.DefaultSelector() as selector:

        def turn(count=10):
            for _ in range(count):
                for key, _ in selector.select(0.01):
                    key.data()

        turn.selector = selector
        yield turn
        assert not selector.get_map()


def started(text, loop):
    character, made = Character(), connector(text)
    made.start(character, loop.selector)
    return character, made


def test_nowhere_and_a_file(tmp_path, loop):
    character, made = started("none", loop)
    character.send(b"x")
    assert not character.connected
    made.close()
    (tmp_path / "log").write_text("old")
    character, made = started(f"file:{tmp_path / 'log'}", loop)
    character.send(b"new\xff")
    made.close()
    assert (tmp_path / "log").read_bytes() == b"new\xff"
    with pytest.raises(IsagenError, match="can't be written"):
        connector(f"file:{tmp_path}/no/where")


def test_a_pseudo_terminal(loop):
    character, made = started("pty", loop)
    other = os.open(made.path, os.O_RDWR | os.O_NOCTTY)
    character.send(b"login: ")
    assert os.read(other, 100) == b"login: "
    os.write(other, b"root\n")
    loop()
    assert character.take(100) == b"root\n"
    os.close(other)
    character.send(b"x" * (4 << 20))  # nobody reads
    made.close()


@pytest.mark.parametrize("kind", ("unix", "tcp"))
def test_a_socket_that_listens(tmp_path, loop, kind):
    place = f"unix:{tmp_path}/s" if kind == "unix" else "tcp:127.0.0.1:0"
    character, made = started(f"{place},server,nowait", loop)
    seen = []
    character.on_connection = lambda: seen.append(character.connected)
    character.send(b"before anybody came\n")
    where = made.description.removeprefix("listens at ")
    for number in range(2):
        if kind == "unix":
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(where.removeprefix("unix:"))
        else:
            peer = socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])))
        loop()
        assert seen == [True, False] * number + [True]
        if number == 0:
            assert peer.recv(100) == b"before anybody came\n"
        character.send(b"hello")
        assert peer.recv(100) == b"hello"
        peer.sendall(b"y" * (PENDING + 100))
        loop()
        assert character.room == 0
        got = character.take(PENDING)
        loop()
        assert got + character.take(PENDING) == b"y" * (PENDING + 100)  # nothing was lost
        peer.close()
        loop()
    assert seen == [True, False] * 2
    made.close()
    assert not (tmp_path / "s").exists()


def test_a_socket_that_connects(tmp_path, loop):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    character, made = started(f"unix:{tmp_path}/s", loop)
    peer, _ = listening.accept()
    character.send(b"abc")
    assert peer.recv(10) == b"abc"
    peer.close()
    loop()
    assert not character.connected
    character.send(b"into the void")
    made.close()
    listening.close()


def test_waiting_for_a_peer(tmp_path, loop):
    import threading

    made = connector(f"unix:{tmp_path}/s,server=on,wait=on")
    peer = socket.socket(socket.AF_UNIX)
    threading.Timer(0.1, lambda: peer.connect(f"{tmp_path}/s")).start()
    character = Character()
    made.start(character, loop.selector)
    assert character.connected
    made.close()
    peer.close()


@pytest.mark.parametrize(
    "text", ("", "stdio", "file:", "com1", "tcp:1", "unix:/x,fast", "unix:/x,wait", "unix:/x,server=maybe")
)
def test_texts_that_say_nothing(text):
    with pytest.raises(ValueError):
        connector(text)
