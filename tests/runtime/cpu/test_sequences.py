"""Random programs of real targets: delay slots, guards, contexts, prefixes in sequence. See `sequences`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from generator.load import load_target as load_model
from runtime.cpu.engine import load_target
from tests.runtime.cpu.sequences import Sequences

ISA = Path(__file__).resolve().parents[3] / "isa"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name"),
    [("riscv", "riscv64"), ("sparc", "sparc"), ("ppc", "ppc64le"), ("arm", "arm"), ("x86", "x86_64")],
)
def test_random_programs(built: Callable[[str], Path], family: str, name: str) -> None:
    sequences = Sequences(load_model(ISA, family, name), load_target(built(name)))
    executed = sum(sequences.check(seed, 100) for seed in range(150))
    assert executed > 300
