"""The translator: the same results as the interpreter's, whatever happens to its worker."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.cpu.engine import Cpu, TargetPackage, load_target
from runtime.cpu.exits import Reason
from runtime.cpu.translator import translator as translator_module
from runtime.cpu.translator.store import VARIABLE
from runtime.memory.space import AddressSpace
from tests.runtime.cpu.lockstep import registers_of, run_one, sequences_for

CODE, DATA = 0x1000, 0x8000


@pytest.fixture(scope="module")
def riscv64(built: Callable[[str], Path]) -> TargetPackage:
    return load_target(built("riscv64"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "regions"))


def cpu_with(package: TargetPackage, code: bytes, *, translate: bool, background: bool = False) -> Cpu:
    memory = AddressSpace()
    memory.map(CODE, 0x1000)
    memory.map(DATA, 0x2000, 3)
    memory.write(CODE, code)
    cpu = Cpu(package, memory)
    cpu.pc = CODE
    if translate:
        cpu.translate(background=background, program=b"test")
        assert cpu.translator is not None
        cpu.translator.hot, cpu.translator.cost = 100_000, 0
    return cpu


def loop(body: list[bytes], count: int) -> bytes:
    """`body` executed `count` times (a1 counts), then ebreak. All instructions of four bytes."""
    start = word(0x37 | 11 << 7 | (count & 0xFFFFF000)) + word(
        0x13 | 11 << 7 | 11 << 15 | (count & 0x7FF) << 20
    )
    inside = b"".join(body) + word(0x13 | 11 << 7 | 11 << 15 | 0xFFF << 20)
    return start + inside + branch_back(len(inside)) + word(0x00100073)


def word(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


def branch_back(distance: int) -> bytes:
    """bne a1, zero, -distance."""
    offset = -distance & 0x1FFF
    bits = offset >> 12 << 31 | (offset >> 5 & 63) << 25 | (offset >> 1 & 15) << 8 | (offset >> 11 & 1) << 7
    return word(0x63 | 1 << 12 | 11 << 15 | bits)


def add(rd: int, rs1: int, rs2: int) -> bytes:
    return word(0x33 | rd << 7 | rs1 << 15 | rs2 << 20)


def addi(rd: int, rs1: int, value: int) -> bytes:
    return word(0x13 | rd << 7 | rs1 << 15 | (value & 0xFFF) << 20)


def load(rd: int, base: int, offset: int) -> bytes:
    return word(0x3003 | rd << 7 | base << 15 | (offset & 0xFFF) << 20)


def store(source: int, base: int, offset: int) -> bytes:
    high, low = offset >> 5 & 0x7F, offset & 31
    return word(0x3023 | high << 25 | source << 20 | base << 15 | low << 7)


COUNTING = [add(10, 10, 11), load(12, 15, 8), add(12, 12, 10), store(12, 15, 8)]


def check(plain: Cpu, other: Cpu, budgets: Iterator[int]) -> None:
    """Run both until they stop by themselves; the same state at each stop."""
    for budget in budgets:
        stops = plain.run(budget), other.run(budget)
        assert stops[0] == stops[1]
        assert plain.executed == other.executed
        assert registers_of(plain) == registers_of(other)
        if stops[0].reason is not Reason.BUDGET:
            break
    assert plain.memory.read(DATA, 0x2000) == other.memory.read(DATA, 0x2000)


def random_budgets(seed: int, most: int) -> Iterator[int]:
    choose = random.Random(seed)
    while True:
        yield choose.choice((1, 2, 3, 17, 1000, most, choose.randrange(1, most)))


def both(package: TargetPackage, code: bytes, *, background: bool = False) -> tuple[Cpu, Cpu]:
    pair = (
        cpu_with(package, code, translate=False),
        cpu_with(package, code, translate=True, background=background),
    )
    for cpu in pair:
        cpu.set("a5", DATA)
    return pair


def test_a_hot_loop_is_translated(riscv64: TargetPackage) -> None:
    plain, other = both(riscv64, loop(COUNTING, 400_000))
    check(plain, other, random_budgets(1, 300_000))
    assert other.translator is not None
    assert other.translator.statistics.regions >= 1
    assert plain.get("a1") == 0


def test_the_worker_process(riscv64: TargetPackage) -> None:
    plain, other = both(riscv64, loop(COUNTING, 1_000_000), background=True)
    assert other.translator is not None
    check(plain, other, iter([600_000]))
    other.translator.finish()
    assert other.translator.statistics.regions >= 1
    check(plain, other, random_budgets(2, 900_000))
    other.close()


def test_regions_that_were_kept(riscv64: TargetPackage) -> None:
    """A second run takes them from the disk: no worker is started."""
    for run in range(2):
        plain, other = both(riscv64, loop([add(10, 10, 11)] * 3, 1_000_000), background=True)
        translator = other.translator
        assert translator is not None
        assert translator.store is not None
        check(plain, other, iter([600_000]))
        translator.finish()
        check(plain, other, random_budgets(7, 900_000))
        assert translator.statistics.regions >= 1
        assert (translator.store.found > 0, translator._worker is None) == ((run > 0,) * 2)
        other.close()


def test_hints(riscv64: TargetPackage) -> None:
    """A second run doesn't look for hot code: the first sample in it is enough, hot or not."""
    code = loop([add(10, 10, 11), add(12, 10, 11)] * 3, 1_000_000)
    for run in range(2):
        plain, other = both(riscv64, code, background=True)
        translator = other.translator
        assert translator is not None
        assert translator.store is not None
        if run:
            translator.hot = 1 << 60
        check(plain, other, iter([600_000]))
        translator.finish()
        check(plain, other, random_budgets(7, 900_000))
        assert translator.statistics.regions >= 1
        other.close()
    assert translator.store.kept == 0


