"""Lane-wise primitives compute what `generator.ir.arithmetic` defines."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import pytest

from generator.ir.arithmetic import binary, unary

# name: operator, the widths of the operands, of the result
PRIMITIVES = {
    "add8x16": ("add.8", (128, 128), 128),
    "mul16x4": ("mul.16", (64, 64), 64),
    "shl32x4": ("shl.32", (128, 128), 128),
    "ashr16x16": ("ashr.16", (256, 256), 256),
    "slt8x16": ("slt.8", (128, 128), 16),
    "concat8with8x16": ("concat.8", (128, 128), 256),
    "concat8with16x4": ("concat.8", (32, 64), 96),
    "sext8to16x16": ("sext.8", (128,), 256),
    "trunc32to16x16": ("trunc.32", (512,), 256),
    "sext1to8x16": ("sext.1", (16,), 128),
    "splat16x8": ("splat.16", (16,), 128),
    "permute8of16x16": ("permute.8", (128, 64), 128),
}


def passed(value: int, width: int) -> Any:
    """A value as primitives take it: signed 64-bit parts."""
    parts = tuple(
        part - (1 << 64) if part >> 63 else part
        for part in (value >> at & (1 << 64) - 1 for at in range(0, max(64, width), 64))
    )
    size = next(n for n in (1, 2, 4, 8) if len(parts) <= n)
    return parts[0] if size == 1 else parts + (0,) * (size - len(parts))


def found(value: Any) -> int:
    parts = value if isinstance(value, tuple) else (value,)
    return sum((part & (1 << 64) - 1) << 64 * position for position, part in enumerate(parts))


@pytest.mark.parametrize("name", PRIMITIVES)
def test_primitives_do_what_the_operators_mean(
    name: str, require_module: Callable[[str], ModuleType]
) -> None:
    numba = require_module("numba")
    from runtime.cpu import lanes

    op, widths, result = PRIMITIVES[name]
    primitive = getattr(lanes, name)
    if len(widths) == 1:
        compiled = numba.njit(lambda a: primitive(a))
    else:
        compiled = numba.njit(lambda a, b: primitive(a, b))
    random = Random(name)
    for _ in range(50):
        values = [random.getrandbits(width) for width in widths]
        if op.startswith(("shl", "ashr")):  # amounts around the lane's width
            lane = int(op.partition(".")[2])
            values[1] = sum(random.randrange(lane + 4) << at for at in range(0, widths[1], lane))
        if len(widths) == 1:
            expected = unary(op, result, widths[0], values[0])
        else:
            expected = binary(op, widths[0], values[0], values[1], widths[1])
        got = found(compiled(*(passed(v, w) for v, w in zip(values, widths, strict=True))))
        assert got == expected, [hex(value) for value in values]


def test_a_name_that_is_none_is_no_primitive() -> None:
    from runtime.cpu import lanes

    with pytest.raises(AttributeError):
        _ = lanes.frobnicate8x16
