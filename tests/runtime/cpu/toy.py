"""A small made-up target: 16- and 32-bit encodings, memory, jumps, traps, a mode that changes decoding.

Made of model objects by hand, so that the engine's tests need no front end.
"""

from __future__ import annotations

from typing import Any

from generator.ir import build
from generator.ir.nodes import (
    Binary,
    Block,
    Const,
    Context,
    Expr,
    Field,
    Goto,
    If,
    Let,
    Load,
    Local,
    NextPc,
    Pc,
    Raise,
    ReadReg,
    Slice,
    Stmt,
    Store,
    Unary,
    WriteReg,
)
from generator.model.target import (
    ContextVariable,
    Feature,
    Form,
    InstructionSet,
    Piece,
    Register,
    Span,
    Target,
    Trap,
    Variant,
)

HERE = Span(file="toy.isa", line=1, column=1)
LITTLE = Const(1, 1)
WIDTH = 32


def c(value: int, width: int = WIDTH) -> Const:
    return Const(width, value & ((1 << width) - 1))


def fixed(width: int, value: int) -> Piece:
    return Piece(kind="fixed", width=width, value=value)


def field(name: str, width: int, low: int = 0) -> Piece:
    return Piece(kind="field", width=width, name=name, high=low + width - 1, low=low)


def x(name: str) -> ReadReg:
    return ReadReg(WIDTH, "x", Field(3, name))


def set_x(name: str, value: Expr) -> Stmt:
    return WriteReg("x", Field(3, name), value)


def sext(name: str, width: int) -> Expr:
    return Unary(WIDTH, "sext", Field(width, name))


def add(left: Expr, right: Expr) -> Expr:
    return Binary(WIDTH, "add", left, right)


RD, RS1, RS2 = (x(n) for n in ("rd", "rs1", "rs2"))
IMM = sext("imm", 12)
AWAY = add(Pc(WIDTH), Binary(WIDTH, "shl", IMM, c(1)))
ADDRESS = add(RS1, IMM)


def load(width: int) -> Block:
    value = Local(width, "value")
    wide: Expr = value if width == WIDTH else Unary(WIDTH, "zext", value)
    return (Load(value, ADDRESS, "data", LITTLE), set_x("rd", wide))


def store(width: int) -> Block:
    value: Expr = RS2 if width == WIDTH else Slice(width, RS2, 0)
    return (Store(ADDRESS, value, "data", LITTLE),)


def branch(op: str) -> Block:
    return (If(Binary(1, op, RS1, RS2), (Goto(AWAY, False, None),), ()),)


BODIES: dict[str, Block] = {
    "addi": (set_x("rd", ADDRESS),),
    "add": (set_x("rd", add(RS1, RS2)),),
    "sub": (set_x("rd", Binary(WIDTH, "sub", RS1, RS2)),),
    "mul": (set_x("rd", Binary(WIDTH, "mul", RS1, RS2)),),
    "lw": load(32),
    "sw": store(32),
    "lb": load(8),
    "sb": store(8),
    "beq": branch("eq"),
    "bne": branch("ne"),
    "jal": (set_x("rd", NextPc(WIDTH)), Goto(AWAY, False, None)),
    "jalr": (
        Let(Local(WIDTH, "to"), Binary(WIDTH, "and", ADDRESS, c(-2))),
        set_x("rd", NextPc(WIDTH)),
        Goto(Local(WIDTH, "to"), False, None),
    ),
    "ecall": (Raise("call", c(8, 64), (Unary(64, "zext", ReadReg(WIDTH, "x", c(1, 3))),)),),
    "lui": (set_x("rd", Binary(WIDTH, "shl", IMM, c(20))),),
    "mode": (WriteReg("mode", None, Slice(1, Field(12, "imm"), 0)),),
    "lh": load(16),
    "sh": store(16),
}
"""By number: bits 6..2."""


