"""Prints each instruction with the registers that it changes, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.cpu.engine import Cpu
from runtime.cpu.exits import Exit, Reason

if TYPE_CHECKING:
    from runtime.assembly.disassembler import Disassembler

LONGEST = 16


class Tracer:
    """Steps a CPU. Its `run` stands in for `Cpu.run`."""

    def __init__(
        self, cpu: Cpu, disassembler: Disassembler | None, write: Callable[[str], object] | None = None
    ) -> None:
        self.cpu = cpu
        self.disassembler = disassembler
        self.write = write or sys.stderr.write
        self._run = cpu.run
        self._digits = cpu.package.pc_width // 4
        self._names = list(names_of(cpu))
        self._texts: dict[tuple[int, bytes], tuple[int, str]] = {}

    def run(self, budget: int) -> Exit:
        """Execute at most `budget` instructions, one by one."""
        cpu = self.cpu
        stop = Exit(Reason.BUDGET, cpu.pc)
        for _ in range(budget):
            pc = cpu.pc
            text = self._text(pc)
            before = bytes(cpu.state)
            executed = cpu.executed
            stop = self._run(1)
            if cpu.executed == executed and stop.reason in (Reason.MMIO, Reason.INTERRUPTED):
                return stop  # it will be repeated
            self.write(f"{pc:0{self._digits}x}  {text:<50}{self._changes(before)}\n")
            if stop.reason is not Reason.BUDGET:
                return stop
        return stop

    def _text(self, pc: int) -> str:
        """Bytes and disassembly of the instruction at `pc`."""
        data = self._bytes(pc)
        if not data:
            return "?"
        known = self._texts.get((pc, data))
        if known is None:
            if self.disassembler is None:
                known = (4, "")
            else:
                line = self.disassembler.line(data, pc)
                known = (line.length, line.text)
            self._texts[pc, data] = known
        length, text = known
        return f"{data[:length].hex():<10}  {text}"

    def _bytes(self, pc: int) -> bytes:
        """Up to `LONGEST` bytes at `pc`, as far as memory goes on. (Virtual addresses are taken for
        physical ones.)
        """
        from runtime.memory.space import AddressError

        for size in (LONGEST, 4, 2, 1):
            try:
                return self.cpu.memory.read(pc, size)
            except AddressError:
                continue
        return b""

    def _changes(self, before: bytes) -> str:
        after = bytes(self.cpu.state)
        if before == after:
            return ""
        found = []
        for name, offset, size, width in self._names:
            if before[offset : offset + size] != after[offset : offset + size]:
                value = int.from_bytes(after[offset : offset + size], sys.byteorder)
                found.append(f"{name}={value:0{-(-width // 4)}x}")
        return "  ".join(found)


def names_of(cpu: Cpu) -> list[tuple[str, int, int, int]]:
    """The visible registers: name, offset and bytes in the state, width in bits."""
    found = []
    for register in cpu.package.registers.values():
        if register.hidden:
            continue
        size = 16 if register.stored_width > 64 else 8
        for index in range(register.count or 1):
            if register.count is None:
                name = register.name
            elif index < len(register.names):
                name = register.names[index]
            else:
                name = f"{register.name}{index}"
            if index != register.zero:
                offset = register.offset + index * register.stride
                found.append((name, offset, size, register.stored_width))
    return found
