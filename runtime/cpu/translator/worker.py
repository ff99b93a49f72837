"""The process that compiles regions, seen from the emulator. LLVM may die there, and takes only that process
along.

The worker is a fork of the emulator's process, so that LLVM is loaded already. It keeps no file of it open,
lets go of the guest's memory, and ends when the emulator does. Messages in both directions: u32 length, then
JSON (requests) or a number and an object file (answers; empty: not possible).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

_LENGTH: Final = struct.Struct("=I")
_HEAD: Final = struct.Struct("=IId")
MAXIMUM_WAITING: Final = 2
"""Requests that are in the worker's hands at a time."""

Compile = Callable[[str, str], bytes]
"""(description, name of the function) -> object file."""


class Answer(NamedTuple):
    """A compiled region; `code` is empty if it could not be compiled."""

    number: int
    code: bytes
    seconds: float
    """Processor time that it took."""


class WorkerLost(Exception):
    """The worker process died."""


class Worker:
    """A process that runs `compile`. Belongs to the process that made it: see `mine`."""

    def __init__(self, compile: Callable[[], Compile]) -> None:
        self._buffer = bytearray()
        self.owner = os.getpid()
        self.waiting = 0
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            _child(theirs.detach(), compile)
        theirs.close()
        ours.setblocking(False)
        self._socket = ours

    @property
    def mine(self) -> bool:
        """Whether this process made it; a fork of that process must not use it."""
        return os.getpid() == self.owner

    def send(self, number: int, description: str, name: str) -> None:
        """Ask for a region. Raises WorkerLost."""
        data = json.dumps([number, description, name]).encode()
        self._socket.setblocking(True)
        try:
            self._socket.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise WorkerLost(str(error)) from None
        finally:
            self._socket.setblocking(False)
        self.waiting += 1

    def answers(self, *, wait: bool = False) -> list[Answer]:
        """What has been compiled since the last call; `wait`: for one at least. Raises WorkerLost."""
        if wait:
            self._socket.setblocking(True)
        try:
            while True:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise WorkerLost(f"the worker process ended{self._end()}")
                self._buffer += data
                if wait and self._complete():
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            raise WorkerLost(str(error)) from None
        finally:
            self._socket.setblocking(False)
        found = []
        while self._complete():
            size, number, seconds = _HEAD.unpack_from(self._buffer)
            found.append(Answer(number, bytes(self._buffer[_HEAD.size : _HEAD.size + size]), seconds))
            del self._buffer[: _HEAD.size + size]
            self.waiting -= 1
        return found

    def pause(self, seconds: float) -> None:
        """Wait so long at most for something compiled."""
        with contextlib.suppress(OSError, ValueError):
            select.select([self._socket], [], [], seconds)

    def _complete(self) -> bool:
        return (
            len(self._buffer) >= _HEAD.size
            and len(self._buffer) >= _HEAD.size + _HEAD.unpack_from(self._buffer)[0]
        )

    def _end(self) -> str:
        with contextlib.suppress(OSError):
            _, status = os.waitpid(self.pid, 0)
            self.pid = 0
            if os.WIFSIGNALED(status):
                return f" by signal {os.WTERMSIG(status)}"
        return ""

    def close(self) -> None:
        """End the process; in a fork of its owner: only let go of it."""
        self._socket.close()
        if self.mine and self.pid:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        self.pid = 0


def _child(file: int, compile: Callable[[], Compile]) -> None:
    """The worker process: never returns."""
    status = 1
    try:
        if file != 3:
            os.dup2(file, 3)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        _serve(socket.socket(fileno=3), compile())
        status = 0
    finally:
        os._exit(status)


def _serve(connection: socket.socket, compile: Compile) -> None:
    while True:
        head = _exactly(connection, _LENGTH.size)
        data = _exactly(connection, _LENGTH.unpack(head)[0]) if head else b""
        if not data:
            return
        number, description, name = json.loads(data)
        start = time.process_time()
        try:
            code = compile(description, name)
        except Exception:  # the region stays in the interpreter, whatever is wrong with it
            code = b""
        connection.sendall(_HEAD.pack(len(code), number, time.process_time() - start) + code)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return b""
        data += piece
    return bytes(data)