def form(name: str, picture: tuple[Piece, ...], body: Block, **more: Any) -> Form:
    values: dict[str, Any] = {
        "name": name,
        "mnemonic": name,
        "instruction": name,
        "set_name": "toy",
        "needs": (),
        "picture": picture,
        "no_prefix": False,
        "mandatory_prefixes": (),
        "fields": tuple((p.name, p.width) for p in picture if p.kind == "field"),
        "operands": (),
        "when": None,
        "allow": (),
        "undefined": (),
        "before": (),
        "restartable": False,
        "texts": (),
        "doc": "",
        "variants": (Variant(choices=(), condition=None, guard=None, body=body),),
        "span": HERE,
    }
    return Form(**{**values, **more})


def long_picture(op: int) -> tuple[Piece, ...]:
    return (
        field("imm", 12), field("rs2", 3), field("rs1", 3), field("rd", 3),
        fixed(4, 0), fixed(5, op), fixed(2, 3),
    )  # fmt: skip


def encode(name: str, rd: int = 0, rs1: int = 0, rs2: int = 0, imm: int = 0) -> bytes:
    """A 32-bit instruction; `inc` is the one that depends on the mode."""
    op = 31 if name == "inc" else list(BODIES).index(name)
    word = (imm & 0xFFF) << 20 | rs2 << 17 | rs1 << 14 | rd << 11 | op << 2 | 3
    return word.to_bytes(4, "little")


def short(name: str, rd: int = 0, imm: int = 0) -> bytes:
    """A 16-bit instruction: c.addi or c.j (imm in units of two bytes)."""
    op = {"c.addi": 0, "c.j": 1}[name]
    word = (imm & 0xFF) << 8 | rd << 5 | op << 2
    return word.to_bytes(2, "little")


def toy_target(**changes: Any) -> Target:
    mode = Context(1, "m")
    forms = [form(name, long_picture(number), body) for number, (name, body) in enumerate(BODIES.items())]
    forms += [
        form("inc", long_picture(31), (set_x("rd", add(RS1, c(1))),), when=build.unary("not", mode)),
        form("dec", long_picture(31), (set_x("rd", add(RS1, c(-1))),), when=mode),
        form(
            "c.addi",
            (field("imm", 8), field("rd", 3), fixed(3, 0), fixed(2, 0)),
            (set_x("rd", add(RD, sext("imm", 8))),),
            needs=("C",),
        ),
        form(
            "c.j",
            (field("imm", 8), field("rd", 3), fixed(3, 1), fixed(2, 0)),
            (Goto(add(Pc(WIDTH), Binary(WIDTH, "shl", sext("imm", 8), c(1))), False, None),),
            needs=("C",),
            when=Binary(1, "eq", Field(3, "rd"), c(0, 3)),
        ),
    ]
    values: dict[str, Any] = {
        "name": "toy",
        "family": "toy",
        "parameters": (),
        "big_endian": False,
        "little_when": None,
        "msb0": False,
        "float_policy": "riscv",
        "elf_machine": 0,
        "elf_class": 32,
        "features": (Feature(name="C", title="Short", requires=(), excludes=(), implies=()),),
        "default_features": ("C",),
        "pc_width": WIDTH,
        "sets": (InstructionSet(name="toy", unit=16, stream=False, when=None),),
        "registers": (
            Register(name="x", width=WIDTH, count=8, zero=0, span=HERE),
            Register(name="mode", width=1, span=HERE),
            Register(name="pc", width=WIDTH, span=HERE),
        ),
        "contexts": (
            ContextVariable(name="m", width=1, value=ReadReg(1, "mode", None), next=None, rest=None),
        ),
        "prefixes": (),
        "banks": (),
        "enums": (),
        "traps": (
            Trap(name="illegal", parameters=(("value", 32),), code=c(2, 64), text="", number=0, span=HERE),
            Trap(name="call", parameters=(("value", 32),), code=c(8, 64), text="", number=1, span=HERE),
        ),
        "functions": (),
        "forms": tuple(forms),
        "aliases": (),
        "examples": (),
        "sources": (),
    }
    return Target(**{**values, **changes})
