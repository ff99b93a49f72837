"""Statements, compiled: memory, traps, loops, jumps, guards, delay slots, block ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from generator.ir.executor import NOTHING, Leaf, Node
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
    Select,
    Skip,
    Slice,
    Store,
    Unary,
    WriteReg,
)
from generator.model.target import ContextVariable, Form, Function, Register, Target, Trap
from runtime.cpu import block
from runtime.cpu.exits import Reason
from tests.generator.executors.harness import HERE, PAGE, Compiled, form, leaf_of, values_of

MakeTarget = Callable[..., Target]
LITTLE, BIG = Const(1, 1), Const(1, 0)
VALUE = Const(64, 0x1122334455667788)


def c(value: int, width: int = 64) -> Const:
    return Const(width, value)


def x(index: Expr | int) -> ReadReg:
    return ReadReg(64, "x", Const(5, index) if isinstance(index, int) else index)


def wx(index: Expr | int, value: Expr) -> WriteReg:
    return WriteReg("x", Const(5, index) if isinstance(index, int) else index, value)


def add(left: Expr, right: Expr) -> Expr:
    return Binary(left.width, "add", left, right)


RD, RS1, RS2 = Field(5, "rd"), Field(5, "rs1"), Field(5, "rs2")
IMM = Unary(64, "sext", Field(12, "imm"))
ADDRESS = add(x(RS1), IMM)
A, B, W = Local(64, "a"), Local(64, "b"), Local(128, "w")


def load(width: int, little: Const = LITTLE, *, probe: bool = False) -> Block:
    local = Local(width, "value")
    value: Expr = local if width == 64 else Unary(64, "sext", local)
    return (Load(local, ADDRESS, "data", little, probe), wx(RD, value))


def store(width: int, little: Const = LITTLE) -> Block:
    value: Expr = x(RS2) if width == 64 else Slice(width, x(RS2), 0)
    return (Store(ADDRESS, value, "data", little),)


TARGET = add(Pc(64), Unary(64, "sext", Field(13, "to")))
EQUAL = Binary(1, "eq", x(RS1), x(RS2))
BODIES: dict[str, Block] = {
    "addi": (wx(RD, add(x(RS1), IMM)),),
    "c_addi": (wx(RD, add(x(RD), Unary(64, "sext", Field(6, "imm")))),),
    "c_addi16sp": (wx(2, add(x(2), Binary(64, "shl", Unary(64, "sext", Field(6, "imm")), c(4, 6)))),),
    "zero": (wx(0, add(x(1), x(2))), wx(3, x(0))),
    "load32": load(32),
    "load64": load(64),
    "load16_big": load(16, BIG),
    "probe": load(32, probe=True),
    "store32": store(32),
    "store64_big": store(64, BIG),
    "store8": store(8),
    "wide": (
        Load(W, ADDRESS, "data", LITTLE),
        WriteReg("v", Field(2, "vd"), W),
        Store(add(ADDRESS, c(16)), ReadReg(128, "v", Field(2, "vd")), "data", BIG),
    ),
    "physical": (Load(A, ADDRESS, "phys", LITTLE), Store(add(ADDRESS, c(8)), A, "phys", LITTLE)),
    "beq": (If(EQUAL, (Goto(TARGET, False, None),), ()),),
    "either": (If(EQUAL, (Goto(TARGET, False, None),), (Goto(add(TARGET, c(64)), False, None),)),),
    "jal": (wx(RD, NextPc(64)), Goto(TARGET, False, None)),
    "first": (If(EQUAL, (Goto(TARGET, False, None),), ()), Goto(add(TARGET, c(64)), False, None)),
    "jalr": (
        Let(A, Binary(64, "and", ADDRESS, c((1 << 64) - 2))),
        wx(RD, NextPc(64)),
        Goto(A, False, None),
    ),
    "check": (
        If(Binary(1, "slt", x(RS1), c(0)), (Raise("bad", c(3), (x(RS1), Pc(64))),), ()),
        wx(RD, c(1)),
    ),
    "always": (Raise("worse", Field(4, "code"), ()),),
    "sum": (
        Assign(A, c(0)),
        ForRange(Local(5, "i"), 1, 7, (Assign(A, add(A, x(Local(5, "i")))),)),
        wx(RD, A),
    ),
    "down": (
        Assign(A, c(0)),
        ForRange(
            Local(5, "i"),
            7,
            5,
            (Assign(A, add(Binary(64, "shl", A, c(8)), Unary(64, "zext", Local(5, "i")))),),
        ),
        wx(RD, A),
    ),
    "set": (
        Assign(A, x(RS1)),
        ForSet(
            Local(5, "k"),
            Field(16, "mask"),
            (Store(A, x(Local(5, "k")), "data", LITTLE), Assign(A, add(A, c(8)))),
        ),
        wx(RD, A),
    ),
    "indexed": (wx(Slice(5, x(RS1), 0), c(42)), wx(7, x(Slice(5, x(RS2), 0)))),
    "merge": (
        Assign(A, Unary(64, "zext", Field(4, "code"))),
        If(
            EQUAL,
            (Assign(A, c(100)),),
            (If(Binary(1, "eq", Field(4, "code"), c(1, 4)), (Assign(A, c(7)),), ()),),
        ),
        wx(RD, A),
    ),
    "decide": (
        If(
            Binary(1, "eq", Field(4, "code"), c(0, 4)),
            (wx(RD, x(RS1)),),
            (
                wx(
                    RD,
                    Select(64, Binary(1, "ult", Field(4, "code"), c(8, 4)), x(RS2), Unary(64, "neg", x(RS2))),
                ),
            ),
        ),
    ),
    "call": (
        CallStmt((A,), "twice", (x(RS1),), False),
        CallStmt((), "note", (A,), False),
        wx(RD, A),
    ),
    "risky": (CallStmt((A,), "checked", (x(RS1),), False), wx(RD, A)),
    "mode": (WriteReg("status", None, x(RS1)),),
    "mode_call": (CallStmt((), "set_status", (x(RS1),), False), wx(RD, c(5))),
    "mode_jump": (WriteReg("status", None, x(RS1)), Goto(x(RS2), False, None)),
    "count": (wx(RD, ReadReg(64, "instret", None)),),
    "atomic": (
        Atomic((Load(A, ADDRESS, "data", LITTLE, True), Store(ADDRESS, add(A, x(RS2)), "data", LITTLE))),
        wx(RD, A),
    ),
}
FUNCTIONS = (
    Function(name="twice", parameters=(A,), results=(64,), body=(Return((add(A, A),)),), span=HERE),
    Function(
        name="note", parameters=(A,), results=(), body=(wx(9, add(A, ReadReg(64, "pc", None))),), span=HERE
    ),
    Function(
        name="checked",
        parameters=(A,),
        results=(64,),
        body=(
            If(Binary(1, "ult", A, c(10)), (Return((c(1),)),), ()),
            Load(B, A, "data", LITTLE),
            If(Binary(1, "eq", B, c(0)), (Raise("bad", c(1), (A,)),), ()),
            Return((B,)),
        ),
        span=HERE,
    ),
    Function(name="set_status", parameters=(A,), results=(), body=(WriteReg("status", None, A),), span=HERE),
    Function(
        name="translate",
        parameters=(A, Local(2, "access")),
        results=(64,),
        body=(Return((Select(64, Slice(1, ReadReg(64, "status", None), 8), A, c(0)),)),),
        span=HERE,
    ),
)
REGISTERS = (
    Register(name="x", width=64, count=32, zero=0, span=HERE),
    Register(name="v", width=128, count=4, span=HERE),
    Register(name="status", width=64, span=HERE),
    Register(name="instret", width=64, span=HERE),
    Register(name="pc", width=64, span=HERE),
)
TRAPS = tuple(
    Trap(name=name, parameters=(), code=c(0), text=name, number=number, span=HERE)
    for number, name in enumerate(("bad", "worse"))
)
CONTEXTS = (
    ContextVariable(
        name="fast", width=1, value=Slice(1, ReadReg(64, "status", None), 4), next=None, rest=None
    ),
)


class Machine(Compiled):
    """Runs one form's executor by name."""

    def decoded(self, name: str, **fields: int) -> tuple[Leaf, Callable[[Expr], int]]:
        position = next(n for n, form in enumerate(self.target.forms) if form.name == name)
        widths = {"rd": 5, "rs1": 5, "rs2": 5, "imm": 12, "to": 13, "code": 4, "mask": 16, "vd": 2, "cond": 2}
        names = {Field(widths[key], key): value for key, value in fields.items()}
        if "imm" in fields and name.startswith("c_"):
            names[Field(6, "imm")] = fields["imm"]
        values = values_of(names)

        def full(expr: Expr) -> int:
            match expr:
                case Pc():
                    return 0x1000
                case NextPc():
                    return 0x1004
                case Binary(op="add", left=left, right=right):
                    return (full(left) + full(right)) & ((1 << 64) - 1)
            return values(expr)

        return leaf_of(self.plan.variants[position].body, names), full

    def step(self, name: str, targets: dict[int, int] | None = None, **fields: int) -> tuple[int, int, int]:
        """Run one instruction, then stop. Returns budget left of 10, the reason, and how many bytes on."""
        leaf, values = self.decoded(name, **fields)
        behind = self.record(0, leaf, values, targets)
        self.stop(behind)
        self.set_header(block.ATTENTION, 0)
        left, reason, at = self.run(10)
        return left, reason, at - behind


