"""System mode on a toy with translation, traps, interrupts and waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from generator.ir.nodes import (
    Binary,
    Block,
    Const,
    Field,
    Goto,
    If,
    Let,
    Local,
    Raise,
    ReadReg,
    Return,
    Slice,
    Stmt,
    Unary,
    WriteReg,
)
from generator.model.target import Function, Register, Target, Trap
from runtime.cpu.engine import Cpu, TargetPackage
from runtime.cpu.exits import Reason
from runtime.memory.regions import READ
from runtime.memory.space import AddressSpace
from tests.runtime.cpu.toy import HERE, WIDTH, c, encode, form, long_picture, short, toy_target, x

BASE, VECTOR = 0x1000, 0x1800
RETURN, WAIT, BASE_TO, FORGET, ENABLE = range(20, 25)


def state(name: str, width: int = WIDTH) -> ReadReg:
    return ReadReg(width, name, None)


def put(name: str, value: object) -> Stmt:
    return WriteReg(name, None, value)  # type: ignore[arg-type]


def both(left: ReadReg, right: ReadReg) -> Binary:
    return Binary(1, "and", left, right)


def function(
    name: str, parameters: tuple[tuple[str, int], ...], results: tuple[int, ...], body: Block
) -> Function:
    locals_ = tuple(Local(width, parameter) for parameter, width in parameters)
    return Function(name=name, parameters=locals_, results=results, body=body, span=HERE)


def enter(cause: Const | Slice) -> Block:
    return (put("epc", ReadReg(WIDTH, "pc", None)), put("cause", cause), put("pc", state("vector")))


VA = Local(WIDTH, "va")
PAGE_FAULT = Raise("page", c(13, 64), (Unary(64, "zext", VA),))
FUNCTIONS = (
    function(
        "translate",
        (("va", WIDTH), ("access", 2)),
        (64,),
        (
            If(Slice(1, VA, 31), (PAGE_FAULT,), ()),
            Return((Unary(64, "zext", Binary(WIDTH, "add", VA, state("base"))),)),
        ),
    ),
    function("access_fault", (("va", WIDTH), ("access", 2)), (), (PAGE_FAULT,)),
    function(
        "take_trap", (("trap", 8), ("code", 64), ("value", 64)), (), enter(Slice(32, Local(64, "code"), 0))
    ),
    function(
        "pending_interrupt",
        (),
        (1,),
        (
            If(state("pending", 1), (put("waiting", Const(1, 0)),), ()),
            If(
                both(state("pending", 1), state("enabled", 1)),
                (put("enabled", Const(1, 0)), *enter(c(99)), Return((Const(1, 1),))),
                (),
            ),
            Return((Const(1, 0),)),
        ),
    ),
)


def system_toy() -> Target:
    plain = toy_target()
    names = {"base": WIDTH, "vector": WIDTH, "epc": WIDTH, "cause": WIDTH}
    flags = ("pending", "enabled", "waiting", "translations")
    registers = [Register(name=n, width=w, span=HERE) for n, w in names.items()]
    registers += [Register(name=n, width=1, span=HERE) for n in flags]
    to = Local(WIDTH, "to")
    forms = [
        form(
            "return",
            long_picture(RETURN),
            (Let(to, state("epc")), put("enabled", Const(1, 1)), Goto(to, False, None)),
        ),
        form("wait", long_picture(WAIT), (put("waiting", Const(1, 1)),)),
        form("base", long_picture(BASE_TO), (put("base", x("rs1")),)),
        form("forget", long_picture(FORGET), (put("translations", Const(1, 1)),)),
        form("enable", long_picture(ENABLE), (put("enabled", Slice(1, Field(12, "imm"), 0)),)),
    ]
    page = Trap(name="page", parameters=(("va", 32),), code=c(13, 64), text="", number=2, span=HERE)
    return toy_target(
        name="system_toy",
        registers=(*plain.registers[:-1], *registers, plain.registers[-1]),
        forms=(*plain.forms, *forms),
        traps=(*plain.traps, page),
        functions=FUNCTIONS,
    )


def code(op: int, rs1: int = 0, imm: int = 0) -> bytes:
    return (imm << 20 | rs1 << 14 | op << 2 | 3).to_bytes(4, "little")


@pytest.fixture(scope="module")
def system(build_package: Callable[[Target], TargetPackage]) -> TargetPackage:
    return build_package(system_toy())


def machine(package: TargetPackage, *program: bytes, handler: bytes = b"") -> Cpu:
    memory = AddressSpace()
    memory.map(BASE, 0x1000)
    memory.write(BASE, b"".join(program))
    memory.write(VECTOR, handler)
    cpu = Cpu(package, memory, system=True)
    cpu.set("vector", VECTOR)
    cpu.pc = BASE
    return cpu


def test_a_trap_enters_the_handler_and_costs_one(system: TargetPackage) -> None:
    skip = encode("addi", rd=7, rs1=7, imm=1)
    cpu = machine(system, encode("addi", rd=1, imm=5), encode("ecall"), handler=skip + encode("jal", imm=-2))
    assert cpu.run(2).reason is Reason.BUDGET
    assert (cpu.pc, cpu.get("epc"), cpu.get("cause"), cpu.executed) == (VECTOR, BASE + 4, 8, 1)
    cpu.run(10)
    assert (cpu.get("x7"), cpu.executed) == (5, 11)


def test_traps_without_a_handler_end_with_the_budget(system: TargetPackage) -> None:
    cpu = machine(system, encode("ecall"))
    cpu.set("vector", 0x80000000)  # can't be fetched, so the trap's handler traps, and so on
    assert cpu.run(100_000).reason is Reason.BUDGET
    assert (cpu.executed, cpu.get("cause")) == (0, 13)


def test_traps_for_the_caller(system: TargetPackage) -> None:
    cpu = machine(system, encode("ecall"))
    caller = Cpu(system, cpu.memory, system=True, exit_traps=("call",))
    caller.pc = BASE
    stop = caller.run(5)
    assert (stop.reason, system.traps[stop.trap], stop.pc) == (Reason.TRAP, "call", BASE)


def test_faults_of_translation_and_of_nothing_there(system: TargetPackage) -> None:
    for address in (0x80000004, 0x700000):
        cpu = machine(system, encode("lw", rd=2, rs1=1))
        cpu.set("x1", address)
        cpu.run(1)
        assert (cpu.pc, cpu.get("epc"), cpu.get("cause")) == (VECTOR, BASE, 13)


def test_interrupts_wake_and_are_taken_between_instructions(system: TargetPackage) -> None:
    cpu = machine(
        system, code(ENABLE, imm=1), code(WAIT), encode("addi", rd=1, rs1=1, imm=1), handler=code(RETURN)
    )
    assert cpu.run(100).reason is Reason.WAITING
    assert (cpu.pc, cpu.executed) == (BASE + 8, 2)
    assert cpu.run(100).reason is Reason.WAITING
    cpu.set("pending", 1)
    cpu.run(1)
    assert (cpu.get("cause"), cpu.get("epc"), cpu.executed) == (99, BASE + 8, 3)
    cpu.set("pending", 0)  # the handler's return took it once more
    cpu.run(2)
    assert (cpu.get("x1"), cpu.pc) == (1, BASE + 12)


def test_an_interrupt_that_becomes_enabled_is_taken_at_once(system: TargetPackage) -> None:
    cpu = machine(system, encode("addi", rd=1, imm=1), code(ENABLE, imm=1), encode("addi", rd=1, imm=2))
    cpu.set("pending", 1)
    cpu.run(2)
    cpu.run(0)
    assert (cpu.get("cause"), cpu.get("epc"), cpu.get("x1")) == (99, BASE + 8, 1)


@pytest.mark.parametrize("spaces", [2, 40])
def test_each_base_has_its_own_code_and_data(system: TargetPackage, spaces: int) -> None:
    """The same addresses in many address spaces, more than are remembered: a program walks through them."""
    memory = AddressSpace()
    step = 0x2000
    for number in range(spaces):
        start = number * step
        memory.map(start + BASE, 0x2000)
        program = (
            encode("addi", rd=2, rs1=2, imm=number + 1),
            encode("lw", rd=3, rs1=4),
            encode("add", rd=5, rs1=5, rs2=3),
            code(BASE_TO, rs1=1),
        )
        memory.write(start + BASE, b"".join(program))
        # Behind the change of spaces, in each: go to the next one.
        rest = (
            encode("lui", rd=6, imm=0),
            encode("addi", rd=1, rs1=1, imm=0),
            encode("jal", imm=-(len(b"".join(program)) + 8) // 2),
        )
        memory.write(start + BASE + 16, b"".join(rest))
        memory.write(start + 0x2000, (1000 + number).to_bytes(4, "little"))
    cpu = Cpu(system, memory, system=True)
    cpu.set("vector", VECTOR)
    cpu.set("x4", 0x2000)
    cpu.pc = BASE
    visited = []
    for turn in range(3 * spaces):
        here = turn * 7 % spaces
        cpu.set("base", here * step)
        cpu.set("x1", (here + 1) % spaces * step)
        cpu.run(7)
        visited.append(here)
        assert cpu.pc == BASE
    expected = sum(number + 1 for number in visited) & 0xFFFFFFFF
    assert (cpu.get("x2"), cpu.get("x5")) == (expected, sum(1000 + number for number in visited))


def test_translations_are_forgotten_on_demand(system: TargetPackage) -> None:
    cpu = machine(system, encode("lw", rd=2, rs1=1), code(FORGET), encode("jal", imm=-4))
    cpu.memory.map(0x8000, 0x1000)
    cpu.set("x1", 0x8000)
    cpu.run(30)
    before = cpu.cache.statistics()
    cpu.run(30)
    assert cpu.cache.statistics()["lookups"] > before["lookups"]  # translations, and with them the jump cache
    assert cpu.cache.statistics()["decoded"] == before["decoded"]  # but not the code


def test_code_across_pages_follows_the_translation_of_both(system: TargetPackage) -> None:
    """An instruction whose second half lies in a page that means something else in another space."""
    memory = AddressSpace()
    memory.map(0x1000, 0x5000)
    inc, big = encode("addi", rd=1, rs1=1, imm=1), encode("addi", rd=1, rs1=1, imm=16)
    for start, word in ((0x1FFE, inc), (0x3FFE, big)):
        memory.write(start, word + encode("jal", imm=-2))
    cpu = Cpu(system, memory, system=True)
    for base, amount in ((0, 1), (0x2000, 16), (0, 1), (0x2000, 16)):
        cpu.set("base", base)
        cpu.set("x1", 0)
        cpu.pc = 0x1FFE
        cpu.run(10)
        assert cpu.get("x1") == 5 * amount


def test_stores_through_another_address_change_code(system: TargetPackage) -> None:
    cpu = machine(
        system,
        encode("addi", rd=3, rs1=3, imm=1),
        encode("sw", rs1=1, rs2=2),
        short("c.addi", 0, 0),
        encode("jal", imm=-5),
    )
    ram = next(iter(cpu.memory)).ram
    assert ram is not None
    cpu.memory.map_ram(0x9000, ram)  # the same memory once more
    cpu.set("x1", 0x9000)
    cpu.set("x2", int.from_bytes(encode("addi", rd=3, rs1=3, imm=100), "little"))
    cpu.run(4 * 3)
    assert cpu.get("x3") == 1 + 100 + 100


def test_read_only_memory_traps(system: TargetPackage) -> None:
    cpu = machine(system, encode("sw", rs1=1, rs2=1))
    cpu.memory.map(0x8000, 0x1000, READ)
    cpu.set("x1", 0x8000)
    cpu.run(1)
    assert (cpu.get("cause"), cpu.pc) == (13, VECTOR)
