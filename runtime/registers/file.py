"""`RegisterFile`: the registers of a CPU by name, as whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from runtime.accel.contract import Vcpu
from runtime.registers.composed import LAZY_FLAGS, PROGRAM_COUNTERS, Composed, composed_registers

_Access = tuple[Callable[[], int], Callable[[int], None], int]


class RegisterFile:
    """Reads and writes registers of `cpu` by any of their names. Values are unsigned; what is written is cut
    to the register's width.

    Names are the spec's (``x5``, ``a0``, ``xmm0``, ``mepc``), those of parts (``eax``, ``w3``), of composed
    registers (``rflags``, ``cpsr``, ``cr``) and ``pc``.
    """

    def __init__(self, cpu: Vcpu) -> None:
        self.cpu = cpu
        package = cpu.package
        self._known: dict[str, _Access] = {}
        self._composed = composed_registers(package.family, package.name, package.pc_width)
        self._lazy = {
            name for name, register in package.registers.items() if register.lazy and name in LAZY_FLAGS
        }
        self._counters = frozenset(("pc", *PROGRAM_COUNTERS.get(package.family, ())))

    def _access(self, name: str) -> _Access:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._find(name)
        return known

    def _find(self, name: str) -> _Access:
        cpu = self.cpu
        if name in self._counters:
            return (lambda: cpu.pc), lambda value: setattr(cpu, "pc", value), cpu.package.pc_width
        if name == "npc" and cpu.package.delayed:
            return (lambda: cpu.next_pc), lambda value: setattr(cpu, "next_pc", value), cpu.package.pc_width
        if name in self._composed:
            composed = self._composed[name]
            return (
                lambda: self._gather(composed),
                lambda value: self._scatter(composed, value),
                composed.width,
            )
        if name in self._lazy:
            read, zero, one = LAZY_FLAGS[name]
            return (
                lambda: read(cpu.get(name)),
                lambda value: cpu.set(name, one if value & 1 else zero),
                1,
            )
        width, place = cpu.width(name), cpu.place(name)
        if place is not None:  # the usual case, kept short
            words, index = cpu.state.cast("Q"), place // 8
            return (lambda: words[index]), lambda value: cpu.set(name, value), width
        return (lambda: cpu.get(name)), lambda value: cpu.set(name, value), width

    def _gather(self, composed: Composed) -> int:
        value = composed.fixed
        for piece in composed.pieces:
            value |= (self.read(piece.source) >> piece.low & (1 << piece.width) - 1) << piece.at
        return value

    def _scatter(self, composed: Composed, value: int) -> None:
        for piece in composed.pieces:
            mask = (1 << piece.width) - 1
            bits = value >> piece.at & mask
            old = self.read(piece.source)
            self.write(piece.source, old & ~(mask << piece.low) | bits << piece.low)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (
            name in self._counters
            or name in self._composed
            or (name == "npc" and self.cpu.package.delayed)
            or self.cpu.has(name)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The visible registers, each by its usual name, and ``pc``."""
        found = []
        for register in self.cpu.package.registers.values():
            if register.hidden:
                continue
            if register.count is None:
                found.append(register.name)
                continue
            for index in range(register.count):
                usual = register.names[index] if index < len(register.names) else f"{register.name}{index}"
                found.append(usual)
        return (*(name for name in found if name not in self._counters), "pc")

    def read(self, name: str) -> int:
        """A register's value, unsigned. Raises IsagenError for unknown names."""
        return self._access(name)[0]()

    def write(self, name: str, value: int) -> None:
        """Change a register. Raises IsagenError for unknown names."""
        self._access(name)[1](value)

    def width(self, name: str) -> int:
        """Bits of a register. Raises IsagenError for unknown names."""
        return self._access(name)[2]

    def as_dict(self) -> dict[str, int]:
        """All visible registers."""
        return {name: self.read(name) for name in self.names}
