"""The host-target interface of RISC-V's bare-metal programs: the symbols ``tohost`` and ``fromhost``.

A program ends by writing ``(code << 1) | 1`` to ``tohost``. Other values ask for something: a device in bits
63:56, a command in bits 55:48. Device 0, command 0: the address of eight 64-bit words, a system call's
number and arguments, of which writing to standard output and error is known; device 1, command 1: a
character to print. The answer is written to ``fromhost``. (As riscv-tests and riscv-pk use it.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal, Protocol

from runtime.memory.space import AddressError

SYS_EXIT, SYS_WRITE = 93, 64
LARGEST_WRITE = 1 << 20
ENOSYS, EFAULT, EBADF = 38, 14, 9


class Memory(Protocol):
    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...


class Ended(Exception):
    """The program ended with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def to_console(number: int, data: bytes) -> None:
    """Write to standard output (1) or error (2)."""
    stream = sys.stdout if number == 1 else sys.stderr
    stream.buffer.write(data)
    stream.buffer.flush()


class HostInterface:
    """Acts on values written to ``tohost``. `order` is the guest's byte order; output goes to `console`."""

    def __init__(
        self, memory: Memory, order: str = "little", console: Callable[[int, bytes], None] = to_console
    ) -> None:
        self.memory = memory
        self._endian: Literal["little", "big"] = "little" if order == "little" else "big"
        self.console = console

    def command(self, value: int) -> int | None:
        """Do what a value written to ``tohost`` asks for. Returns what to write to ``fromhost`` (None:
        nothing).

        Raises `Ended`.
        """
        device, command, payload = value >> 56, value >> 48 & 0xFF, value & (1 << 48) - 1
        if device == 0 and command == 0:
            if value & 1:
                raise Ended(value >> 1)
            if payload:
                self._system_call(payload)
                return 1
        elif device == 1 and command == 1:
            self.console(1, bytes([payload & 0xFF]))
            return 1 << 56 | 1 << 48
        elif device == 1 and command == 0:
            return 1 << 56 | 0xFF  # no input: end of file
        return None

    def _system_call(self, address: int) -> None:
        try:
            data = self.memory.read(address, 64)
        except AddressError:  # nobody could read an answer
            return
        words = [int.from_bytes(data[i : i + 8], self._endian) for i in range(0, 64, 8)]
        number, a0, a1, a2 = words[:4]
        if number == SYS_EXIT:
            raise Ended(a0 & 0xFF)
        result = -ENOSYS
        if number == SYS_WRITE:
            result = self._write(a0, a1, a2)
        self.memory.write(address, (result & (1 << 64) - 1).to_bytes(8, self._endian))

    def _write(self, number: int, address: int, size: int) -> int:
        if number not in (1, 2):
            return -EBADF
        size = min(size, LARGEST_WRITE)
        try:
            data = self.memory.read(address, size) if size else b""
        except AddressError:
            return -EFAULT
        self.console(number, data)
        return size
