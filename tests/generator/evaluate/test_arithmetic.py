"""The operators at the edges that docs/language.md names, and against other definitions at small widths."""

from itertools import product

import pytest

from generator.ir.arithmetic import binary, mask, signed, unary


@pytest.mark.parametrize(
    ("op", "left", "right", "expected"),
    [
        ("udiv", 7, 0, 0xFF),
        ("urem", 7, 0, 7),
        ("sdiv", 0xF9, 0, 0xFF),
        ("srem", 0xF9, 0, 0xF9),
        ("sdiv", 0x80, 0xFF, 0x80),
        ("srem", 0x80, 0xFF, 0),
        ("sdiv", 0xF9, 2, 0xFD),  # -7 / 2 = -3
        ("srem", 0xF9, 2, 0xFF),  # -7 % 2 = -1
        ("srem", 7, 0xFE, 1),  # 7 % -2 = 1
        ("shl", 1, 8, 0),
        ("lshr", 0x80, 200, 0),
        ("ashr", 0x80, 200, 0xFF),
        ("ashr", 0x40, 8, 0),
        ("rotl", 0x81, 9, 0x03),
        ("rotr", 0x81, 8, 0x81),
        ("slt", 0x80, 0x7F, 1),
        ("ult", 0x80, 0x7F, 0),
        ("sle", 0xFF, 0xFF, 1),
        ("add", 0xFF, 2, 1),
        ("sub", 0, 1, 0xFF),
        ("mul", 0xFF, 0xFF, 1),
    ],
)
def test_corner(op: str, left: int, right: int, expected: int) -> None:
    assert binary(op, 8, left, right, 8) == expected


def test_concat_puts_the_left_operand_on_top() -> None:
    assert binary("concat", 3, 0b101, 0b01, 2) == 0b10101


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("clz", 0, 8),
        ("clz", 1, 7),
        ("ctz", 0, 8),
        ("ctz", 0x60, 5),
        ("popcount", 0xFF, 8),
        ("bitreverse", 0b00010011, 0b11001000),
        ("neg", 0x80, 0x80),
        ("not", 0x0F, 0xF0),
    ],
)
def test_unary(op: str, value: int, expected: int) -> None:
    assert unary(op, 8, 8, value) == expected


def test_extensions_and_byteswap() -> None:
    assert unary("sext", 8, 3, 0b100) == 0xFC
    assert unary("zext", 8, 3, 0b100) == 4
    assert unary("byteswap", 32, 32, 0x12345678) == 0x78563412


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_division_is_truncated_and_total(width: int) -> None:
    for left, right in product(range(1 << width), repeat=2):
        quotient = binary("sdiv", width, left, right, width)
        remainder = binary("srem", width, left, right, width)
        a, b = signed(width, left), signed(width, right)
        assert (signed(width, quotient) * b + signed(width, remainder) - a) & mask(width) == 0
        if b:
            assert abs(signed(width, remainder)) < abs(b)
            assert signed(width, remainder) * a >= 0


@pytest.mark.parametrize("op", ["nand", "clz"])
def test_unknown_operators_are_refused(op: str) -> None:
    with pytest.raises(ValueError, match=op):
        binary(op, 8, 1, 1, 8)
