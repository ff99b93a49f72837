"""Makes a failing start state smaller, so that what matters for the failure stands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from conformance.cases import Start

MAXIMUM_TRIALS: Final = 600

Fails = Callable[[Start, bytes], bool]


def shrink(start: Start, base: Start, pattern: bytes, fails: Fails) -> tuple[Start, bytes]:
    """A start state, and memory, that still fail while as many registers as possible are as in `base`.

    Registers that have to differ are tried with smaller numbers. Ends after `MAXIMUM_TRIALS` trials at most.
    """
    trials = 0

    def holds(candidate: Start, memory: bytes) -> bool:
        nonlocal trials
        trials += 1
        return trials <= MAXIMUM_TRIALS and fails(candidate, memory)

    zeros = bytes(len(pattern))
    if holds(start, zeros):
        pattern = zeros
    for name, values in start.files.items():
        candidate = Start(
            start.code,
            start.pc,
            start.registers,
            {**start.files, name: base.files[name]},
            start.contexts,
            start.wild,
        )
        if values != base.files[name] and holds(candidate, pattern):
            start = candidate
    changed = True
    while changed and trials <= MAXIMUM_TRIALS:
        changed = False
        for name, index, value, usual in _places(start, base):
            for simpler in _simpler(value, usual):
                candidate = start.with_register(name, index, simpler)
                if holds(candidate, pattern):
                    start, changed = candidate, True
                    break
    return start, pattern


def _places(start: Start, base: Start) -> list[tuple[str, int | None, int, int]]:
    """Registers that are not as in `base`: name, index, value, usual value."""
    found: list[tuple[str, int | None, int, int]] = []
    for name, value in start.registers.items():
        if value != base.registers.get(name, 0):
            found.append((name, None, value, base.registers.get(name, 0)))
    for name, values in start.files.items():
        for index, (value, usual) in enumerate(zip(values, base.files[name], strict=True)):
            if value != usual:
                found.append((name, index, value, usual))
    return found


def _simpler(value: int, usual: int) -> list[int]:
    """Values to try in place of `value`, the simplest first."""
    candidates = [usual, 1, value & value - 1, value >> 8, value & 0xFFFF_FFFF]
    return [c for c in dict.fromkeys(candidates) if c != value and (c == usual or c < value)]


def described(start: Start, base: Start) -> str:
    """The registers that are not as usual, as text."""
    parts = [
        f"{name if index is None else f'{name}[{index}]'}={value:#x}"
        for name, index, value, _ in _places(start, base)
    ]
    npc = start.contexts.get("npc")
    if npc is not None:
        parts.append(f"npc={npc:#x}")
    return f"at {start.pc:#x}: " + (" ".join(parts) or "all registers as after reset")
