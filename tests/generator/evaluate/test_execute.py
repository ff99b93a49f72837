"""Statements of the IR on hand-made bodies: effects, their order, traps, and where to go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from generator.ir.decode import Decoded
from generator.ir.evaluate import Completed, Evaluator, Faulted, Outcome, Trapped
from generator.ir.nodes import (
    Assign,
    Atomic,
    Binary,
    Block,
    CallStmt,
    Const,
    Context,
    Expr,
    Field,
    ForRange,
    ForSet,
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
    Skip,
    Slice,
    Stmt,
    Store,
    Unary,
    WriteReg,
)
from generator.ir.state import SparseMemory, State, reset_state
from generator.model.target import (
    ContextVariable,
    Form,
    Function,
    LazyFlag,
    Register,
    Span,
    Target,
    Trap,
    Variant,
)

HERE = Span(file="test.isa", line=1, column=1)
MakeTarget = Callable[..., Target]


def c(value: int, width: int = 32) -> Const:
    return Const(width, value)


def x(number: int) -> ReadReg:
    return ReadReg(32, "x", c(number, 3))


def write(number: int, value: Expr) -> WriteReg:
    return WriteReg("x", c(number, 3), value)


LITTLE, BIG = c(1, 1), c(0, 1)


def form_of(body: Block, guard: Expr | None = None) -> Form:
    variant = Variant(choices=(), condition=None, guard=guard, body=body)
    return Form(
        name="test",
        mnemonic="test",
        instruction="test",
        set_name="toy",
        needs=(),
        picture=(),
        no_prefix=False,
        mandatory_prefixes=(),
        fields=(),
        operands=(),
        when=None,
        allow=(),
        undefined=(("f", None), ("x", Binary(1, "eq", x(1), c(0)))),
        before=(),
        restartable=False,
        texts=(),
        doc="",
        variants=(variant,),
        span=HERE,
    )


class Machine:
    """A target with one instruction that tests replace."""

    def __init__(self, target: Target, **options: bool) -> None:
        self.evaluator = Evaluator(target, {"fadd": self.fadd}, **options)
        self.memory = SparseMemory(32)
        self.memory.map(0x1000, 0x1000)
        self.state: State = reset_state(target, self.memory)
        self.state.pc = 0x100

    @staticmethod
    def fadd(policy: str, arguments: tuple[int, ...]) -> tuple[int, ...]:
        assert policy == "riscv"
        return (sum(arguments) & 0xFFFFFFFF, 1)

    def decoded(self, body: Block, guard: Expr | None = None, **fields: int) -> Decoded:
        form = form_of(body, guard)
        return Decoded(form, form.variants[0], fields, {}, {}, self.state.pc, 4)

    def run(self, *body: Stmt, guard: Expr | None = None, **fields: int) -> Outcome:
        return self.evaluator.execute(self.state, self.decoded(body, guard, **fields))

    def x(self, number: int) -> int:
        return self.state.files["x"][number]


@pytest.fixture
def machine(bare_target: MakeTarget) -> Machine:
    return Machine(bare_target())


def test_writes_happen_in_order_and_the_zero_register_stays_zero(machine: Machine) -> None:
    result = Binary(32, "add", x(1), c(1))
    assert machine.run(write(0, c(7)), write(1, c(5)), write(2, result), write(3, x(0))) == Completed()
    assert [machine.x(i) for i in range(4)] == [0, 5, 6, 0]
    assert machine.state.pc == 0x104


def test_locals_and_fields(machine: Machine) -> None:
    t, v = Local(32, "t"), Local(32, "v")
    machine.run(
        Let(t, Unary(32, "sext", Field(4, "imm"))),
        Assign(v, t),
        Assign(v, Binary(32, "add", v, Pc(32))),
        write(1, t),
        write(2, v),
        write(3, NextPc(32)),
        imm=0xF,
    )
    assert [machine.x(i) for i in (1, 2, 3)] == [0xFFFFFFFF, 0xFF, 0x104]


def test_memory_follows_the_byte_order(machine: Machine) -> None:
    t, u = Local(32, "t"), Local(16, "u")
    machine.run(
        Store(c(0x1001), c(0x11223344), "data", LITTLE),
        Load(t, c(0x1001), "data", BIG),
        Load(u, c(0x1002), "data", LITTLE),
        write(1, t),
        write(2, Unary(32, "zext", u)),
    )
    assert machine.memory.read(0x1001, 4) == bytes.fromhex("44332211")
    assert (machine.x(1), machine.x(2)) == (0x44332211, 0x2233)


def test_a_trap_keeps_what_was_written_before(machine: Machine) -> None:
    outcome = machine.run(write(1, c(1)), Raise("bad", c(3), (x(1), c(9))), write(2, c(2)))
    assert outcome == Trapped("bad", 3, (1, 9))
    assert (machine.x(1), machine.x(2), machine.state.pc) == (1, 0, 0x100)


def test_a_fault_names_the_first_byte_that_failed(machine: Machine) -> None:
    outcome = machine.run(Store(c(0x1FFE), c(1), "data", LITTLE), write(1, c(1)))
    assert outcome == Faulted(0x2000, "write")
    assert machine.memory.read(0x1FFE, 2) == b"\0\0"
    assert machine.run(Load(Local(8, "t"), c(0x10), "data", LITTLE)) == Faulted(0x10, "read")


def test_probing_for_write(machine: Machine) -> None:
    machine.memory.map(0x5000, 0x1000, "r")
    plain = Load(Local(8, "t"), c(0x5000), "data", LITTLE)
    assert machine.run(plain) == Completed()
    assert machine.run(Load(Local(8, "t"), c(0x5000), "data", LITTLE, True)) == Faulted(0x5000, "write")


def test_loops(machine: Machine) -> None:
    k = Local(4, "k")
    add = WriteReg("x", c(1, 3), Binary(32, "add", Binary(32, "shl", x(1), c(4)), Unary(32, "zext", k)))
    machine.run(ForRange(k, 1, 3, (add,)))
    assert machine.x(1) == 0x123
    machine.run(write(1, c(0)), ForRange(k, 3, 1, (add,)))
    assert machine.x(1) == 0x321
    machine.run(write(1, c(0)), ForSet(k, c(0b10100010, 8), (Atomic((add,)),)))
    assert machine.x(1) == 0x157
    machine.run(write(1, c(9)), ForSet(k, c(0, 8), (add,)))
    assert machine.x(1) == 9


def test_if_and_guard(machine: Machine) -> None:
    choose = If(Binary(1, "ult", x(1), c(5)), (write(2, c(1)),), (write(2, c(2)),))
    machine.run(choose)
    assert machine.x(2) == 1
    machine.run(write(1, c(5)), choose)
    assert machine.x(2) == 2
    assert machine.run(write(2, c(7)), guard=c(0, 1)) == Completed()
    assert (machine.x(2), machine.state.pc) == (2, 0x10C)


def test_goto_without_delay_slots(machine: Machine) -> None:
    machine.run(write(1, c(1)), Goto(c(0x2000), False, None))
    assert (machine.x(1), machine.state.pc) == (1, 0x2000)


def test_undefined_registers_depend_on_the_state_before(machine: Machine) -> None:
    decoded = machine.decoded((write(1, c(1)),))
    assert machine.evaluator.undefined(machine.state, decoded) == ["f", "x"]
    machine.evaluator.execute(machine.state, decoded)
    assert machine.evaluator.undefined(machine.state, decoded) == ["f"]


def test_shared_functions_return_from_loops(bare_target: MakeTarget) -> None:
    k, a = Local(4, "k"), Local(32, "a")
    found = If(Binary(1, "eq", Unary(32, "zext", k), a), (Return((Binary(32, "mul", a, a),)),), ())
    square = Function(
        name="square",
        parameters=(a,),
        results=(32,),
        body=(ForRange(k, 0, 9, (found,)), Return((c(99),))),
        span=HERE,
    )
    machine = Machine(bare_target(functions=(square,)))
    r, s = Local(32, "r"), Local(32, "s")
    machine.run(
        CallStmt((r,), "square", (c(7),), False),
        CallStmt((s,), "square", (c(70),), False),
        write(1, r),
        write(2, s),
    )
    assert (machine.x(1), machine.x(2)) == (49, 99)


def test_built_ins_get_the_policy_and_their_arguments(machine: Machine) -> None:
    r, flags = Local(32, "r"), Local(5, "flags")
    machine.run(
        CallStmt((r, flags), "fadd", (c(32), c(2), c(3)), True),
        write(1, r),
        write(2, Unary(32, "zext", flags)),
    )
    assert (machine.x(1), machine.x(2)) == (37, 1)


def test_lazy_flags_store_their_argument(bare_target: MakeTarget) -> None:
    s = Local(32, "s")
    lazy = LazyFlag(argument=s, definition=Binary(1, "eq", s, c(0)))
    flag = Register(name="zf", width=1, lazy=lazy, span=HERE)
    machine = Machine(bare_target(registers=(*bare_target().registers, flag)))
    machine.run(WriteReg("zf", None, c(0x80)), write(1, Unary(32, "zext", ReadReg(1, "zf", None))))
    assert (machine.state.registers["zf"], machine.x(1)) == (0x80, 0)
    machine.run(WriteReg("zf", None, c(0)), write(1, Unary(32, "zext", ReadReg(1, "zf", None))))
    assert machine.x(1) == 1


NPC = ContextVariable(
    name="npc",
    width=32,
    value=None,
    next=Binary(32, "add", Context(32, "npc"), c(4)),
    rest=Binary(32, "add", Pc(32), c(4)),
)


@pytest.fixture
def sparc_like(bare_target: MakeTarget) -> Machine:
    return Machine(bare_target(contexts=(NPC,)))


@pytest.mark.parametrize(
    ("body", "pc", "npc"),
    [
        ((), 0x104, 0x108),
        ((Goto(c(0x800), True, None),), 0x104, 0x800),
        ((Goto(c(0x800), True, c(0, 1)),), 0x104, 0x800),
        ((Goto(c(0x800), True, c(1, 1)),), 0x800, 0x804),
        ((Goto(c(0x800), False, None),), 0x800, 0x804),
        ((Skip(c(1, 1)),), 0x108, 0x10C),
        ((Skip(c(0, 1)),), 0x104, 0x108),
    ],
)
def test_delay_slots(sparc_like: Machine, body: Block, pc: int, npc: int) -> None:
    assert sparc_like.run(*body) == Completed()
    assert (sparc_like.state.pc, sparc_like.state.contexts["npc"]) == (pc, npc)


def test_a_branch_in_a_delay_slot(sparc_like: Machine) -> None:
    """A couple: the first target runs one instruction, then the second target."""
    sparc_like.run(Goto(c(0x800), True, None))
    sparc_like.run(Goto(c(0x900), True, None))
    assert (sparc_like.state.pc, sparc_like.state.contexts["npc"]) == (0x800, 0x900)
    sparc_like.run(Skip(c(1, 1)))
    assert (sparc_like.state.pc, sparc_like.state.contexts["npc"]) == (0x904, 0x908)


def test_a_trap_in_a_delay_slot_keeps_both_counters(sparc_like: Machine) -> None:
    sparc_like.run(Goto(c(0x800), True, None))
    assert isinstance(sparc_like.run(Raise("bad", c(1), ())), Trapped)
    assert (sparc_like.state.pc, sparc_like.state.contexts["npc"]) == (0x104, 0x800)


def test_stepped_contexts(bare_target: MakeTarget) -> None:
    """As IT: it counts down by itself, and an instruction that writes it isn't stepped as well."""
    it = Context(4, "it")
    step = Binary(4, "sub", it, Const(4, 1))
    counter = ContextVariable(name="it", width=4, value=None, next=step, rest=Const(4, 0))
    machine = Machine(bare_target(contexts=(counter,)))
    machine.run(WriteReg("it", None, Const(4, 5)))
    assert machine.state.contexts["it"] == 5
    machine.run(write(1, Unary(32, "zext", it)))
    assert (machine.x(1), machine.state.contexts["it"]) == (5, 4)
    machine.run(Goto(c(0x800), False, None))
    assert (machine.state.pc, machine.state.contexts["it"]) == (0x800, 0)
    machine.run(WriteReg("it", None, Const(4, 7)), Goto(c(0x100), False, None))
    assert machine.state.contexts["it"] == 7


