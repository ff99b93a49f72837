"""Specialising: what goes into records, what is shared, what is refused; and effects."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from generator.ir import build
from generator.ir.arithmetic import mask, signed
from generator.ir.decisions import Facts, compiled
from generator.ir.effects import Analysis, Jump, sensitive
from generator.ir.executor import STORAGE_BYTES, Leaf, Node, NumberValue
from generator.ir.nodes import (
    Binary,
    Block,
    CallStmt,
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
    Return,
    Slice,
    Store,
    Unary,
    WriteReg,
)
from generator.ir.simplify import without_dead
from generator.ir.specialise import BUDGETS, TooManyExecutorsError, specialise, storage_for
from generator.model.target import ContextVariable, Function, Register, Target, Trap
from tests.generator.executors.harness import HERE, form

MakeTarget = Callable[..., Target]
RD, RS = Field(3, "rd"), Field(3, "rs")


def c(value: int, width: int = 32) -> Const:
    return Const(width, value)


def x(index: Expr) -> ReadReg:
    return ReadReg(32, "x", index)


def wx(index: Expr, value: Expr) -> WriteReg:
    return WriteReg("x", index, value)


def random_number(random_: random.Random, depth: int, width: int) -> Expr:
    """A decode-time expression."""
    if depth == 0 or width <= 2:
        return Field(width, f"f{random_.randrange(3)}_{width}")
    kind = random_.randrange(8)
    inner = random_.randrange(1, width)
    if kind == 0:
        return build.zext(random_number(random_, depth - 1, inner), width)
    if kind == 1:
        return build.sext(random_number(random_, depth - 1, inner), width)
    if kind == 2:
        high, low = random_number(random_, depth - 1, width - inner), random_number(random_, depth - 1, inner)
        return build.concat(high, low)
    left = random_number(random_, depth - 1, width)
    if kind == 3:
        return build.binary("shl", left, build.const(6, random_.randrange(width)))
    if kind == 4:
        return build.binary("and", left, build.const(width, random_.getrandbits(width)))
    if kind == 5:
        return build.select(random_number(random_, 0, 1), left, random_number(random_, depth - 1, width))
    if kind == 6:
        return build.binary("add", left, build.const(width, random_.getrandbits(width)))
    return build.binary(random_.choice(("add", "sub", "xor")), left, random_number(random_, depth - 1, width))


def test_a_slot_gives_back_every_value_that_is_stored_in_it() -> None:
    random_ = random.Random(3)
    small = 0
    for _ in range(3000):
        width = random_.choice((1, 8, 12, 16, 17, 20, 32, 33, 48, 64))
        expr = random_number(random_, 3, width)
        storage = storage_for(expr)
        bits = 8 * STORAGE_BYTES[storage]
        small += bits < 64 < width + 32
        fields = {p for p in _leaves(expr) if isinstance(p, Field)}
        for _ in range(8):
            values = {
                leaf: random_.choice((0, mask(leaf.width), random_.getrandbits(leaf.width)))
                for leaf in fields
            }
            value = compiled(expr)(values)
            stored = signed(bits, value & mask(bits))
            assert stored & mask(width) == value, (expr, storage)
    assert small > 100


def _leaves(expr: Expr) -> set[Expr]:
    from generator.ir.effects import subexpressions

    return set(subexpressions(expr))


def test_decisions_are_only_taken_where_encodings_differ(bare_target: MakeTarget) -> None:
    first = Binary(1, "eq", RD, c(0, 3))
    body: Block = (
        If(
            first,
            (If(Binary(1, "ult", RD, c(1, 3)), (wx(RS, c(1)),), (wx(RS, c(2)),)),),
            (wx(RS, c(3)),),
        ),
    )
    plan = specialise(bare_target(forms=(form("one", body),)))
    assert len(plan.executors) == 2
    tree = plan.variants[0].body
    assert isinstance(tree, Node) and isinstance(tree.then, Leaf) and isinstance(tree.otherwise, Leaf)


def test_conditions_of_the_form_are_known(bare_target: MakeTarget) -> None:
    body: Block = (If(Binary(1, "eq", RD, c(5, 3)), (wx(RS, c(1)),), (wx(RS, c(2)),)),)
    when = Binary(1, "ne", RD, c(5, 3))
    plan = specialise(bare_target(forms=(form("one", body, when=when),)))
    assert isinstance(plan.variants[0].body, Leaf)


def test_facts_follow_from_each_other() -> None:
    field = Field(4, "f")
    facts = Facts([Binary(1, "ult", field, c(4, 4))], {})
    assert facts.settled(Binary(1, "eq", field, c(9, 4))) is False
    assert facts.settled(Slice(1, field, 3)) is False
    assert facts.settled(Slice(1, field, 1)) is None
    facts.add(Slice(1, field, 1))
    assert facts.settled(Binary(1, "ule", c(2, 4), field)) is True
    assert facts.settled(Binary(1, "eq", Pc(32), c(0))) is None


def test_decode_time_values_become_one_slot(bare_target: MakeTarget) -> None:
    t = Local(32, "t")
    offset = Binary(32, "shl", Unary(32, "sext", Field(9, "imm")), c(2, 6))
    body: Block = (Let(t, Binary(32, "add", Pc(32), offset)), wx(RD, Binary(32, "add", x(RS), t)))
    plan = specialise(bare_target(forms=(form("one", body),)))
    leaf = plan.variants[0].body
    assert isinstance(leaf, Leaf)
    numbers = [value for value in leaf.values if isinstance(value, NumberValue)]
    assert [number.value for number in numbers] == [Binary(32, "add", Pc(32), offset)]


def test_constant_indices_become_slots_only_to_share(bare_target: MakeTarget) -> None:
    link = form("link", (wx(c(1, 3), x(c(2, 3))),))
    alone = specialise(bare_target(forms=(link,)))
    assert alone.executors[0].slots == ()
    shared = specialise(bare_target(forms=(link, form("move", (wx(RD, x(RS)),)))))
    assert len(shared.executors) == 1
    assert [slot.kind for slot in shared.executors[0].slots] == ["register", "register"]
    assert shared.executors[0].users == ("link", "move")


def test_names_of_locals_do_not_matter(bare_target: MakeTarget) -> None:
    forms = tuple(
        form(name, (Let(Local(32, name), x(RS)), wx(RD, Binary(32, "mul", Local(32, name), Local(32, name)))))
        for name in ("first", "second")
    )
    assert len(specialise(bare_target(forms=forms)).executors) == 1


def test_an_explosion_of_executors_names_the_worst(
    bare_target: MakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUDGETS, "toy", 20)
    bits = tuple(
        If(Slice(1, Field(5, "bits"), n), (wx(c(n + 1, 3), Binary(32, "add", x(c(1, 3)), c(n))),), ())
        for n in range(5)
    )
    with pytest.raises(
        TooManyExecutorsError, match=r"toy needs 32 executors, more than 20.*worst \(test.isa:1\)"
    ):
        specialise(bare_target(forms=(form("worst", bits),)))


def test_dead_bindings_go_but_accesses_stay() -> None:
    a, b = Local(32, "a"), Local(32, "b")
    load = Load(Local(32, "m"), a, "data", c(1, 1))
    body: Block = (Let(a, x(RS)), Let(b, Binary(32, "add", a, c(1))), load)
    assert without_dead(body) == (Let(a, x(RS)), load)


# --- effects ---


def test_effects_include_those_of_called_functions(bare_target: MakeTarget) -> None:
    function = Function(
        name="helper",
        parameters=(),
        results=(32,),
        body=(WriteReg("f", None, c(1, 1)), Raise("bad", c(1), ()), Return((x(c(1, 3)),))),
        span=HERE,
    )
    trap = Trap(name="bad", parameters=(), code=c(1), text="", number=0, span=HERE)
    analysis = Analysis(bare_target(functions=(function,), traps=(trap,)))
    effects = analysis.body((CallStmt((Local(32, "r"),), "helper", (), False),))
    assert effects.reads == {"x"} and effects.writes == {"f"}
    assert effects.traps == {"bad"} and effects.calls == {"helper"} and effects.may_leave


def test_jumps_are_told_apart(bare_target: MakeTarget) -> None:
    analysis = Analysis(bare_target())
    assert analysis.body((Goto(NextPc(32), False, None),)).jumps == {Jump.STATIC}
    assert analysis.body((Goto(x(RS), False, None),)).jumps == {Jump.DYNAMIC}
    store = analysis.body((Store(x(RS), c(0), "phys", c(1, 1)),))
    assert store.stores and store.physical and not store.jumps


def test_inputs_of_contexts_end_blocks(bare_target: MakeTarget) -> None:
    registers = (
        Register(name="mode", width=32, span=HERE),
        Register(name="other", width=32, span=HERE),
        Register(name="root", width=32, span=HERE),
        Register(name="pc", width=32, span=HERE),
    )
    context = ContextVariable(
        name="wide", width=2, value=Slice(2, ReadReg(32, "mode", None), 4), next=None, rest=None
    )
    walk = Function(
        name="walk", parameters=(), results=(32,), body=(Return((ReadReg(32, "root", None),)),), span=HERE
    )
    translate = Function(
        name="translate",
        parameters=(),
        results=(32,),
        body=(CallStmt((Local(32, "r"),), "walk", (), False), Return((Local(32, "r"),))),
        span=HERE,
    )
    target = bare_target(registers=registers, contexts=(context,), functions=(walk, translate))
    assert sensitive(target).decoding == {"mode": 0x30}
    assert sensitive(target).translation == {"root": mask(32)}
    analysis = Analysis(target)
    assert analysis.body((WriteReg("mode", None, c(0)),)).ends_block
    assert analysis.body((WriteReg("root", None, c(0)),)).ends_block
    assert not analysis.body((WriteReg("other", None, c(0)),)).ends_block


def test_a_write_of_a_stepped_context_ends_the_block(bare_target: MakeTarget) -> None:
    rest, width = c(0, 8), 8
    it = ContextVariable(name="it", width=width, value=None, next=rest, rest=rest)
    npc = ContextVariable(name="npc", width=32, value=None, next=c(4), rest=c(4))
    target = bare_target(contexts=(it, npc), forms=(form("it", (WriteReg("it", None, Field(8, "mask")),)),))
    assert sensitive(target).decoding == {"it": 0xFF}
    executor = specialise(target).executors[0]
    assert executor.effects.ends_block and executor.next_pc is not None


def test_decisions_on_contexts_use_their_domain() -> None:
    width = Context(7, "w")
    facts = Facts([], {"w": (16, 32)})
    assert facts.settled(Binary(1, "eq", width, c(64, 7))) is False
    assert facts.settled(Binary(1, "eq", width, c(16, 7))) is None
