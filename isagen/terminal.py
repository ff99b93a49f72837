"""The user's terminal as a machine's console: raw while the machine runs, restored however it ends.

Ctrl-A begins a command, as in QEMU: x ends the machine, c leads to its monitor and back, h explains, Ctrl-A
sends itself.
"""

from __future__ import annotations

import os
import selectors
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from runtime.devices.character import Character
from runtime.monitor.lines import Execute, LineSession

ESCAPE: Final = 0x01
HELP: Final = (
    b"\r\nCtrl-A x  end the machine\r\nCtrl-A c  to the monitor, and back\r\nCtrl-A h  this help\r\n"
    b"Ctrl-A Ctrl-A  send Ctrl-A\r\n"
)
MONITOR: Final = b"\r\nthe monitor of isagen - 'help' lists the commands, Ctrl-A c leads back\r\n"


class Editor:
    """Echoes what is typed on a raw terminal, takes back what is erased, and passes lines on."""

    def __init__(self, session: LineSession, write: Callable[[bytes], None]) -> None:
        self.session = session
        self._write = write
        self._line = bytearray()

    def type(self, byte: int) -> None:
        """A key was pressed."""
        if byte in b"\r\n":
            self._write(b"\r\n")
            line = bytes(self._line)
            self._line.clear()
            self.session.feed(line + b"\n")
        elif byte in b"\x7f\x08":
            if self._line:
                del self._line[-1:]
                self._write(b"\b \b")
        elif byte == 0x15:  # Ctrl-U
            self._write(b"\b \b" * len(self._line))
            self._line.clear()
        elif byte >= 0x20:
            self._line.append(byte)
            self._write(bytes([byte]))


class Terminal:
    """Standard input and output, as a context manager. `end` is called for Ctrl-A x; `monitor` makes what
    executes the lines that are typed behind Ctrl-A c.
    """

    def __init__(
        self, serial: Character, end: Callable[[], None], monitor: Callable[[], Execute] | None = None
    ) -> None:
        self._serial = serial
        self._end = end
        self._make_monitor = monitor
        self._monitor: Editor | None = None
        self._in_monitor = False
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

    def serve(self, selector: selectors.BaseSelector) -> None:
        """Have what is typed served by this loop from now on; what doesn't come from a terminal as far as the
        guest has room for it. A plain file's bytes are there at once.
        """

        def ready() -> None:
            if self._saved is None and not self._serial.room:
                selector.unregister(self.input)
                self._serial.on_room = wait
            elif not self._take():
                selector.unregister(self.input)

        def wait() -> None:
            self._serial.on_room = lambda: None
            try:
                selector.register(self.input, selectors.EVENT_READ, ready)
            except PermissionError:  # a plain file
                more = True
                while self._serial.room and more:
                    more = self._take()
                if more:
                    self._serial.on_room = wait

        wait()

    def _take(self) -> bool:
        """Take what was typed. False: there is no more."""
        data = os.read(self.input, 4096 if self._saved is not None else min(4096, self._serial.room))
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
            elif self._in_monitor and self._monitor is not None:
                self._monitor.type(byte)
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
        elif byte in b"cC" and self._make_monitor is not None:
            self._in_monitor = not self._in_monitor
            if self._monitor is None:
                self._monitor = Editor(LineSession(self._make_monitor(), self._write), self._write)
            if self._in_monitor:
                self._write(MONITOR)
                self._monitor.session.prompt()
            else:
                self._write(b"\r\n")
        elif byte in b"hH?":
            self._write(HELP)
