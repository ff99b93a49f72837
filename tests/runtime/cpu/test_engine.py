"""The engine on the toy target: running, exits, memory, self-modifying code, breakpoints, devices."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.ir.evaluate import Completed, Evaluator, Faulted, NotAnInstruction, Trapped
from generator.ir.state import SparseMemory, reset_state
from runtime.cpu.engine import Cpu, TargetPackage
from runtime.cpu.exits import Exit, Reason
from runtime.errors import IsagenError
from runtime.memory.regions import EXECUTE, READ, WRITE
from runtime.memory.space import AddressSpace
from tests.runtime.cpu.toy import BODIES, encode, short, toy_target

BASE = 0x1000


def machine(package: TargetPackage, *code: bytes, size: int = 0x2000) -> Cpu:
    memory = AddressSpace()
    memory.map(BASE, size)
    memory.write(BASE, b"".join(code))
    cpu = Cpu(package, memory)
    cpu.pc = BASE
    return cpu


COUNTDOWN = (
    encode("addi", rd=1, imm=100),
    encode("addi", rd=2, rs1=2, imm=3),
    short("c.addi", 1, -1),
    encode("bne", rs1=1, imm=-3),
    encode("ecall"),
)


def test_a_loop_runs_to_its_trap(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    stop = cpu.run(1_000_000)
    assert (stop.reason, toy.traps[stop.trap], stop.code, stop.pc) == (Reason.TRAP, "call", 8, BASE + 14)
    assert cpu.get("x2") == 300
    assert cpu.executed == 301


@pytest.mark.parametrize("slice_size", [1, 2, 3, 7, 64, 300])
def test_budgets_are_exact(toy: TargetPackage, slice_size: int) -> None:
    cpu = machine(toy, *COUNTDOWN)
    executed = 0
    while True:
        stop = cpu.run(slice_size)
        if stop.reason is not Reason.BUDGET:
            break
        executed += slice_size
        assert cpu.executed == executed
    assert stop.reason is Reason.TRAP
    assert (cpu.executed, cpu.get("x2")) == (301, 300)


def test_step_executes_one_instruction(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen = []
    for _ in range(6):
        assert cpu.step().reason is Reason.BUDGET
        seen.append(cpu.pc - BASE)
    assert seen == [4, 8, 10, 4, 8, 10]


def test_a_zero_register_stays_zero(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("addi", rd=0, imm=5), encode("add", rd=1, rs1=0, rs2=0), encode("ecall"))
    cpu.set("x0", 7)
    cpu.set("x1", 7)
    cpu.run(10)
    assert cpu.get("x0") == cpu.get("x1") == 0


def test_an_illegal_instruction_traps_with_its_bits(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("addi", rd=1, imm=1), bytes.fromhex("ffffff7f"))
    stop = cpu.run(10)
    assert toy.traps[stop.trap] == "illegal"
    assert (stop.pc, stop.code, stop.arguments[0], cpu.executed) == (BASE + 4, 2, 0x7FFFFFFF, 1)


def test_a_feature_that_is_off_makes_its_instructions_illegal(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    without = Cpu(toy, cpu.memory, features=())
    without.pc = BASE
    stop = without.run(10)
    assert (toy.traps[stop.trap], stop.pc, stop.arguments[0]) == ("illegal", BASE + 8, 0xFF20)


def test_accesses_outside_mappings_leave_before_the_instruction(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("sw", rs1=1, rs2=2, imm=0))
    for address in (0, BASE - 4, BASE + 0x2000, 0xFFFFFFFC, 0xFFFFFFFF):
        cpu.pc = BASE
        cpu.set("x1", address)
        stop = cpu.run(5)
        assert (stop.reason, stop.address, stop.access, stop.pc) == (Reason.FAULT, address, 1, BASE)


def test_an_access_across_pages_checks_both_before_it_writes(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("sw", rs1=1, rs2=2, imm=0), encode("ecall"))
    cpu.memory.map(0x8000, 0x1000)
    cpu.memory.map(0x9000, 0x1000, READ)
    cpu.set("x1", 0x8FFE)
    cpu.set("x2", 0x11223344)
    stop = cpu.run(5)
    assert (stop.reason, stop.address, stop.access) == (Reason.FAULT, 0x9000, 1)
    assert cpu.memory.read(0x8FF0, 16) == bytes(16)
    cpu.memory.protect(0x9000, 0x1000, READ | WRITE)
    assert cpu.run(5).reason is Reason.TRAP
    assert cpu.memory.read(0x8FFE, 4) == (0x11223344).to_bytes(4, "little")


@given(address=st.integers(0x2FF0, 0x3010), value=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_misaligned_accesses(toy: TargetPackage, address: int, value: int) -> None:
    cpu = machine(
        toy,
        encode("sw", rs1=1, rs2=2),
        encode("lw", rd=3, rs1=1),
        encode("lh", rd=4, rs1=1, imm=1),
        encode("ecall"),
        size=0x4000,
    )
    cpu.set("x1", address)
    cpu.set("x2", value)
    cpu.run(10)
    assert cpu.memory.read(address, 4) == value.to_bytes(4, "little")
    assert cpu.get("x3") == value
    assert cpu.get("x4") == value >> 8 & 0xFFFF


def test_an_instruction_across_pages(toy: TargetPackage) -> None:
    cpu = machine(toy)
    cpu.memory.write(0x1FFE, encode("addi", rd=1, rs1=1, imm=1) + encode("jal", imm=-2))
    cpu.pc = 0x1FFE
    cpu.run(9)
    assert (cpu.get("x1"), cpu.pc) == (5, 0x2002)
    # Its second half changes: once through the host, once by a store of the guest.
    cpu.memory.write(0x2000, encode("addi", rd=1, rs1=1, imm=16)[2:])
    cpu.run(2)
    assert cpu.get("x1") == 5 + 16


def test_an_instruction_across_the_end_of_memory_faults(toy: TargetPackage) -> None:
    cpu = machine(toy)
    cpu.memory.write(0x2FFE, encode("addi", rd=1, rs1=1, imm=1)[:2])
    cpu.pc = 0x2FFE
    stop = cpu.run(9)
    assert (stop.reason, stop.address, stop.access, stop.pc) == (Reason.FAULT, 0x3000, 2, 0x2FFE)


def test_code_at_the_top_of_the_address_space_wraps(toy: TargetPackage) -> None:
    memory = AddressSpace()
    memory.map(0xFFFFF000, 0x1000)
    memory.map(0, 0x1000)
    memory.write(0xFFFFFFFC, encode("addi", rd=1, rs1=1, imm=1))
    memory.write(0, encode("addi", rd=1, rs1=1, imm=2) + encode("jal", imm=-4))
    cpu = Cpu(toy, memory)
    cpu.pc = 0xFFFFFFFC
    cpu.run(7)
    assert (cpu.get("x1"), cpu.pc) == (3 + 3 + 1, 0)


def test_stores_change_code_at_once(toy: TargetPackage) -> None:
    new = int.from_bytes(encode("addi", rd=3, imm=7), "little")
    cpu = machine(
        toy,
        encode("sw", rs1=1, rs2=2),  # replaces the next instruction
        encode("addi", rd=3, imm=1),
        encode("ecall"),
    )
    cpu.set("x1", BASE + 4)
    cpu.set("x2", new)
    cpu.run(10)
    assert cpu.get("x3") == 7


def test_a_loop_that_rewrites_itself(toy: TargetPackage) -> None:
    """Each turn increments the immediate of an instruction behind the store."""
    cpu = machine(
        toy,
        encode("lw", rd=2, rs1=1),
        encode("add", rd=2, rs1=2, rs2=4),
        encode("sw", rs1=1, rs2=2),
        encode("addi", rd=3, rs1=3, imm=0),
        encode("jal", imm=-8),
    )
    cpu.set("x1", BASE + 12)
    cpu.set("x4", 1 << 20)
    cpu.run(5 * 100)
    assert cpu.get("x3") == 100 * 101 // 2
    assert cpu.cache.statistics()["drops"] >= 100


def test_data_beside_code_does_not_drop_it(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("sw", rs1=1, rs2=3), encode("addi", rd=3, rs1=3, imm=1), encode("jal", imm=-4))
    cpu.set("x1", BASE + 0x800)
    cpu.run(3000)
    assert cpu.memory.read(BASE + 0x800, 4) == (999).to_bytes(4, "little")
    assert cpu.cache.statistics()["drops"] == 0


def test_the_host_changes_code(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("addi", rd=1, rs1=1, imm=1), encode("jal", imm=-2))
    cpu.run(20)
    cpu.memory.write(BASE, encode("addi", rd=1, rs1=1, imm=100))
    cpu.run(2)
    assert cpu.get("x1") == 110


def test_unmapped_and_protected_code_faults(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("jal", imm=0x7FE), size=0x1000)
    cpu.memory.map(0x2000, 0x1000)
    cpu.memory.write(0x1FFC, encode("jal", imm=2 - 0x800 + 2))  # not reached
    cpu.memory.write(BASE, encode("lui", rd=1, imm=0) + encode("jalr", rs1=2, imm=0))
    cpu.memory.write(0x2000, encode("jalr", rs1=3, imm=0))
    cpu.set("x2", 0x2000)
    cpu.set("x3", BASE)
    assert cpu.run(30).reason is Reason.BUDGET
    cpu.memory.protect(0x2000, 0x1000, READ | WRITE)
    stop = cpu.run(30)
    assert (stop.reason, stop.address, stop.access, stop.pc) == (Reason.FAULT, 0x2000, 2, 0x2000)
    cpu.memory.protect(0x2000, 0x1000, READ | EXECUTE)
    assert cpu.run(30).reason is Reason.BUDGET
    cpu.memory.unmap(0x2000, 0x1000)
    assert cpu.run(30).reason is Reason.FAULT
    cpu.memory.map(0x2000, 0x1000)
    cpu.memory.write(0x2000, encode("ecall"))
    assert cpu.run(30).reason is Reason.TRAP


def test_a_mode_changes_what_is_decoded(toy: TargetPackage) -> None:
    cpu = machine(
        toy,
        encode("inc", rd=1, rs1=1),
        encode("mode", imm=1),
        encode("inc", rd=1, rs1=1),
        encode("inc", rd=1, rs1=1),
        encode("inc", rd=1, rs1=1),
        encode("mode", imm=0),
        encode("jal", imm=-12),
    )
    for turn in range(1, 20):
        cpu.run(7)
        assert (cpu.get("x1"), cpu.pc) == (-2 * turn & 0xFFFFFFFF, BASE)


def test_breakpoints(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    cpu.run(1)
    cpu.breakpoints = (BASE + 8, BASE + 14)
    for turn in range(1, 101):
        stop = cpu.run(1000)
        assert (stop.reason, stop.pc) == (Reason.BREAKPOINT, BASE + 8)
        assert cpu.executed == 3 * turn - 1
    assert cpu.run(1000) == Exit(Reason.BREAKPOINT, BASE + 14)
    assert cpu.run(1000).reason is Reason.TRAP
    cpu.pc = BASE
    cpu.breakpoints = ()
    assert cpu.run(1000).reason is Reason.TRAP


def test_a_step_over_a_breakpoint_is_one_instruction(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    cpu.breakpoints = (BASE, BASE + 4)
    assert cpu.run(5).reason is Reason.BREAKPOINT
    assert (cpu.step().reason, cpu.pc) == (Reason.BUDGET, BASE + 4)
    assert cpu.step().reason is Reason.BREAKPOINT
    assert (cpu.step().reason, cpu.pc) == (Reason.BUDGET, BASE + 8)


def test_devices_are_asked_and_answered_once(toy: TargetPackage) -> None:
    cpu = machine(
        toy,
        encode("lw", rd=2, rs1=1),
        encode("sb", rs1=1, rs2=2, imm=5),
        encode("addi", rd=3, rs1=3, imm=1),
        encode("jal", imm=-6),
    )
    cpu.memory.map_device(0x10000000, 0x100)
    cpu.set("x1", 0x10000010)
    for turn in range(5):
        stop = cpu.run(100)
        assert (stop.reason, stop.address, stop.size, stop.write) == (Reason.MMIO, 0x10000010, 4, False)
        assert cpu.executed == 4 * turn
        cpu.answer(0x100 + turn)
        stop = cpu.run(100)
        assert (stop.address, stop.size, stop.write, stop.value) == (0x10000015, 1, True, turn)
        assert (cpu.get("x2"), cpu.executed) == (0x100 + turn, 4 * turn + 1)
        cpu.answer()
    assert cpu.get("x3") == 4


def test_a_device_access_beyond_the_device_faults(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("lw", rd=2, rs1=1))
    cpu.memory.map_device(0x10000000, 0x100)
    cpu.set("x1", 0x100000FE)
    assert cpu.run(1).reason is Reason.FAULT


def test_interrupt_from_outside(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    cpu.interrupt()
    assert cpu.run(100).reason is Reason.INTERRUPTED
    assert cpu.run(100).reason is Reason.BUDGET


def test_unknown_names(toy: TargetPackage) -> None:
    cpu = machine(toy)
    with pytest.raises(IsagenError, match="no register `y1`"):
        cpu.get("y1")
    with pytest.raises(IsagenError, match="no feature `Q`"):
        Cpu(toy, cpu.memory, features=("Q",))


# --- against the evaluator ----------------------------------------------------------------------------------


def random_instruction(choose: random.Random) -> bytes:
    kind = choose.random()
    if kind < 0.15:
        return short(
            choose.choice(["c.addi", "c.j"]), 0 if kind < 0.07 else choose.randrange(8), choose.randint(-9, 9)
        )
    if kind < 0.18:
        return choose.randbytes(choose.choice([2, 4]))
    name = choose.choice([*BODIES, "inc"])
    imm = choose.choice([choose.randint(-12, 12), choose.randint(-2048, 2047)])
    if name in ("beq", "bne", "jal"):
        imm = choose.randint(-10, 10)
    rd, rs1, rs2 = (choose.randrange(8) for _ in range(3))
    return encode(name, rd, rs1, rs2, imm)


POINTERS = (BASE, BASE + 0x40, BASE + 0x800, BASE + 0xFFE, BASE + 0x1FFD, 0, 1, 0xFFFFFFFF)


Event = tuple[int, str, int]
"""Instructions executed before it, what stopped the CPU, and the trap's code or the fault's address."""


def evaluate(code: bytes, registers: list[int], steps: int) -> tuple[list[int], bytes, list[Event]]:
    """What the evaluator makes of a program; whatever stops it, it goes on two bytes further."""
    target = toy_target()
    memory = SparseMemory(32)
    memory.map(BASE, 0x2000, "rwx")
    memory.poke(BASE, code)
    state = reset_state(target, memory)
    state.pc = BASE
    state.files["x"] = [0, *registers[1:]]
    evaluator = Evaluator(target)
    executed = 0
    events: list[Event] = []
    while executed < steps and len(events) < steps:
        match evaluator.step(state):
            case Completed():
                executed += 1
                continue
            case Trapped(trap=trap, code=trap_code):
                events.append((executed, trap, trap_code))
            case Faulted(address=address):
                events.append((executed, "fault", address))
            case NotAnInstruction():
                events.append((executed, "illegal", 2))
        state.pc = state.pc + 2 & 0xFFFFFFFF
    return [state.pc, state.registers["mode"], *state.files["x"]], memory.read(BASE, 0x2000), events


def emulate(cpu: Cpu, steps: int, part: Callable[[], int]) -> tuple[list[int], bytes, list[Event]]:
    """The same by the engine, with a budget of `part()` at a time."""
    events: list[Event] = []
    while cpu.executed < steps and len(events) < steps:
        before = cpu.executed
        budget = min(part(), steps - before)
        stop = cpu.run(budget)
        match stop.reason:
            case Reason.BUDGET:
                assert cpu.executed == before + budget
                continue
            case Reason.TRAP:
                events.append((cpu.executed, cpu.package.traps[stop.trap], stop.code))
            case Reason.FAULT:
                events.append((cpu.executed, "fault", stop.address))
        cpu.pc = cpu.pc + 2
    state = [cpu.pc, cpu.get("mode"), *(cpu.get(f"x{n}") for n in range(8))]
    return state, cpu.memory.read(BASE, 0x2000), events


def compare(package: TargetPackage, seed: int, steps: int) -> None:
    """A random program: evaluator and engine, at one go and in random slices, come to the same end."""
    choose = random.Random(seed)
    code = b"".join(random_instruction(choose) for _ in range(choose.choice([5, 40, 1000])))
    registers = [choose.choice([*POINTERS, choose.getrandbits(32)]) for _ in range(8)]
    expected = evaluate(code, registers, steps)
    for part in (lambda: steps, lambda: choose.randint(1, 9)):
        cpu = machine(package, code)
        for number, value in enumerate(registers):
            cpu.set(f"x{number}", value)
        assert emulate(cpu, steps, part) == expected, f"seed {seed}"


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 1000))
@settings(max_examples=100, deadline=None)
def test_random_programs(toy: TargetPackage, seed: int, steps: int) -> None:
    compare(toy, seed, steps)


def test_more_code_than_the_cache_holds(toy: TargetPackage) -> None:
    """Straight code whose records fill the arena more than once: all is forgotten, nothing goes wrong."""
    count = 10_000_000
    memory = AddressSpace()
    memory.map(BASE, -(-2 * count // 4096) * 4096 + 4096)
    memory.write(BASE, short("c.addi", 1, 3) * count + encode("ecall"))
    cpu = Cpu(toy, memory)
    cpu.pc = BASE
    stop = cpu.run(2 * count)
    assert (stop.reason, stop.pc, cpu.executed) == (Reason.TRAP, BASE + 2 * count, count)
    assert cpu.get("x1") == 3 * count
    assert cpu.cache.statistics()["flushes"] >= 1
