"""Copies and fills that execute many turns at once: what happens is what the turns do one by one.

The reference is a model of REP MOVS and REP STOS here (SDM volume 2, "REP/REPE/REPZ/REPNE/REPNZ").
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.cpu.engine import Cpu, TargetPackage, load_target
from runtime.cpu.exits import Reason
from runtime.cpu.translator.store import VARIABLE
from runtime.memory.space import AddressSpace

CODE, DATA, PAGE, PAGES = 0x10000, 0x20000, 4096, 6
HOLE = DATA + 4 * PAGE
"""A page that isn't there."""
AX, CX, SI, DI = 0, 1, 6, 7
TIERS = ("interpreter", "translator")


@pytest.fixture(scope="module")
def package(built: Callable[[str], Path]) -> TargetPackage:
    return load_target(built("x86_64"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "regions"))


@dataclass
class Case:
    """An instruction, and what its turns do to registers and memory."""

    fill: bool
    size: int
    down: bool
    narrow: bool
    """Addresses and the count have 32 bits."""
    count: int
    source: int
    destination: int
    value: int
    memory: bytearray
    turns: int = 0
    fault: int | None = None

    @property
    def code(self) -> bytes:
        opcode = (0xAA if self.fill else 0xA4) + (self.size > 1)
        sizes = {1: b"", 2: b"\x66", 4: b"", 8: b"\x48"}
        prefixes = (b"\x67" if self.narrow else b"") + (b"\xf2" if self.value & 1 else b"\xf3")
        return prefixes + sizes[self.size] + bytes([opcode])

    def run(self) -> None:
        """All turns, up to one that faults."""
        step = -self.size if self.down else self.size
        while self.count:
            at = [self.destination] if self.fill else [self.source, self.destination]
            for address in at:
                for byte in range(address, address + self.size):
                    missing = not DATA <= byte < DATA + PAGES * PAGE or HOLE <= byte < HOLE + PAGE
                    if missing and self.fault is None:
                        self.fault = byte
            if self.fault is not None:
                return
            if self.fill:
                element = (self.value & (1 << 8 * self.size) - 1).to_bytes(self.size, "little")
            else:
                element = bytes(self.memory[self.source - DATA : self.source - DATA + self.size])
                self.source += step
            self.memory[self.destination - DATA : self.destination - DATA + self.size] = element
            self.destination += step
            self.count -= 1
            self.turns += 1


def case_of(choose: random.Random) -> Case:
    size = choose.choice((1, 1, 2, 4, 8))
    near = choose.randrange(1, 4) * PAGE + choose.randrange(-40, 40)
    source = DATA + choose.choice((near, choose.randrange(PAGES * PAGE)))
    close = source + choose.choice((-1, 1)) * choose.choice((0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33, 100))
    destination = choose.choice((close, DATA + choose.randrange(PAGES * PAGE)))
    return Case(
        fill=choose.random() < 0.4, size=size, down=choose.random() < 0.3, narrow=choose.random() < 0.2,
        count=choose.choice((0, 1, 2, 5, 64, choose.randrange(PAGE), choose.randrange(3 * PAGE))),
        source=source, destination=min(max(destination, DATA), DATA + PAGES * PAGE - 8),
        value=choose.getrandbits(64), memory=bytearray(choose.randbytes(PAGES * PAGE)),
    )  # fmt: skip


def cpu_for(package: TargetPackage, case: Case, tier: str) -> Cpu:
    memory = AddressSpace()
    memory.map(CODE, PAGE)
    memory.map(DATA, PAGES * PAGE, 3)
    memory.write(DATA, bytes(case.memory))
    memory.unmap(HOLE, PAGE)
    memory.write(CODE, case.code + b"\xcc")
    cpu = Cpu(package, memory)
    for number, value in ((AX, case.value), (CX, case.count), (SI, case.source), (DI, case.destination)):
        cpu.set(f"gpr[{number}]", value)
    cpu.set("df", int(case.down))
    cpu.pc = CODE
    if tier == "translator":
        cpu.translate(background=False)
        assert cpu.translator is not None
        assert cpu.translator.force(package.function("isagen_decode")(cpu.address, CODE))
    return cpu


def check(cpu: Cpu, case: Case, where: str) -> None:
    """The state behind `case.run()`."""
    found = [cpu.get(f"gpr[{number}]") for number in (AX, CX, SI, DI)]
    assert found == [case.value, case.count, case.source, case.destination], where
    for page in range(PAGES):
        start = DATA + page * PAGE
        if start != HOLE:
            expected = case.memory[page * PAGE : (page + 1) * PAGE]
            assert cpu.memory.read(start, PAGE) == expected, f"{where}, page {page}"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("cut", [False, True])
def test_random_copies_and_fills(package: TargetPackage, tier: str, cut: bool) -> None:
    for seed in range(40 if tier == "translator" else 150):
        choose = random.Random(seed)
        case = case_of(choose)
        cpu = cpu_for(package, case, tier)
        case.run()
        where = f"seed {seed}, {case.code.hex()}"
        stop = cpu.run(choose.randrange(1, 900) if cut else 1 << 20)
        while stop.reason is Reason.BUDGET:
            stop = cpu.run(choose.choice((1, 2, choose.randrange(1, 900))))
        if case.fault is None:
            assert (stop.reason, cpu.pc) == (Reason.TRAP, CODE + len(case.code)), where
            assert cpu.executed == max(case.turns, 1), where
        else:
            assert (stop.reason, stop.address, cpu.pc) == (Reason.FAULT, case.fault & -1, CODE), where
            assert cpu.executed == case.turns, where
        check(cpu, case, where)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("budget", [1, 2, 3, 100, 4095, 4096, 4097, 5000])
