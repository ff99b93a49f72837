"""The folding constructors compute what the operators mean."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from generator.ir import arithmetic, build
from generator.ir.arithmetic import COMPARISONS
from generator.ir.expressions import evaluate
from generator.ir.nodes import Binary, Const, Expr, Local, Select, Slice, Unary

BINARY = [
    "add",
    "sub",
    "mul",
    "and",
    "or",
    "xor",
    "udiv",
    "sdiv",
    "urem",
    "srem",
    "shl",
    "lshr",
    "ashr",
    "rotl",
    "rotr",
    "eq",
    "ne",
    "ult",
    "ule",
    "slt",
    "sle",
    "concat",
]


class Values:
    """Locals a and b; no other leaves."""

    pc = next_pc = 0

    def __init__(self, **values: int) -> None:
        self.locals = values
        self.fields: dict[str, int] = {}

    def context(self, name: str) -> int:
        raise KeyError(name)

    def read(self, register: str, index: int | None, width: int) -> int:
        raise KeyError(register)


@st.composite
def expressions(draw: st.DrawFn, width: int, depth: int = 3) -> tuple[Expr, Expr]:
    """An expression over locals a and b of 8 bits, folded and unfolded."""
    kinds = (
        ["const"]
        + (["local"] if width == 8 else [])
        + (["unary", "binary", "select", "slice", "extend"] if depth else [])
    )
    match draw(st.sampled_from(kinds)):
        case "local":
            local = Local(8, draw(st.sampled_from("ab")))
            return local, local
        case "unary":
            op = draw(st.sampled_from(["not", "neg", "clz", "ctz", "popcount", "bitreverse"]))
            inner, raw = draw(expressions(width, depth - 1))
            return build.unary(op, inner), Unary(width, op, raw)
        case "binary":
            op = draw(st.sampled_from(BINARY))
            if op == "concat":
                if width < 2:
                    return Const(width, 0), Const(width, 0)
                low = draw(st.integers(1, width - 1))
                left, right = draw(expressions(width - low, depth - 1)), draw(expressions(low, depth - 1))
                return build.concat(left[0], right[0]), Binary(width, "concat", left[1], right[1])
            if op in COMPARISONS:
                if width != 1:
                    return Const(width, 1), Const(width, 1)
                size = draw(st.sampled_from([1, 8]))
                left, right = draw(expressions(size, depth - 1)), draw(expressions(size, depth - 1))
                return build.binary(op, left[0], right[0]), Binary(1, op, left[1], right[1])
            left, right = draw(expressions(width, depth - 1)), draw(expressions(width, depth - 1))
            return build.binary(op, left[0], right[0]), Binary(width, op, left[1], right[1])
        case "select":
            condition = draw(expressions(1, depth - 1))
            then, otherwise = draw(expressions(width, depth - 1)), draw(expressions(width, depth - 1))
            return (
                build.select(condition[0], then[0], otherwise[0]),
                Select(width, condition[1], then[1], otherwise[1]),
            )
        case "slice":
            low, above = draw(st.integers(0, 5)), draw(st.integers(0, 5))
            inner, raw = draw(expressions(width + low + above, depth - 1))
            return build.slice_(inner, low, width), Slice(width, raw, low)
        case "extend" if width > 1:
            op = draw(st.sampled_from(["zext", "sext"]))
            inner, raw = draw(expressions(draw(st.integers(1, width)), depth - 1))
            return build.unary(op, inner, width), Unary(width, op, raw)
    value = draw(st.sampled_from([0, 1, 2, arithmetic.mask(width), 1 << (width - 1)])) & arithmetic.mask(
        width
    )
    return Const(width, value), Const(width, value)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([1, 8]).flatmap(expressions), st.integers(0, 255), st.integers(0, 255))
def test_folding_keeps_the_value_and_the_width(pair: tuple[Expr, Expr], a: int, b: int) -> None:
    folded, raw = pair
    assert folded.width == raw.width
    assert evaluate(folded, Values(a=a, b=b)) == evaluate(raw, Values(a=a, b=b))