def test_code_is_given_back(riscv64: TargetPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions that take too much memory are all forgotten, and made again."""
    monkeypatch.setattr(translator_module, "MOST_CODE", 1)
    plain, other = both(riscv64, loop(COUNTING, 2_000_000))
    check(plain, other, random_budgets(1, 900_000))
    translator = other.translator
    assert translator is not None
    assert translator.statistics.regions >= 2
    assert translator.code_size <= 1 << 16


def test_a_worker_that_dies(riscv64: TargetPackage, caplog: pytest.LogCaptureFixture) -> None:
    plain, other = both(riscv64, loop(COUNTING, 3_000_000), background=True)
    translator = other.translator
    assert translator is not None
    for _ in range(4):
        check(plain, other, iter([500_000]))
        if translator._worker is not None:
            os.kill(translator._worker.pid, signal.SIGKILL)
            os.waitid(os.P_PID, translator._worker.pid, os.WEXITED | os.WNOWAIT)
    assert "worker" in caplog.text
    check(plain, other, random_budgets(3, 2_000_000))
    other.close()


def test_a_fault_inside_a_region(riscv64: TargetPackage) -> None:
    """A pointer walks off the end of memory."""
    plain, other = both(riscv64, loop([store(11, 15, 0), addi(15, 15, 2), add(10, 10, 15)], 400_000))
    for cpu in (plain, other):
        cpu.memory.map(0x10000, 0x40000, 3)
        cpu.set("a5", 0x10000)
    if other.translator is not None:
        other.translator._slice = 1000
        other._slice_left = 1000
    check(plain, other, random_budgets(4, 50_000))
    assert plain.get("a5") == 0x50000 - 6  # the last store that would cross the end isn't executed
    assert other.translator is not None
    assert other.translator.statistics.regions >= 1


def test_code_that_changes_itself(riscv64: TargetPackage) -> None:
    """The host writes into a translated loop."""
    code = loop(COUNTING, 2_000_000)
    plain, other = both(riscv64, code)
    check(plain, other, iter([1_000_000]))
    assert other.translator is not None
    assert other.translator.statistics.regions >= 1
    for cpu in (plain, other):
        cpu.memory.write(CODE + 8, addi(10, 10, 1))
    check(plain, other, random_budgets(5, 3_000_000))


def test_breakpoints_in_a_region(riscv64: TargetPackage) -> None:
    plain, other = both(riscv64, loop(COUNTING, 2_000_000))
    check(plain, other, iter([1_000_000]))
    for cpu in (plain, other):
        cpu.breakpoints = [CODE + 12]
    for _ in range(5):
        stops = plain.run(1000), other.run(1000)
        assert stops[0] == stops[1]
        assert stops[0].reason is Reason.BREAKPOINT
        assert registers_of(plain) == registers_of(other)
    for cpu in (plain, other):
        cpu.breakpoints = []
    check(plain, other, random_budgets(6, 3_000_000))


def test_lockstep(riscv64: TargetPackage) -> None:
    """A bounded share of random programs; `tests.runtime.cpu.lockstep` runs more."""
    sequences = sequences_for("riscv64")
    regions = sum(run_one(sequences, seed)["regions"] for seed in range(120))
    assert regions > 200


def test_floating_point_in_lockstep(riscv64: TargetPackage) -> None:
    sequences = sequences_for("riscv64", "^f")
    assert sum(run_one(sequences, seed)["regions"] for seed in range(80)) > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aarch64", "arm", "ppc", "sparc", "x86_64"])
def test_other_targets_in_lockstep(built: Callable[[str], Path], name: str) -> None:
    built(name)
    sequences = sequences_for(name)
    assert sum(run_one(sequences, seed)["regions"] for seed in range(60)) > 50


def test_a_loop_over_two_pages_in_system_mode(riscv64: TargetPackage) -> None:
    """A region ends with its page there: that of the second page's part leads back into the first one's."""
    plain, other = (system_cpu(riscv64, loop_over_two_pages(20_000)) for _ in range(2))
    other.translate(background=False)
    assert other.translator is not None
    other.translator.hot, other.translator.cost = 100_000, 0
    for budget in [100_003] * 60:
        assert plain.run(budget) == other.run(budget)
        assert registers_of(plain) == registers_of(other)
    heads = [region.pcs[0] for region in other.translator.installed]
    assert heads[:2] == [CODE + 0x1000 - 4 * HALF, CODE + 0x1000]
    assert plain.get("a1") == 0


HALF = 60


def loop_over_two_pages(count: int) -> bytes:
    """`loop`, whose body lies half in front of a page's end and half behind it; then a jump to itself."""
    code = loop([add(10, 10, 11), addi(10, 10, 3)] * HALF, count)
    first, rest = code[:8], code[8:-4]
    jump = 0x1000 - 4 * HALF - 8
    bits = (jump >> 1 & 0x3FF) << 21 | (jump >> 11 & 1) << 20 | (jump >> 12 & 0xFF) << 12
    return first + word(0x6F | bits) + bytes(jump - 4) + rest + word(0x6F)


def system_cpu(package: TargetPackage, code: bytes) -> Cpu:
    memory = AddressSpace()
    memory.map(CODE, 0x2000)
    memory.map(DATA, 0x2000, 3)
    memory.write(CODE, code)
    cpu = Cpu(package, memory, system=True)
    cpu.pc = CODE
    return cpu
