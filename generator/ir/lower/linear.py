"""Addresses of the shape `reg[base] + (reg[index] << scale) + offset`: finding it, and its value in
behaviours.
"""

from __future__ import annotations

from dataclasses import dataclass

from generator.ir import build
from generator.ir.nodes import DECODE, Binary, Const, Expr, Field, ReadReg, Select, Unary, kind_of
from generator.model.target import Register

MAX_TERMS = 64


@dataclass(frozen=True)
class Linear:
    """One way through a value: at most one plain register, at most one shifted (or second) register, a
    decode-time offset.
    """

    when: Expr
    base: Expr | None
    index: Expr | None
    scale: Expr
    offset: Expr
    files: tuple[str, ...]


@dataclass(frozen=True)
class LinearAddress:
    """`reg[base] + (reg[index] << scale) + offset` under a condition; None: no such register."""

    when: Expr
    base: Expr | None
    index: Expr | None
    scale: Expr
    offset: Expr


@dataclass(frozen=True)
class LinearAddresses:
    """All addresses that an operand can be, over the entries of one register file."""

    file: Register
    alternatives: tuple[LinearAddress, ...]

    @property
    def none(self) -> int:
        """The number that stands for no register: one behind the file's last entry."""
        return self.file.count or 0

    @property
    def entry_width(self) -> int:
        """The bits of an entry's number, `none` included."""
        return self.none.bit_length()

    @property
    def scale_width(self) -> int:
        """The bits of the widest shift amount."""
        return max(a.scale.width for a in self.alternatives)

    def value(self, path: str, width: int) -> Expr:
        """The address, `width` bits wide, over the decode-time fields `.base`, `.index`, `.scale` and
        `.offset` of the operand at `path`.
        """
        base = build.zext(self._entry(f"{path}.base"), width)
        index = build.zext(self._entry(f"{path}.index"), width)
        scaled = Binary(width, "shl", index, Field(self.scale_width, f"{path}.scale"))
        return Binary(width, "add", Binary(width, "add", base, scaled), Field(width, f"{path}.offset"))

    def _entry(self, field: str) -> Expr:
        return ReadReg(self.file.width, self.file.name, Field(self.entry_width, field))


NO_SCALE = Const(2, 0)


def linear_alternatives(value: Expr) -> list[Linear] | None:
    """`value` as alternatives of that shape; None: it has another."""
    width = value.width
    zero = Const(width, 0)
    if kind_of(value) <= DECODE:
        return [Linear(build.TRUE, None, None, NO_SCALE, value, ())]
    match value:
        case ReadReg() | Unary(op="zext"):
            entry = _entry(value)
            return (
                None if entry is None else [Linear(build.TRUE, entry[1], None, NO_SCALE, zero, (entry[0],))]
            )
        case Binary(op="shl", left=shifted, right=scale) if kind_of(scale) <= DECODE:
            entry = _entry(shifted)
            return None if entry is None else [Linear(build.TRUE, None, entry[1], scale, zero, (entry[0],))]
        case Select(condition=condition, then=then, otherwise=otherwise, strict=False) if (
            kind_of(condition) <= DECODE
        ):
            left, right_ = linear_alternatives(then), linear_alternatives(otherwise)
            if left is None or right_ is None:
                return None
            return [
                Linear(build.and_(when, a.when), a.base, a.index, a.scale, a.offset, a.files)
                for when, side in ((condition, left), (build.not_(condition), right_))
                for a in side
            ]
        case Binary(op="add", left=left_side, right=right_side):
            first, second = linear_alternatives(left_side), linear_alternatives(right_side)
            if first is None or second is None or len(first) * len(second) > MAX_TERMS:
                return None
            sums = [_sum(a, b) for a in first for b in second]
            return None if None in sums else [s for s in sums if s is not None]
        case _:
            return None


def _entry(value: Expr) -> tuple[str, Expr] | None:
    """A whole entry of a register file, perhaps zero-extended: the file and the entry's number."""
    if isinstance(value, Unary) and value.op == "zext":
        value = value.operand
    if isinstance(value, ReadReg) and value.index is not None and kind_of(value.index) <= DECODE:
        return value.register, value.index
    return None


def _sum(a: Linear, b: Linear) -> Linear | None:
    offset = build.binary("add", a.offset, b.offset)
    when = build.and_(a.when, b.when)
    files = a.files + b.files
    if a.index is not None and b.index is not None:
        return None
    index, scale = (a.index, a.scale) if a.index is not None else (b.index, b.scale)
    if a.base is not None and b.base is not None:
        if index is not None:
            return None
        return Linear(when, a.base, b.base, NO_SCALE, offset, files)
    return Linear(when, a.base if a.base is not None else b.base, index, scale, offset, files)
