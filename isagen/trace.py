"""Prints instructions with the registers that they change, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from runtime.cpu.engine import Cpu, Range
from runtime.cpu.exits import Exit, Reason

if TYPE_CHECKING:
    from runtime.assembly.disassembler import Disassembler

LONGEST = 16
EVERYWHERE = (0, (1 << 64) - 1)


class Tracer:
    """Steps a CPU where it is to be traced. Its `run` stands in for `Cpu.run`.

    `ranges`: addresses of instructions to print (others run at full speed); `registers`: names of those of
    which one must change for the instruction to be printed (all instructions if empty); `label` names
    addresses.
    """

    def __init__(
        self,
        cpu: Cpu,
        disassembler: Disassembler | None,
        write: Callable[[str], object] | None = None,
        *,
        ranges: Iterable[Range] = (),
        registers: Iterable[str] = (),
        label: Callable[[int], str | None] | None = None,
        run: Callable[[int], Exit] | None = None,
    ) -> None:
        self.cpu = cpu
        self.disassembler = disassembler
        self.write = write or sys.stderr.write
        self.label = label
        self._run = run or cpu.run
        self._digits = cpu.package.pc_width // 4
        self._names = list(names_of(cpu))
        self._wanted = frozenset(registers)
        self._texts: dict[tuple[int, bytes], tuple[int, str]] = {}
        self._at_hook = False
        self.ranges: list[Range] = []
        self.restrict(ranges)

    def restrict(self, ranges: Iterable[Range]) -> None:
        """Trace only instructions in `ranges`, or all."""
        self.ranges = list(ranges)
        if self.ranges:
            self.cpu.set_hooks(self.ranges)

    def run(self, budget: int) -> Exit:
        """Execute at most `budget` instructions, those to be traced one by one."""
        cpu = self.cpu
        stop = Exit(Reason.BUDGET, cpu.pc)
        end = cpu.executed + budget
        while (left := end - cpu.executed) > 0:
            if self.ranges and not self._at_hook:
                stop = self._run(left)
                if stop.reason is not Reason.HOOK:
                    return stop
            self._at_hook = False
            if self.ranges:
                cpu.pass_hooks()
            stop = self._step()
            if stop.reason is Reason.HOOK:
                self._at_hook = True
            elif stop.reason is not Reason.BUDGET:
                return stop
        return Exit(Reason.BUDGET, cpu.pc)

    def _step(self) -> Exit:
        """Execute and print one instruction."""
        cpu = self.cpu
        pc = cpu.pc
        text = self._text(pc)
        before = bytes(cpu.state)
        executed = cpu.executed
        stop = self._run(1)
        if cpu.executed == executed and stop.reason in (Reason.MMIO, Reason.INTERRUPTED):
            return stop  # it will be repeated
        changes = self._changes(before)
        if not self._wanted or any(name in self._wanted for name, _ in changes):
            found = "  ".join(f"{name}={value}" for name, value in changes)
            self.write(f"{pc:0{self._digits}x}  {text:<50}{found}\n")
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
                line = self.disassembler.line(data, pc, symbolize=self.label)
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

    def _changes(self, before: bytes) -> list[tuple[str, str]]:
        """Registers that have another value than `before`, with the new one in hexadecimal."""
        after = bytes(self.cpu.state)
        if before == after:
            return []
        found = []
        for name, offset, size, width in self._names:
            if before[offset : offset + size] != after[offset : offset + size]:
                value = int.from_bytes(after[offset : offset + size], sys.byteorder)
                found.append((name, f"{value:0{-(-width // 4)}x}"))
        return found


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