def test_system_mode_translates_page_by_page(bare_target: MakeTarget) -> None:
    va, access = Local(32, "va"), Local(2, "access")
    page = Slice(20, va, 12)
    bad = Binary(1, "eq", page, Const(20, 0x33))
    physical = Unary(64, "zext", Binary(32, "xor", va, c(0x10000)))
    translate = Function(
        name="translate",
        parameters=(va, access),
        results=(64,),
        body=(
            If(bad, (Raise("page", c(13), (Unary(64, "zext", va), Unary(64, "zext", access))),), ()),
            Return((physical,)),
        ),
        span=HERE,
    )
    trap = Trap(name="page", parameters=(), code=c(13), text="", number=4, span=HERE)
    machine = Machine(bare_target(functions=(translate,), traps=(trap,)), system=True)
    machine.memory.map(0x20000, 0x8000)
    machine.run(Store(c(0x30FFE), c(0x11223344), "data", LITTLE))
    assert machine.memory.read(0x20FFE, 4) == bytes.fromhex("44332211")
    crossing = machine.run(Store(c(0x32FFE), c(0xFFFFFFFF), "data", LITTLE))
    assert crossing == Trapped("page", 13, (0x33000, 1))
    assert machine.memory.read(0x22FFE, 2) == b"\0\0"
    machine.run(Store(c(0x21000), c(5), "phys", LITTLE))
    assert machine.memory.read(0x21000, 1) == b"\5"


def test_stepped_contexts_with_a_register_of_their_name(bare_target: MakeTarget) -> None:
    """The spec may declare the storage; a state may hold the value as a register or as a context."""
    register = Register(name="it", width=4, span=HERE)
    counter = ContextVariable(
        name="it", width=4, value=None, next=Binary(4, "shl", Context(4, "it"), Const(1, 1)), rest=Const(4, 0)
    )
    target = bare_target(contexts=(counter,), registers=(*bare_target().registers, register))
    machine = Machine(target)
    assert "it" not in machine.state.registers
    for as_register in (False, True):
        if as_register:
            machine.state.contexts.clear()
            machine.state.registers["it"] = 0
        machine.run(WriteReg("it", None, Const(4, 3)))
        machine.run(write(1, Unary(32, "zext", Context(4, "it"))))
        stored = machine.state.registers if as_register else machine.state.contexts
        assert (machine.x(1), stored["it"]) == (3, 6)
        assert machine.evaluator.read(machine.state, "it", None, 4) == 6
