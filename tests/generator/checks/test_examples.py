"""`example` lines, with and without an assembler."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from generator.checks import errors, run_checks
from generator.model.target import Target

Toy = Callable[..., Target]

TEXT = """
reg on : bits(1)
context fp : bits(1) = on
insn t {
    bits  0000000 rs2 rs1 000 rd 0110011
    asm   "t {rd}, {rs1}, {rs2}"
    when  fp == 1
    exec  rd = rs1 + rs2
}
alias accept "t2 {rd}, {rs1}" = "t {rd}, {rs1}, x0; t {rd}, {rd}, x0"
"""


def messages(target: Target, assemble: Callable[[str, str], bytes] | None = None) -> list[str]:
    return [d.message for d in errors(run_checks(target, {}, assemble))]


@pytest.mark.parametrize(
    "line",
    [
        '"t x1, x2, x3" = b3 00 31 00',
        '"T  x1,x2 , x3" = b3 00 31 00',
        '"t2 x1, x2" = b3 00 01 00 b3 80 00 00',
    ],
)
def test_right_examples(toy: Toy, line: str) -> None:
    """The context isn't the one after reset; macros are several instructions."""
    assert messages(toy(TEXT + f"example {line}\n")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"t x1, x2, x3" = b3 00 31 02', "nothing decodes b3 00 31 02"),
        ('"t x1, x2, x3" = b3 00 31', "nothing decodes b3 00 31"),
        ('"u x1, x2, x3" = b3 00 31 00', "b3 00 31 00 is `t`, which is not written `u x1, x2, x3`"),
        ('"t x1, x2" = b3 00 31 00', "b3 00 31 00 is `t`, which is not written `t x1, x2`"),
        ('"t2 x1, x2" = b3 00 01 00', "b3 00 01 00 is `t`, which is not written `t2 x1, x2`"),
    ],
)
def test_wrong_examples(toy: Toy, line: str, message: str) -> None:
    assert messages(toy(TEXT + f"example {line}\n")) == [message]


def test_with_an_assembler(toy: Toy) -> None:
    target = toy(TEXT + 'example "t x1, x2, x3" = b3 00 31 00\n')

    def refuses(dialect: str, line: str) -> bytes:
        raise ValueError("no such register")

    assert messages(target, lambda dialect, line: bytes.fromhex("b3003100")) == []
    assert messages(target, lambda dialect, line: bytes.fromhex("b3003200")) == [
        "`t x1, x2, x3` is b3 00 32 00, not b3 00 31 00"
    ]
    assert messages(target, refuses) == ["`t x1, x2, x3` is not assembled: no such register"]