@pytest.fixture(scope="module")
def machine(bare_target: MakeTarget, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    forms = tuple(form(name, body) for name, body in BODIES.items())
    guarded = form("guarded", (wx(RD, c(9)),), guard=Binary(1, "ne", x(RS1), c(0)))
    target = bare_target(
        registers=REGISTERS,
        traps=TRAPS,
        functions=FUNCTIONS,
        contexts=CONTEXTS,
        forms=(*forms, guarded),
        pc_width=64,
    )
    return Machine(target, tmp_path_factory.mktemp("statements"))


DONE = (9, Reason.BREAKPOINT, 0)


def test_equal_behaviours_share_an_executor(machine: Machine) -> None:
    leaves = [
        machine.decoded(name, rd=1, rs1=1, rs2=1, imm=3)[0].executor
        for name in ("addi", "c_addi", "c_addi16sp")
    ]
    assert len(set(leaves)) == 1
    assert machine.executor(Leaf(leaves[0], ())).size == 8
    assert machine.executor(Leaf(leaves[0], ())).users == ("addi", "c_addi", "c_addi16sp")


def test_registers_and_immediates(machine: Machine) -> None:
    machine.set("x", 100, 5)
    assert machine.step("addi", rd=6, rs1=5, imm=0xFFF) == DONE
    assert machine.get("x", 6) == 99
    assert machine.step("c_addi", rd=6, imm=0x20) == DONE
    assert machine.get("x", 6) == 67
    machine.set("x", 0x8000, 2)
    assert machine.step("c_addi16sp", imm=0x3F) == DONE
    assert machine.get("x", 2) == 0x8000 - 16


def test_the_zero_register_stays_zero(machine: Machine) -> None:
    machine.set("x", 7, 3)
    assert machine.step("addi", rd=0, rs1=3, imm=1) == DONE
    assert machine.get("x", 0) == 0
    assert machine.step("zero") == DONE
    assert machine.get("x", 3) == 0
    machine.set("x", 0, 1)
    machine.set("x", 32, 2)
    assert machine.step("indexed", rs1=1, rs2=2) == DONE
    assert (machine.get("x", 0), machine.get("x", 7)) == (0, 0)


@pytest.mark.parametrize("fast", [True, False])
def test_memory(machine: Machine, fast: bool) -> None:
    machine.map(0x7000, fast=fast)
    machine.slow.clear()
    machine.memory[:PAGE] = bytes(range(0x80, 0x90)) + bytes(PAGE - 16)
    machine.set("x", 0x7001, 1)
    assert machine.step("load32", rd=2, rs1=1, imm=2) == DONE
    assert machine.get("x", 2) == 0xFFFFFFFF86858483
    assert machine.step("load64", rd=2, rs1=1, imm=0) == DONE
    assert machine.get("x", 2) == 0x8887868584838281
    assert machine.step("load16_big", rd=2, rs1=1, imm=0) == DONE
    assert machine.get("x", 2) == 0xFFFFFFFFFFFF8182
    machine.set("x", 0x1122334455667788, 3)
    for name, expected in (
        ("store32", "88776655"),
        ("store64_big", "1122334455667788"),
        ("store8", "88"),
    ):
        assert machine.step(name, rs1=1, rs2=3, imm=0x40) == DONE
        assert machine.memory[0x41 : 0x41 + len(expected) // 2].hex() == expected
    assert machine.step("wide", rs1=1, vd=3, imm=0) == DONE
    assert machine.get("v", 3).to_bytes(16, "little") == machine.memory[1:17]
    assert machine.memory[17:33] == machine.memory[1:17][::-1]
    assert machine.step("atomic", rd=4, rs1=1, rs2=3, imm=0x7F) == DONE
    assert machine.memory[0x80:0x88].hex() == "8877665544332211"
    assert bool(machine.slow) is not fast
    machine.slow.clear()
    assert machine.step("atomic", rd=4, rs1=1, rs2=3, imm=0x90) == DONE
    assert machine.memory[0x91:0x99].hex() == "8877665544332211"
    assert machine.slow[-1] == ("exchange", 0x7091, 8), "what isn't aligned isn't exchanged directly"


def test_accesses_across_a_page_are_slow(machine: Machine) -> None:
    machine.map(0x7000, fast=True)
    machine.slow.clear()
    machine.set("x", 0x7000 + PAGE - 3, 1)
    assert machine.step("load32", rd=2, rs1=1, imm=0)[:2] == (10, Reason.FAULT)
    assert machine.slow == [("load", 0x7000 + PAGE - 3, 4)]
    machine.set("x", 0x7000 + PAGE - 4, 1)
    assert machine.step("load32", rd=2, rs1=1, imm=0) == DONE


def test_a_failed_access_leaves_without_effects(machine: Machine) -> None:
    machine.map(0x7000, fast=False)
    machine.set("x", 0x9000, 1)
    machine.set("x", 77, 2)
    for name in ("load32", "probe", "store8", "physical", "atomic", "risky"):
        leaf, values = machine.decoded(name, rd=2, rs1=1, rs2=2, imm=0)
        machine.stop(machine.record(0, leaf, values))
        assert machine.run(10) == (10, Reason.FAULT, 0), name
        assert machine.get("x", 2) == 77


def test_read_modify_write_asks_for_both(machine: Machine) -> None:
    machine.map(0x7000, fast=False)
    machine.slow.clear()
    machine.set("x", 0x7000, 1)
    assert machine.step("probe", rd=2, rs1=1, imm=8) == DONE
    assert machine.slow == [("probe", 0x7008, 4), ("load", 0x7008, 4)]


def test_physical_memory(machine: Machine) -> None:
    machine.map(0x7000, fast=True)
    machine.slow.clear()
    machine.memory[8:16] = b"physical"
    machine.set("x", 0x7000, 1)
    assert machine.step("physical", rs1=1, imm=8) == DONE
    assert machine.memory[16:24] == b"physical"
    assert machine.slow == [("load", 0x7008, 8), ("store", 0x7010, 8)]


def test_static_jumps(machine: Machine) -> None:
    machine.stop(1024)
    machine.stop(1088)
    machine.set("x", 5, 1)
    machine.set("x", 5, 2)
    targets = {0x1000 + 0x400: 1024, 0x1000 + 0x440: 1088}
    leaf, values = machine.decoded("beq", rs1=1, rs2=2, to=0x400)
    behind = machine.record(0, leaf, values, targets)
    machine.stop(behind)
    assert machine.run(10) == (9, Reason.BREAKPOINT, 1024)
    machine.set("x", 6, 2)
    assert machine.run(10) == (9, Reason.BREAKPOINT, behind)
    for name in ("either", "first"):
        leaf, values = machine.decoded(name, rs1=1, rs2=2, to=0x400)
        machine.record(0, leaf, values, targets)
        machine.set("x", 6, 2)
        assert machine.run(10) == (9, Reason.BREAKPOINT, 1088)
        machine.set("x", 5, 2)
        assert machine.run(10) == (9, Reason.BREAKPOINT, 1024)
    leaf, values = machine.decoded("jal", rd=9, to=0x400)
    machine.record(0, leaf, values, targets)
    assert machine.run(10) == (9, Reason.BREAKPOINT, 1024)
    assert machine.get("x", 9) == 0x1004


def test_dynamic_jumps(machine: Machine) -> None:
    machine.set("x", 0x123457, 1)
    leaf, values = machine.decoded("jalr", rd=1, rs1=1, imm=2)
    machine.stop(machine.record(0, leaf, values))
    assert machine.run(10)[:2] == (9, Reason.LOOKUP)
    assert machine.header(block.PC) == 0x123458
    assert machine.get("x", 1) == 0x1004
    machine.stop(2048)
    machine.cache_jump(0x123458, 2048)
    machine.set("x", 0x123457, 1)
    assert machine.run(10) == (9, Reason.BREAKPOINT, 2048)


def test_budget_is_exact(machine: Machine) -> None:
    leaf, values = machine.decoded("c_addi", rd=5, imm=1)
    offset = 0
    for _ in range(6):
        offset = machine.record(offset, leaf, values)
    machine.stop(offset)
    for budget in range(8):
        machine.set("x", 0, 5)
        left, reason, at = machine.run(budget)
        done = min(budget, 6)
        assert (left, machine.get("x", 5), at) == (budget - done, done, 8 * done)
        assert reason == (Reason.BREAKPOINT if budget >= 6 and at == 48 else Reason.BUDGET)


def test_traps(machine: Machine) -> None:
    machine.set("x", -5 & (1 << 64) - 1, 1)
    machine.set("x", 0, 2)
    assert machine.step("check", rd=2, rs1=1)[:2] == (10, Reason.TRAP)
    assert machine.get("x", 2) == 0
    assert machine.header(block.TRAP_NUMBER) == 0
    assert machine.header(block.TRAP_CODE) == 3
    assert machine.header(block.TRAP_ARGUMENTS) == (1 << 64) - 5
    assert machine.header(block.TRAP_ARGUMENTS + 8) == 0x1000
    machine.set("x", 5, 1)
    assert machine.step("check", rd=2, rs1=1) == DONE
    assert machine.get("x", 2) == 1
    assert machine.step("always", code=9)[:2] == (10, Reason.TRAP)
    assert (machine.header(block.TRAP_NUMBER), machine.header(block.TRAP_CODE)) == (1, 9)


def test_loops(machine: Machine) -> None:
    for index in range(1, 16):
        machine.set("x", 10**index, index)
    assert machine.step("sum", rd=20) == DONE
    assert machine.get("x", 20) == 11111110
    assert machine.step("down", rd=20) == DONE
    assert machine.get("x", 20) == 0x070605
    machine.map(0x7000, fast=True)
    machine.set("x", 0x7000, 31)
    assert machine.step("set", rd=20, rs1=31, mask=0b1000_0000_0010_0100) == DONE
    stored = [int.from_bytes(machine.memory[at : at + 8], "little") for at in (0, 8, 16)]
    assert stored == [10**2, 10**5, 10**15]
    assert machine.get("x", 20) == 0x7018
    assert machine.step("set", rd=20, rs1=31, mask=0) == DONE
    assert machine.get("x", 20) == 0x7000


def test_dynamic_indices(machine: Machine) -> None:
    machine.set("x", 0xFFE4, 1)
    machine.set("x", 4, 2)
    assert machine.step("indexed", rs1=1, rs2=2) == DONE
    assert (machine.get("x", 4), machine.get("x", 7)) == (42, 42)


def test_variables_keep_decode_time_values_across_branches(machine: Machine) -> None:
    machine.set("x", 1, 1)
    machine.set("x", 1, 2)
    for code, other, expected in ((3, 1, 100), (3, 2, 3), (1, 2, 7)):
        machine.set("x", other, 2)
        assert machine.step("merge", rd=3, rs1=1, rs2=2, code=code) == DONE
        assert machine.get("x", 3) == expected


def test_decisions(machine: Machine) -> None:
    machine.set("x", 11, 1)
    machine.set("x", 22, 2)
    for code, expected in ((0, 11), (1, 22), (7, 22), (8, -22 & (1 << 64) - 1)):
        assert machine.step("decide", rd=3, rs1=1, rs2=2, code=code) == DONE
        assert machine.get("x", 3) == expected
    tree = machine.plan.variants[list(BODIES).index("decide")].body
    assert isinstance(tree, Node) and isinstance(tree.then, Leaf) and isinstance(tree.otherwise, Node)


def test_shared_functions(machine: Machine) -> None:
    machine.set("x", 21, 1)
    assert machine.step("call", rd=2, rs1=1) == DONE
    assert (machine.get("x", 2), machine.get("x", 9)) == (42, 42 + 0x1000)
    machine.map(0x7000, fast=True)
    machine.memory[0x10:0x20] = bytes(8) + b"\x05" + bytes(7)
    for address, expected in ((3, 1), (0x7018, 5)):
        machine.set("x", address, 1)
        assert machine.step("risky", rd=2, rs1=1) == DONE
        assert machine.get("x", 2) == expected
    machine.set("x", 0x7010, 1)
    assert machine.step("risky", rd=2, rs1=1)[:2] == (10, Reason.TRAP)
    assert machine.header(block.TRAP_ARGUMENTS) == 0x7010


@pytest.mark.parametrize("name", ["mode", "mode_call"])
def test_blocks_end_where_decoding_depends_on_the_write(machine: Machine, name: str) -> None:
    machine.set("status", 0x10)
    for value, reason, attention in (
        (0x1F, Reason.BREAKPOINT, 0),
        (0x0F, Reason.DISPATCH, None),
        (0x10F, Reason.DISPATCH, 4),
        (0x10F, Reason.BREAKPOINT, 0),
    ):
        machine.set("x", value, 1)
        assert machine.step(name, rd=2, rs1=1)[:2] == (9, reason)
        assert machine.get("status") == value
        if reason == Reason.DISPATCH:
            assert machine.header(block.PC) == 0x1004
        if attention is not None:
            assert machine.header(block.ATTENTION) & 4 == attention


def test_a_jump_that_ends_its_block_goes_through_the_run_loop(machine: Machine) -> None:
    machine.set("x", 0x0F, 1)
    machine.set("x", 0x4444, 2)
    assert machine.step("mode_jump", rs1=1, rs2=2)[:2] == (9, Reason.DISPATCH)
    assert machine.header(block.PC) == 0x4444


def test_the_instruction_count_is_exact_inside_a_run(machine: Machine) -> None:
    machine.set_header(block.RETIRED, 1000)
    machine.set_header(block.ENTRY_BUDGET, 10)
    leaf, values = machine.decoded("c_addi", rd=5, imm=1)
    offset = machine.record(machine.record(0, leaf, values), leaf, values)
    leaf, values = machine.decoded("count", rd=6)
    machine.stop(machine.record(offset, leaf, values))
    assert machine.run(10)[0] == 7
    assert machine.get("x", 6) == 1002


def test_guards_are_records_of_their_own(machine: Machine) -> None:
    plan = machine.plan.variants[-1]
    assert isinstance(plan.guard, Leaf) and plan.guard.executor != NOTHING
    names = {Field(5, "rd"): 4, Field(5, "rs1"): 1}
    leaf = leaf_of(plan.body, names)
    size = machine.executor(leaf).size
    behind = machine.record(0, plan.guard, values_of(names), {-1: size})
    end = machine.record(behind, leaf, values_of(names))
    machine.stop(end)
    for condition, expected in ((1, 9), (0, 3)):
        machine.set("x", condition, 1)
        machine.set("x", 3, 4)
        assert machine.run(10) == (9, Reason.BREAKPOINT, end)
        assert machine.get("x", 4) == expected
    machine.set("x", 0, 1)
    assert machine.run(0) == (0, Reason.BUDGET, 0)


def test_contexts_with_a_domain_bound_the_decisions(bare_target: MakeTarget, tmp_path: Path) -> None:
    width = Context(7, "w")
    body: Block = (
        If(
            Binary(1, "eq", width, c(16, 7)),
            (wx(1, c(16)),),
            (If(Binary(1, "eq", width, c(64, 7)), (wx(1, c(64)),), (wx(1, c(32)),)),),
        ),
    )
    context = ContextVariable(name="w", width=7, value=None, next=None, rest=None, domain=(16, 32))
    target = bare_target(registers=REGISTERS, contexts=(context,), forms=(form("one", body),), pc_width=64)
    tree = Compiled(target, tmp_path).plan.variants[0].body
    assert isinstance(tree, Node) and isinstance(tree.then, Leaf) and isinstance(tree.otherwise, Leaf)


# --- delay slots ---


def delayed_forms() -> tuple[Form, ...]:
    target = add(Pc(64), Unary(64, "sext", Field(13, "to")))
    annul = Binary(1, "eq", Field(2, "cond"), c(1, 2))
    return (
        form("inc", (wx(RD, add(x(RD), c(1))),)),
        form("branch", (If(EQUAL, (Goto(target, True, annul),), (Skip(annul),)),)),
        form("jump", (Let(A, x(RS1)), wx(RD, Pc(64)), Goto(A, True, None))),
    )


@pytest.fixture(scope="module")
def delayed(bare_target: MakeTarget, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    target = bare_target(registers=REGISTERS, forms=delayed_forms(), pc_width=64)
    return Machine(target, tmp_path_factory.mktemp("delayed"))


@pytest.mark.parametrize(
    ("equal", "annul", "slot", "landed"),
    [(True, 0, 1, True), (True, 1, 0, True), (False, 0, 1, False), (False, 1, 0, False)],
)
def test_delay_slots(delayed: Machine, equal: bool, annul: int, slot: int, landed: bool) -> None:
    size = delayed.plan.record_size
    assert size is not None
    leaf, values = delayed.decoded("branch", rs1=1, rs2=2, to=0x800, cond=annul)
    inc = delayed.decoded("inc", rd=5)
    offset = delayed.record(0, leaf, values, {0x1800: 2048})
    offset = delayed.record(offset, *inc)
    delayed.stop(offset)
    delayed.stop(2048)
    delayed.set("x", 1, 1)
    delayed.set("x", 1 if equal else 2, 2)
    delayed.set("x", 0, 5)
    left, reason, at = delayed.run(10, 0, size)
    assert (left, reason) == (9 - slot, Reason.BREAKPOINT)
    assert delayed.get("x", 5) == slot
    assert at == (2048 if landed else offset)


def test_dynamic_jumps_with_delay_slots(delayed: Machine) -> None:
    size = delayed.plan.record_size
    assert size is not None
    offset = delayed.record(0, *delayed.decoded("jump", rs1=1, rd=3))
    offset = delayed.record(offset, *delayed.decoded("inc", rd=5))
    delayed.stop(offset)
    delayed.stop(2048)
    delayed.set("x", 0x5550, 1)
    delayed.set("x", 0, 5)
    assert delayed.run(10, 0, size) == (9, Reason.LOOKUP_NEXT, size)
    assert delayed.header(block.PC) == 0x5550
    delayed.cache_jump(0x5550, 2048)
    assert delayed.run(10, 0, size) == (8, Reason.BREAKPOINT, 2048)
    assert (delayed.get("x", 5), delayed.get("x", 3)) == (1, 0x1000)
