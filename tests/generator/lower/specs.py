"""Small specs for tests of the lowering."""

from __future__ import annotations

from pathlib import Path

from generator.errors import SpecErrors
from generator.language.source import Source
from generator.load import load_sources
from generator.model.target import Form, Target

HERE = Path(__file__).parent
KITCHEN = (HERE / "kitchen.isa").read_text(encoding="utf-8")

HEADER = """isa toy le unit 32
target toy { } elf 243 class 32
regs x[32] : bits(32) zero 0
regs y[16] : bits(64)
reg  pc : bits(32)
reg  flag : bits(1)
reg  word : bits(32) = { low: 3:0, top: 31 }
context mode : bits(2) = word.low[1:0]
trap bad(n: bits(32)) = 2
operand rd, rs1, rs2 (n: 5) = x[n]
"""
HEADER_LINES = HEADER.count("\n")


def kitchen(target: str = "k64") -> Target:
    return load_sources([Source("kitchen.isa", KITCHEN)], target)


def insn(body: str) -> str:
    """An instruction `t` over rd, rs1 and rs2 with these statements."""
    return "insn t {\n    bits 0000000 rs2 rs1 000 rd 0110011\n    exec {\n" + body + "\n    }\n}\n"


def toy(text: str) -> Target:
    """A target from the header above and `text`."""
    return load_sources([Source("toy.isa", HEADER + text)], "toy")


def toy_body(statements: str, declarations: str = "") -> str:
    """The IR, as text, of an instruction with these statements."""
    from tests.generator.lower.ir_text import show_block

    (form,) = toy(declarations + insn(statements)).forms
    (variant,) = form.variants
    return show_block(variant.body)


def mistakes(text: str, header: str = HEADER, target: str = "toy") -> list[str]:
    """The messages for a wrong spec, without places."""
    try:
        load_sources([Source("toy.isa", header + text)], target)
    except SpecErrors as errors:
        return [d.message for d in errors.diagnostics]
    return []


def form(target: Target, name: str) -> Form:
    return next(f for f in target.forms if f.name == name)
