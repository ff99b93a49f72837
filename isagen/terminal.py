"""The user's terminal as a machine's console: raw while the machine runs, restored however it ends.

Ctrl-A begins a command, as in QEMU: x ends the machine, h explains, Ctrl-A sends itself.
"""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from runtime.devices.character import Character

ESCAPE: Final = 0x01
HELP: Final = b"\r\nCtrl-A x  end the machine\r\nCtrl-A h  this help\r\nCtrl-A Ctrl-A  send Ctrl-A\r\n"


class Terminal:
    """Standard input and output, as a context manager. `end` is called for Ctrl-A x."""

    def __init__(self, serial: Character, end: Callable[[], None]) -> None:
        self._serial = serial
        self._end = end
        self._escaped = False
        self._saved: list[Any] | None = None
        self.input = sys.stdin.fileno()
        self.output = sys.stdout.fileno()

    def __enter__(self) -> Terminal:
        sys.stdout.flush()
        self._serial.output = self._write
        if os.isatty(self.input):
            self._saved = termios.tcgetattr(self.input)
            tty.setraw(self.input)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._saved is not None:
            termios.tcsetattr(self.input, termios.TCSADRAIN, self._saved)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.output, view) :]

    def ready(self) -> bool:
        """Take what was typed. False: there is no more."""
        if not self._serial.room:
            return True
        data = os.read(self.input, min(4096, self._serial.room))
        if not data:
            return False
        if self._saved is None:
            self._serial.feed(data)
            return True
        sent = bytearray()
        for byte in data:
            if self._escaped:
                self._escaped = False
                self._command(byte, sent)
            elif byte == ESCAPE:
                self._escaped = True
            else:
                sent.append(byte)
        if sent:
            self._serial.feed(bytes(sent))
        return True

    def _command(self, byte: int, sent: bytearray) -> None:
        if byte in b"xX":
            self._end()
        elif byte == ESCAPE:
            sent.append(byte)
        elif byte in b"hH?":
            self._write(HELP)
