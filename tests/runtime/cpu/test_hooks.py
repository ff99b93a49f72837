"""Hooks, watches and counters: what they see is what stepping sees, and they change nothing."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cpu.engine import Cpu, TargetPackage, load_target
from runtime.cpu.exits import Exit, Reason
from runtime.errors import IsagenError
from runtime.memory.space import AddressSpace
from tests.runtime.cpu.test_engine import BASE, COUNTDOWN, machine
from tests.runtime.cpu.toy import encode

EVERYWHERE = [(0, (1 << 64) - 1)]
CODE, DATA, SIZE = 0x10000, 0x20000, 0x2000


@pytest.mark.parametrize("often", [False, True])
def test_a_hook_sees_each_instruction(toy: TargetPackage, often: bool) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen: list[tuple[int, int, int]] = []
    cpu.set_hooks(
        EVERYWHERE, lambda: seen.append((cpu.pc - BASE, cpu.hooked_size, cpu.executed)), often=often
    )
    assert cpu.run(1000).reason is Reason.TRAP
    assert seen[:5] == [(0, 4, 0), (4, 4, 1), (8, 2, 2), (10, 4, 3), (4, 4, 4)]
    assert seen[-1] == (14, 4, 301)
    assert [n for _, _, n in seen] == list(range(302))


def test_hooks_of_a_range(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen: list[int] = []
    cpu.set_hooks([(BASE + 8, BASE + 8), (BASE + 14, BASE + 14), (5, 4)], lambda: seen.append(cpu.pc - BASE))
    cpu.run(1000)
    assert seen == [8] * 100 + [14]


def test_blocks_begin_behind_jumps(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen: list[int] = []
    cpu.set_hooks(EVERYWHERE, lambda: seen.append(cpu.pc - BASE), blocks=True)
    cpu.new_block()
    cpu.run(1000)
    assert seen == [0] + [4] * 99 + [14]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_hooks_and_budgets(toy: TargetPackage, size: int) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen: list[int] = []
    cpu.set_hooks(EVERYWHERE, lambda: seen.append(cpu.executed))
    while cpu.run(size).reason is Reason.BUDGET:
        pass
    assert seen == list(range(302))


@pytest.mark.parametrize("often", [False, True])
def test_a_hook_may_raise_and_the_run_goes_on(toy: TargetPackage, often: bool) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen: list[int] = []

    def hook() -> None:
        seen.append(cpu.pc - BASE)
        if len(seen) == 3:
            raise LookupError("third")

    cpu.set_hooks(EVERYWHERE, hook, often=often)
    with pytest.raises(LookupError, match="third"):
        cpu.run(1000)
    assert (cpu.pc, cpu.executed) == (BASE + 8, 2)
    assert cpu.run(1000).reason is Reason.TRAP
    assert cpu.executed == 301


def test_a_hook_may_not_run_the_cpu(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    cpu.set_hooks(EVERYWHERE, lambda: cpu.run(1))
    with pytest.raises(IsagenError, match="running already"):
        cpu.run(10)


def test_a_hook_may_stop_and_the_instruction_is_not_executed(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    cpu.set_hooks([(BASE + 8, BASE + 8)], cpu.interrupt)
    assert cpu.run(1000) == Exit(Reason.INTERRUPTED, BASE + 8)
    assert cpu.executed == 2


def test_a_hook_may_jump_and_change_registers_and_code(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("addi", rd=1, imm=1), encode("addi", rd=2, imm=2), encode("ecall"))
    cpu.memory.map(0x8000, 0x1000)
    cpu.memory.write(0x8000, encode("addi", rd=3, rs1=3, imm=3) + encode("ecall"))

    def hook() -> None:
        if cpu.pc == BASE:
            cpu.memory.write(BASE, encode("addi", rd=1, imm=7))
        elif cpu.pc == BASE + 4:
            cpu.set("x3", 40)
            cpu.pc = 0x8000

    cpu.set_hooks(EVERYWHERE, hook)
    stop = cpu.run(100)
    assert (stop.reason, stop.pc, cpu.get("x1"), cpu.get("x2"), cpu.get("x3")) == (
        Reason.TRAP, 0x8004, 7, 0, 43,
    )  # fmt: skip


def test_a_hook_may_change_mappings_and_hooks(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("sw", rs1=1, rs2=2), encode("addi", rd=2, imm=2), encode("ecall"))
    cpu.set("x1", 0x8000)
    seen: list[int] = []

    def hook() -> None:
        seen.append(cpu.pc - BASE)
        cpu.memory.map(0x8000, 0x1000)
        cpu.set_hooks([(BASE + 8, BASE + 8)], lambda: seen.append(-cpu.pc))

    cpu.set_hooks(EVERYWHERE, hook)
    assert cpu.run(100).reason is Reason.TRAP
    assert seen == [0, -BASE - 8]


def test_without_a_function_hooks_leave(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    cpu.set_hooks([(BASE + 8, BASE + 8)])
    assert cpu.run(1000) == Exit(Reason.HOOK, BASE + 8)
    assert cpu.run(1000) == Exit(Reason.HOOK, BASE + 8)
    cpu.pass_hooks()
    assert cpu.run(1000) == Exit(Reason.HOOK, BASE + 8)
    assert cpu.executed == 5


def test_breakpoints_come_before_hooks(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    seen: list[int] = []
    cpu.set_hooks(EVERYWHERE, lambda: seen.append(cpu.pc - BASE))
    cpu.breakpoints = (BASE + 4,)
    assert cpu.run(1000).reason is Reason.BREAKPOINT
    assert seen == [0]
    assert cpu.run(1).reason is Reason.BUDGET
    assert seen == [0, 4]
    assert cpu.run(1000).reason is Reason.BREAKPOINT
    assert seen == [0, 4, 8, 10]


def test_watched_accesses(toy: TargetPackage) -> None:
    cpu = machine(
        toy, encode("sw", rs1=1, rs2=2, imm=0), encode("lw", rd=3, rs1=1), encode("lh", rd=4, rs1=1, imm=4)
    )
    cpu.memory.map(0x8000, 0x1000)
    cpu.set("x1", 0x8010)
    cpu.set("x2", 0x11223344)
    cpu.set_watches([(0x8012, 0x8013, 3), (0x8014, 0x8014, 2)])
    stop = cpu.run(3)
    assert (stop.reason, stop.pc, stop.address, stop.size, stop.write, stop.value) == (
        Reason.WATCH, BASE, 0x8010, 4, True, 0x11223344,
    )  # fmt: skip
    assert cpu.memory.read(0x8010, 4) == bytes(4)
    cpu.answer()
    stop = cpu.run(3)
    assert (stop.reason, stop.pc, stop.address, stop.size, stop.write) == (
        Reason.WATCH, BASE + 4, 0x8010, 4, False,
    )  # fmt: skip
    cpu.answer()
    assert cpu.run(2).reason is Reason.BUDGET
    assert cpu.get("x3") == 0x11223344
    assert cpu.executed == 3


def test_a_watched_access_that_fails_is_a_fault(toy: TargetPackage) -> None:
    cpu = machine(toy, encode("sw", rs1=1, rs2=2))
    cpu.set("x1", 0x8000)
    cpu.set_watches([(0, (1 << 64) - 1, 3)])
    assert cpu.run(1).reason is Reason.FAULT


def test_counters(toy: TargetPackage) -> None:
    cpu = machine(toy, *COUNTDOWN)
    counts = (ctypes.c_uint64 * 8)()
    cpu.set_counters([(BASE, BASE + 15, ctypes.addressof(counts))])
    choose = random.Random(1)
    while cpu.run(choose.randint(1, 9)).reason is Reason.BUDGET:
        pass
    assert list(counts) == [1, 0, 100, 0, 100, 100, 0, 1]


# --- real targets -------------------------------------------------------------------------------------------


def guest(package: TargetPackage, seed: int) -> tuple[Cpu, random.Random]:
    """Random code with its data, and registers that point there."""
    choose = random.Random(seed)
    memory = AddressSpace()
    memory.map(CODE, SIZE)
    memory.map(DATA, SIZE)
    memory.write(CODE, choose.randbytes(SIZE))
    cpu = Cpu(package, memory)
    for name in cpu.names():
        if name != "pc":
            cpu.set(name, choose.choice((CODE, DATA)) + choose.randrange(SIZE) // 4 * 4)
    return cpu, choose


def play(cpu: Cpu, seed: int, part: Callable[[], int]) -> list[object]:
    """Run from a hundred random places; what came of it."""
    choose = random.Random(seed)
    outcomes: list[object] = []
    for _ in range(100):
        cpu.pc = CODE + choose.randrange(SIZE) // cpu.package.unit * cpu.package.unit
        end = cpu.executed + 20
        while cpu.executed < end:
            stop = cpu.run(min(part(), end - cpu.executed))
            if stop.reason is Reason.WATCH:
                cpu.answer()
            elif stop.reason is not Reason.BUDGET:
                outcomes.append((stop, cpu.executed))
                if stop.reason is Reason.WAITING:
                    cpu.set("waiting", 0)
                break
        outcomes.append((cpu.pc, cpu.next_pc, cpu.executed))
    outcomes += [bytes(cpu.state), cpu.memory.read(CODE, SIZE), cpu.memory.read(DATA, SIZE)]
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["riscv64", "sparc", "arm", "ppc64le", "x86_64"])
def test_hooked_runs_are_the_same(built: Callable[[str], Path], name: str) -> None:
    package = load_target(built(name))
    total = 0
    for seed in range(25):
        plain, _ = guest(package, seed)
        steps: dict[int, int] = {}
        pcs: list[tuple[int, int]] = []

        def step() -> int:
            pcs.append((plain.executed, plain.pc))  # noqa: B023 - used in this turn only
            return 1

        expected = play(plain, seed, step)
        pcs.append((plain.executed, 0))
        counted: Counter[int] = Counter()
        for (number, pc), (after, _) in itertools.pairwise(pcs):
            if after > number:
                steps[number] = pc
                counted[pc] += 1
        for often, size in ((True, 20), (False, 3)):
            hooked, _ = guest(package, seed)
            seen: dict[int, int] = {}

            def hook() -> None:
                seen[hooked.executed] = hooked.pc  # noqa: B023 - likewise

            units = SIZE // package.unit
            # Random code also runs into its data.
            counts = {start: (ctypes.c_uint64 * units)() for start in (CODE, DATA)}
            hooked.set_hooks(EVERYWHERE, hook, often=often)
            hooked.set_watches([(DATA + 64, DATA + 1024, 3), (CODE, CODE + 4095, 2)])
            hooked.set_counters(
                [(start, start + SIZE - 1, ctypes.addressof(place)) for start, place in counts.items()]
            )
            found = play(hooked, seed, lambda: size)  # noqa: B023 - likewise
            assert found == expected, f"{name} seed {seed}"
            tallies = {
                start + i * package.unit: n
                for start, place in counts.items()
                for i, n in enumerate(place)
                if n
            }
            assert all(tallies.get(pc, 0) >= n for pc, n in counted.items()), f"{name} seed {seed}"
            assert sum(tallies.values()) <= counted.total() + 200, f"{name} seed {seed}"  # traps count, too
            assert {n: pc for n, pc in seen.items() if n in steps} == steps, f"{name} seed {seed}"
        total += len(steps)
    assert total > 1000
