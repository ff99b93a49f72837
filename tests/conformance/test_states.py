"""State tests agree on the real target, and find a wrong instruction."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from conformance.campaign import guarded, plan
from conformance.results import Row
from conformance.setup import Setup
from conformance.tasks import Options

SetupOf = Callable[[str], Setup]


def rows_of(setup: Setup, options: Options) -> list[Row]:
    return [row for task in plan([setup], ["states"], options) for row in guarded(task)]


def told(rows: list[Row]) -> list[str]:
    return [
        f"{row.name}: {f.between}: {f.text}: {'; '.join(f.details)}" for row in rows for f in row.failures
    ]


def test_every_riscv_form_agrees(setup_of: SetupOf, require_module: Callable[[str], ModuleType]) -> None:
    require_module("unicorn")
    rows = rows_of(setup_of("riscv64"), Options(cases=10))
    assert not told(rows)
    assert len(rows) > 280
    assert all(row.cases == 10 for row in rows)
    assert sum(row.counts.get("with Unicorn", 0) for row in rows) > 800


def test_every_arm_form_agrees_in_any_it_state(
    setup_of: SetupOf, require_module: Callable[[str], ModuleType]
) -> None:
    """Both sets, in IT blocks and outside: the first instruction behind IT, or behind a jump out of a block,
    once had another ITSTATE in the engine.
    """
    require_module("unicorn")
    rows = rows_of(setup_of("arm"), Options(cases=30))
    assert not told(rows)
    assert len(rows) > 150 and all(row.cases == 30 for row in rows)
    assert sum(row.counts.get("with Unicorn", 0) for row in rows) > 2500


def test_64_bit_powerpc_agrees(setup_of: SetupOf, require_module: Callable[[str], ModuleType]) -> None:
    """Little-endian, 64-bit mode; reservations and privileged instructions among them."""
    require_module("unicorn")
    rows = rows_of(setup_of("ppc64le"), Options(cases=20, forms="[ls]*"))
    assert not told(rows)
    assert len(rows) > 80
    assert sum(row.counts.get("with Unicorn", 0) for row in rows) > 1500


def test_decoding_follows_the_start_state(setup_of: SetupOf) -> None:
    """x86: relative targets depend on the code segment's base, which differs from case to case."""
    rows = rows_of(setup_of("x86_64"), Options(cases=200, forms="call_*", peers=False))
    assert not told(rows)
    assert len(rows) > 3


def test_a_wrong_instruction_is_found(setup_of: SetupOf, tmp_path: Path) -> None:
    """The spec that the evaluator reads is changed behind the engine's back."""
    setup = setup_of("riscv64")
    specs = tmp_path / "isa"
    shutil.copytree(setup.specs, specs, ignore=shutil.ignore_patterns("__pycache__"))
    text = (specs / "riscv" / "i.isa").read_text()
    wrong = text.replace("rs1 + rs2", "rs1 - rs2")
    assert wrong != text
    (specs / "riscv" / "i.isa").write_text(wrong)
    rows = rows_of(replace(setup, specs=str(specs)), Options(cases=40, forms="add"))
    assert len(rows) == 1 and rows[0].failed
    failure = rows[0].failures[0]
    assert failure.between == "evaluator and engine"
    # Shrunk: one register is enough to tell them apart.
    assert failure.details[0].count("=") == 1, failure.details
    assert "--suite states --forms add --seed 1 --case" in failure.command
    case = int(failure.command.rsplit(" ", 1)[1])
    again = rows_of(replace(setup, specs=str(specs)), Options(forms="add", case=case))
    assert again[0].failures[0] == failure


def test_cases_do_not_depend_on_what_ran_before(setup_of: SetupOf) -> None:
    setup = setup_of("riscv64")
    alone = rows_of(setup, Options(cases=20, forms="xor", peers=False))
    among = rows_of(setup, Options(cases=20, forms="[xs]*", peers=False))
    assert [row.as_json() for row in among if row.name == "xor"] == [row.as_json() for row in alone]
