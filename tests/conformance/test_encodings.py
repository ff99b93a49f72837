"""Encodings agree with LLVM's and GNU's tools on a selection, and disagreements are seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.campaign import guarded, plan
from conformance.notation import notations_of
from conformance.results import Row
from conformance.setup import Setup
from conformance.suites.encodings import EncodingRun
from conformance.tasks import Options, Task
from conformance.toolchains import LLVM_VERSIONS, Llvm, Objdump


@pytest.mark.parametrize("forms", ["b*", "c.[a-m]*", "s[bhwd]", "fm*.d"])
def test_riscv(setup_of: Callable[[str], Setup], require_tool: Callable[..., str], forms: str) -> None:
    require_tool(*(f"llvm-mc{version}" for version in LLVM_VERSIONS[:3]))
    tasks = plan([setup_of("riscv64")], ["encodings"], Options(forms=forms, cases=12))
    rows = [row for task in tasks for row in guarded(task)]
    assert not [(row.name, f) for row in rows for f in row.failures]
    unasked = [row.name for row in rows if not row.counts.get("LLVM assembles")]
    assert unasked in ([], ["c.addi"])  # listed: LLVM has names of its own for hints


@pytest.mark.parametrize(("target", "forms"), [("aarch64", "[abcm]*"), ("sparc64", "*"), ("ppc", "b*")])
def test_slices(
    setup_of: Callable[[str], Setup], require_tool: Callable[..., str], target: str, forms: str
) -> None:
    """Both ways, as the peers print by default: preferred aliases, names of address spaces, hints."""
    require_tool(*(f"llvm-mc{version}" for version in LLVM_VERSIONS[:3]))
    tasks = plan([setup_of(target)], ["encodings"], Options(forms=forms, cases=5))
    rows = [row for task in tasks for row in guarded(task)]
    assert not [(row.name, f) for row in rows for f in row.failures]
    assert sum(row.counts.get("LLVM assembles", 0) for row in rows) > 50


def test_a_wrong_text_is_found(setup_of: Callable[[str], Setup], monkeypatch: pytest.MonkeyPatch) -> None:
    """A disassembler that names the wrong register."""
    task = Task("encodings", setup_of("riscv64"), Options(cases=10), ("add",))
    (notation,) = notations_of("riscv", "riscv64")
    run, row = EncodingRun(task, notation), Row("encodings", "riscv64", "add")
    honest = run.disassembler.line

    def lying(data: bytes, address: int, contexts: dict[str, int] | None = None):  # type: ignore[no-untyped-def]
        line = honest(data, address, contexts)
        return type(line)(line.address, line.length, line.text.replace("a", "t"), line.form)

    monkeypatch.setattr(run.disassembler, "line", lying)
    run.run([row])
    assert row.failed


def test_llvm_answers_line_by_line(require_tool: Callable[..., str]) -> None:
    require_tool(*(f"llvm-mc{version}" for version in LLVM_VERSIONS))
    llvm = Llvm("riscv64")
    assert llvm.assemble(["add a0, a1, a2", "nonsense", "beq a0, a1, somewhere", "sub a0, a1, a2"]) == [
        bytes.fromhex("3385c500"),
        None,
        None,
        bytes.fromhex("3385c540"),
    ]
    assert llvm.disassemble([bytes.fromhex("3385c500"), b"\xff\xff\xff\xff", bytes.fromhex("3385c540")]) == [
        "add a0, a1, a2",
        None,
        "sub a0, a1, a2",
    ]


def test_objdump_answers_word_by_word(require_tool: Callable[..., str]) -> None:
    require_tool("objdump")
    objdump = Objdump("riscv:rv64")
    if not objdump.available():
        pytest.skip("this objdump knows no RISC-V")
    words = [bytes.fromhex("3385c500"), b"\xff\xff\xff\xff", bytes.fromhex("6f008000")]
    assert objdump.disassemble(words) == ["add a0,a1,a2", None, "j 0x88"]
