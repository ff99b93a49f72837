"""Shrinking finds what matters of a start state."""

from __future__ import annotations

from random import Random

from conformance.cases import Start
from conformance.shrink import described, shrink

BASE = Start(b"", 0x100, {"a": 0, "b": 7}, {"x": [0] * 32})


def start() -> Start:
    random = Random(5)
    registers = {"a": random.getrandbits(64) | 1 << 40, "b": random.getrandbits(32)}
    return Start(b"", 0x100, registers, {"x": [random.getrandbits(64) | 1 for _ in range(32)]})


def test_what_does_not_matter_is_as_usual() -> None:
    big = start()
    small, memory = shrink(big, BASE, b"\1" * 64, lambda s, m: s.files["x"][5] & 1 == 1)
    assert memory == bytes(64)
    assert small.registers == BASE.registers
    assert [i for i, value in enumerate(small.files["x"]) if value] == [5]
    assert small.files["x"][5] in (1, big.files["x"][5])
    assert described(small, BASE).startswith("at 0x100: x[5]=0x")


def test_several_registers_and_memory_matter() -> None:
    def fails(state: Start, memory: bytes) -> bool:
        values = state.files["x"]
        return values[1] != 0 and values[2] >> 8 != 0 and state.registers["a"] >> 40 != 0 and memory[3] == 1

    small, memory = shrink(start(), BASE, b"\1" * 64, fails)
    assert fails(small, memory)
    assert [i for i, value in enumerate(small.files["x"]) if value] == [1, 2]
    assert small.registers["b"] == 7


def test_a_failure_that_does_not_repeat_is_told_as_it_was() -> None:
    big = start()
    assert shrink(big, BASE, b"\1" * 64, lambda s, m: False) == (big, b"\1" * 64)


def test_a_failure_that_repeats_only_sometimes_is_told_as_it_was() -> None:
    """As of instructions that read a counter: hypothesis finds one, and then can't find it again."""
    calls = iter([False, True])
    big = start()
    assert shrink(big, BASE, b"\1" * 64, lambda s, m: next(calls, False)) == (big, b"\1" * 64)
