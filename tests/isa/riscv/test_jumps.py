"""Where jumps go, against GNU's assembler: every bit of every offset."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.isa.riscv.hart import CODE, Hart

# text, lowest and highest power of two of the offset, width of the target it exists for (0: both)
JUMPS = [
    ("beq a0, a0", 1, 12, 0), ("bne a0, zero", 1, 12, 0), ("bltu zero, a0", 1, 12, 0),
    ("bge a0, a0", 1, 12, 0),
    ("jal t0", 1, 20, 0), ("c.j", 1, 11, 0), ("c.jal", 1, 11, 32),
    ("c.bnez a0", 1, 8, 0), ("c.beqz a1", 1, 8, 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "low", "high", "only"), JUMPS, ids=[j[0] for j in JUMPS])
def test_targets(
    hart: Hart, gnu_assembler: Callable[[str, int, str], bytes], text: str, low: int, high: int, only: int
) -> None:
    if only not in (0, hart.xlen):
        return
    offsets = [1 << n for n in range(low, high)] + [-(1 << high), (1 << high) - 2]
    for offset in offsets:
        operand = "," if "," in text or " " in text else ""
        code = gnu_assembler(f"{text}{operand} .{offset:+}", hart.xlen, "imac")
        pc = CODE + 0x20_0000
        hart.state.pc = pc
        hart.state.files["x"][10] = 5
        hart.memory.poke(pc, code)
        assert hart.step() is None, (text, offset)
        assert hart.state.pc == pc + offset, (text, offset)
        if text in ("jal t0", "c.jal"):
            assert hart.state.files["x"][5 if text == "jal t0" else 1] == pc + len(code)


def test_register_jumps(hart: Hart) -> None:
    x = hart.state.files["x"]
    for code, link, offset in ((0xFFF502E7, 5, -1), (0x000500E7, 1, 0), (0x8502, 0, 0), (0x9502, 1, 0)):
        x[10] = CODE + 0x1003
        hart.state.pc = CODE
        assert hart.step(code) is None
        assert hart.state.pc == CODE + 0x1003 + offset & ~1
        if link:
            assert x[link] == CODE + (4 if code & 3 == 3 else 2)
        assert x[0] == 0
    x[1] = CODE + 0x2000
    hart.state.pc = CODE
    assert hart.step(0x000080E7) is None  # jalr ra, 0(ra) jumps to what ra was
    assert (hart.state.pc, x[1]) == (CODE + 0x2000, CODE + 4)
