"""Makes a failing start state smaller, by hypothesis, so that what matters for the failure stands out."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from conformance.cases import Start

MAXIMUM_EXAMPLES: Final = 400
"""Start states that are tried to find one to shrink."""

CHOICES: Final = 64
"""Values of a register that are drawn from: a few simpler ones, else the one it has."""

Fails = Callable[[Start, bytes], bool]


def shrink(start: Start, base: Start, pattern: bytes, fails: Fails) -> tuple[Start, bytes]:
    """A start state, and memory, that still fail while as many registers as possible are as in `base`, and
    memory is zeros if it may be. The arguments themselves where hypothesis isn't installed, and for a failure
    that doesn't repeat.
    """
    try:
        from hypothesis import HealthCheck, Phase, Verbosity, find, settings
        from hypothesis import strategies as st
        from hypothesis.errors import Flaky, NoSuchExample
    except ImportError:
        return start, pattern
    places = _places(start, base)
    zeros = bytes(len(pattern))

    def made(numbers: list[int]) -> tuple[Start, bytes]:
        """Number 0 stands for the simplest value of each register, and of memory."""
        memory, *choices = numbers
        state = start
        for (name, index, value, usual), number in zip(places, choices, strict=True):
            simpler = _simpler(value, usual)
            if number < len(simpler):
                state = state.with_register(name, index, simpler[number])
        return state, zeros if memory == 0 else pattern

    count = len(places) + 1
    numbers = st.lists(st.integers(0, CHOICES - 1), min_size=count, max_size=count)
    try:
        found = find(
            numbers,
            lambda drawn: fails(*made(drawn)),
            settings=settings(
                max_examples=MAXIMUM_EXAMPLES,
                database=None,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
                verbosity=Verbosity.quiet,
            ),
            random=Random(0),
        )
    except (NoSuchExample, Flaky):
        return start, pattern
    return made(found)


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
