"""Every form of some targets: its executors do what the evaluator does."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator.load import load_target
from tests.generator.executors.differential import Differential

ROOT = Path(__file__).resolve().parents[3] / "isa"
TARGETS = (("riscv", "riscv64"), ("sparc", "sparc"), ("arm", "aarch64"), ("x86", "i8086"))
"""One of each kind; `isagen conformance` does the same for all, through their encodings."""
ROUNDS = 12


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), TARGETS)
def test_executors_agree_with_the_evaluator(family: str, name: str, tmp_path: Path) -> None:
    both = Differential(load_target(ROOT, family, name), tmp_path)
    wrong: dict[str, str] = {}
    for number, form in enumerate(both.target.forms):
        for _ in range(ROUNDS):
            problem = both.check(number)
            if problem is not None:
                wrong[form.name] = problem
                break
    shown = "\n".join(list(wrong.values())[:10])
    assert not wrong, f"{len(wrong)} of {len(both.target.forms)} forms differ:\n{shown}"