def test_a_budget_ends_in_the_middle(package: TargetPackage, tier: str, budget: int) -> None:
    """The state is that behind so many turns."""
    memory = bytearray(random.Random(budget).randbytes(PAGES * PAGE))
    case = Case(False, 1, False, False, 3 * PAGE - 100, DATA + 7, DATA + PAGE - 50, 0, memory)
    cpu = cpu_for(package, case, tier)
    left, case.count = case.count - budget, budget
    case.run()
    case.count = left
    assert cpu.run(budget).reason is Reason.BUDGET
    assert (cpu.pc, cpu.executed) == (CODE, budget)
    check(cpu, case, f"budget {budget}")


@pytest.mark.parametrize("tier", TIERS)
def test_a_loop_around(package: TargetPackage, tier: str) -> None:
    """mov rdi, r8; mov rsi, r9; mov rcx, r10; rep movsq; dec r11; jnz: what is behind it has its budget."""
    memory = AddressSpace()
    memory.map(CODE, PAGE)
    memory.map(DATA, PAGES * PAGE, 3)
    memory.write(CODE, bytes.fromhex("4c89c74c89ce4c89d1f348a549ffcb75efcc"))
    memory.write(DATA, bytes(range(256)) * 8)
    cpu = Cpu(package, memory)
    for register, value in ((8, DATA + 3 * PAGE - 64), (9, DATA), (10, 256), (11, 300)):
        cpu.set(f"gpr[{register}]", value)
    cpu.pc = CODE
    if tier == "translator":
        cpu.translate(background=False)
        assert cpu.translator is not None
        cpu.run(400)
        assert cpu.translator.force(package.function("isagen_decode")(cpu.address, CODE))
    choose = random.Random(3)
    while cpu.run(choose.choice((1, 2, 7, 261, 262, 263, 5000))).reason is Reason.BUDGET:
        pass
    assert cpu.executed == 300 * (256 + 5)
    assert memory.read(DATA + 3 * PAGE - 64, 2048) == bytes(range(256)) * 8


def test_code_that_is_filled(package: TargetPackage) -> None:
    """rep stosb over the instructions behind it, and over itself: each byte counts at once."""
    memory = AddressSpace()
    memory.map(CODE, 2 * PAGE)
    memory.write(CODE, bytes.fromhex("f3aa") + b"\xcc" * 100 + b"\xf4")
    cpu = Cpu(package, memory)
    cpu.set("gpr[0]", 0x90)
    cpu.set("gpr[1]", 100)
    cpu.set("gpr[7]", CODE + 2)
    cpu.pc = CODE
    assert cpu.run(150).reason is Reason.BUDGET
    assert cpu.pc == CODE + 2 + 50
    cpu.set("gpr[1]", 100)
    cpu.set("gpr[7]", CODE)
    cpu.pc = CODE
    assert cpu.run(1).reason is Reason.BUDGET  # the prefix is overwritten by a nop: stosb goes on once
    assert cpu.run(1).reason is Reason.BUDGET
    assert (cpu.pc, cpu.get("gpr[1]"), cpu.get("gpr[7]")) == (CODE + 1, 99, CODE + 1)


@pytest.mark.parametrize("tier", TIERS)
def test_a_watch_in_the_middle(package: TargetPackage, tier: str) -> None:
    memory = bytearray(PAGES * PAGE)
    case = Case(True, 4, False, False, 900, DATA, DATA + 16, 0x1234_5678, memory)
    cpu = cpu_for(package, case, tier)
    cpu.set_watches([(DATA + 16 + 4 * 500 + 2, DATA + 16 + 4 * 500 + 2, 2)])
    stop = cpu.run(5000)
    assert (stop.reason, stop.address, cpu.executed) == (Reason.WATCH, DATA + 16 + 4 * 500, 500)


def test_a_hook_sees_each_turn(package: TargetPackage) -> None:
    case = Case(True, 1, False, False, 300, DATA, DATA + 16, 0, bytearray(PAGES * PAGE))
    cpu = cpu_for(package, case, "interpreter")
    seen: list[int] = []
    cpu.set_hooks([(CODE, CODE)], lambda: seen.append(cpu.get("gpr[1]")))
    assert cpu.run(1000).reason is Reason.TRAP
    assert seen == list(range(300, 0, -1))


@pytest.mark.parametrize(("target", "count"), [("x86_64", 22), ("i386", 12)])
def test_what_is_recognised(built: Callable[[str], Path], target: str, count: int) -> None:
    """Each width of MOVS and STOS in each width of addresses, and nothing else."""
    text = (built(target) / "executors.py").read_text()
    found: list[str] = re.findall(r'Shape\("([a-z]+)\w*", .*repeats=True', text)
    assert len(found) == count
    assert set(found) == {"movs", "stos"}
