"""What the checks of behaviours must not complain about, and what only hand-made bodies can get wrong.

Each thing that they do complain about is a file in tests/isa_errors.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from generator.checks import assigned, cost, errors, run_checks
from generator.checks.encodings import Encodings
from generator.checks.report import Reporter
from generator.ir.nodes import Assign, Binary, Block, Const, Field, If, Let, Local, Return, Slice, WriteReg
from generator.model.target import Function, Span, Target, Variant

HERE = Span(file="toy.isa", line=1, column=1)
Toy = Callable[..., Target]

RIGHT = {
    "results last": "let a = rs1\n let v = mem(32)[a]\n rd = v\n z = v == 0",
    "exclusive paths": "if rs2.n == 0 { z = 1 } else { let v = mem(32)[rs1]\n rd = v }",
    "the same decision twice": ("if rs2.n == 0 { z = 1 }\n if rs2.n != 0 { let v = mem(32)[rs1]\n rd = v }"),
    "a trap on the path that writes nothing": "if rs1 == 0 { raise bad(0) } else { rd = rs1 }",
    "own destination": "rd = rs1 + rs2\n z = rd == 0",
    "part of a register": "w = rs1\n w[7:0] = rs2[7:0]\n rd = w",
    "part of an entry": "let a = rs1\n rd = a\n x[rs2.n][7:0] = a[7:0]",
    "two different addresses": "let a = mem(32)[rs1]\n let b = mem(32)[rs1 + 4]\n rd = a + b",
    "an address that moves": (
        "var a : bits(32) = rs1\n let v = mem(32)[a]\n a += 4\n let u = mem(32)[a]\n rd = u + v"
    ),
    "a swap": "let a = rs1\n let b = rs2\n x[rs2.n] = a\n x[rs1.n] = b",
    "goto last": "if rs1 == rs2 { rd = pc\n goto pc + 8 }",
    "goto on another path": "if rs2.n == 0 { goto rs1 }\n if rs2.n != 0 { rd = rs1 }",
    "a loop that only reads": (
        "var sum : bits(32) = 0\n"
        "for i : bits(2) in 0..3 { sum += mem(32)[rs1 + (zext(i, 32) << 2)] }\n"
        "rd = sum"
    ),
}


def body(text: str) -> str:
    return (
        "reg z : bits(1)\nreg w : bits(32)\ntrap bad(v: bits(32)) = 1\n"
        'insn t {\n bits 0000000 rs2 rs1 000 rd 0110011\n asm "t {rd}, {rs1}, {rs2}"\n'
        f" exec {{\n {text}\n }}\n}}\n"
    )


@pytest.mark.parametrize("name", RIGHT)
def test_right_behaviours_are_left_alone(name: str, toy: Toy) -> None:
    text = body(RIGHT[name])
    found = errors(run_checks(toy(text), {}))
    assert not found, found[0].render()


def test_different_operands_that_cannot_be_equal(toy: Toy) -> None:
    """`when` rules the overlap of rd and rs1 out, so that the order doesn't matter."""
    text = body("rd = rs2\n z = rs1 == 0")
    assert errors(run_checks(toy(text), {}))
    allowed = text.replace(" exec {", " when rd.n != rs1.n\n exec {")
    assert not errors(run_checks(toy(allowed), {}))


def with_body(target: Target, block: Block) -> Target:
    variant = Variant(choices=(), condition=None, guard=None, body=block)
    return target.model_copy(update={"forms": (target.forms[0].model_copy(update={"variants": (variant,)}),)})


def test_locals_without_a_value(toy: Toy) -> None:
    """Lowering never makes these; other makers of bodies might."""
    target = toy(body("rd = rs1 + rs2"))
    local = Local(32, "v")
    once = Slice(1, Field(5, "rd.n"), 0)
    write = WriteReg("w", None, local)
    bad = with_body(target, (If(once, (Assign(local, Const(32, 1)),), ()), write))
    found = [d.message for d in assigned.check(bad, Reporter({}))]
    assert found[0] == "`t` uses `v`, which has no value on some path"
    # Given on both paths, or on every path on which it is used.
    both = If(once, (Let(local, Const(32, 1)),), (Let(local, Const(32, 2)),))
    again = If(once, (write,), ())
    for good in ((both, write), (If(once, (Let(local, Const(32, 1)),), ()), again)):
        assert not [
            d for d in assigned.check(with_body(target, good), Reporter({})) if "uses `v`" in d.message
        ]


def test_functions_without_a_result(toy: Toy) -> None:
    target = toy(body("rd = rs1 + rs2"))
    a = Local(32, "a")
    returns = Return((a,))
    some = If(Binary(1, "eq", a, Const(32, 0)), (returns,), ())

    def messages(block: Block) -> list[str]:
        function = Function(name="f", parameters=(a,), results=(32,), body=block, span=HERE)
        changed = target.model_copy(update={"functions": (function,)})
        return [d.message for d in assigned.check(changed, Reporter({})) if "`f`" in d.message]

    assert messages((some,)) == ["`f` ends without a result on some path"]
    assert messages((some, returns)) == []
    assert messages((Return((Local(32, "b"),)),)) == ["`f` uses `b`, which has no value on some path"]


TABLE = "".join(f"    t{i}, 0b{i:05b}\n" for i in range(32))


def test_cost_of_a_full_table(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 forms that differ in five bits: five tests, one form at each leaf."""
    text = (
        "insn t[op, k] {\n bits 0000000 rs2 rs1 000 k:5 0110011\n"
        ' asm "{op} {rs1}, {rs2}"\n exec x[k] = rs1 ^ rs2\n}'
        f" each {{\n{TABLE}}}\n"
    )
    target = toy(text)
    encodings = Encodings(target)
    measured = cost.measure(target.forms, encodings)
    assert (measured.depth, measured.nodes, len(measured.worst)) == (5, 31, 1)
    notes = list(cost.check(target, encodings, Reporter({})))
    assert [d.severity for d in notes] == ["note"]
    monkeypatch.setattr(cost, "MOST_DEPTH", 4)
    found = [d for d in cost.check(target, encodings, Reporter({})) if d.severity == "error"]
    assert [d.message for d in found] == ["decoding toy tests up to 5 bits one after the other (at most 4)"]
