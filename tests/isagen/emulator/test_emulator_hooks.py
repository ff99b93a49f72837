"""Hooks and devices of `Emulator`."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from isagen import (
    Emulator,
    EmulatorError,
    Fault,
    GuestTrap,
    MemoryAccess,
    StopReason,
    SystemCall,
    SystemCallTrap,
    Trap,
    UnmappedMemory,
)
from tests.isagen.emulator.conftest import CODE, DATA
from tests.isagen.emulator.test_running import LOOP

Program = Callable[[str], Emulator]


def test_code_hooks_with_filters(program: Program) -> None:
    emu = program(LOOP)
    seen: list[tuple[str, int, int]] = []

    @emu.on_code
    def every(e: Emulator, address: int, size: int) -> None:
        assert e is emu
        assert e.pc == address
        seen.append(("every", address - CODE, size))

    @emu.on_code(address=CODE + 4)
    def one(e: Emulator, address: int, size: int) -> None:
        seen.append(("one", address - CODE, e.a1))

    @emu.on_code(start=CODE + 8, end=CODE + 0x10)
    def some(e: Emulator, address: int, size: int) -> None:
        seen.append(("some", address - CODE, size))

    emu.a0 = 1
    with pytest.raises(SystemCallTrap):
        emu.run()
    assert seen == [
        ("every", 0, 4), ("every", 4, 4), ("one", 4, 1), ("every", 8, 4), ("some", 8, 4), ("every", 12, 4),
        ("some", 12, 4),
    ]  # fmt: skip
    emu.unhook(every)
    emu.unhook(some)
    seen.clear()
    emu.a0 = 2
    with pytest.raises(SystemCallTrap):
        emu.run(CODE)
    assert [row[:2] for row in seen] == [("one", 4)] * 2
    with pytest.raises(EmulatorError):
        emu.unhook(every)
    with pytest.raises(EmulatorError):
        emu.on_code(every, start=8, end=8)


def test_filters_by_symbols(emu: Emulator) -> None:
    emu.load_assembly("first: nop\nsecond: nop\nnop\nthird: nop\nend: nop", 0x40000)
    seen: list[int] = []
    emu.on_code(lambda e, address, size: seen.append(address), symbol="second")
    emu.on_code(lambda e, address, size: seen.append(-address), address="third")
    emu.run("first", until="end")
    assert seen == [0x40004, 0x40008, -0x4000C]
    with pytest.raises(EmulatorError, match="no symbol"):
        emu.on_code(print, symbol="fourth")


def test_blocks_have_their_sizes(program: Program) -> None:
    emu = program(LOOP)
    seen: list[tuple[int, int]] = []
    emu.on_block(lambda e, address, size: seen.append((address - CODE, size)))
    emu.a0 = 2
    with pytest.raises(SystemCallTrap):
        emu.run()
    assert seen == [(0, 12), (0, 12), (12, 4)]
    codes: list[int] = []
    emu.on_code(lambda e, address, size: codes.append(address - CODE), address=CODE + 8)
    emu.a0 = 1
    seen.clear()
    with pytest.raises(SystemCallTrap):
        emu.run(CODE)
    assert (seen, codes) == ([(0, 12), (12, 4)], [8])


def test_a_hook_redirects_stops_and_raises(program: Program) -> None:
    emu = program("addi a0, a0, 1\naddi a1, a1, 1\naddi a2, a2, 1\nj .")
    emu.a0 = emu.a1 = emu.a2 = 0

    @emu.on_code(address=CODE + 4)
    def skip(e: Emulator, address: int, size: int) -> None:
        e.pc = address + size

    @emu.on_code(address=CODE + 12)
    def stop(e: Emulator, address: int, size: int) -> None:
        e.stop()

    end = emu.run()
    assert (end.reason, end.pc, end.instructions) == (StopReason.STOPPED, CODE + 12, 2)
    assert (emu.a0, emu.a1, emu.a2) == (1, 0, 1)

    @emu.on_code(address=CODE)
    def fail(e: Emulator, address: int, size: int) -> None:
        raise ZeroDivisionError("in a hook")

    with pytest.raises(ZeroDivisionError, match="in a hook"):
        emu.run(CODE)
    assert emu.pc == CODE
    emu.unhook(fail)
    assert emu.run().reason is StopReason.STOPPED


def test_hooks_are_valid_at_once_and_code_is_never_stale(program: Program) -> None:
    emu = program("addi a0, a0, 1\n" * 8 + "j .")
    emu.a0 = 0
    emu.run(until=CODE + 32)
    seen: list[int] = []

    @emu.on_code(address=CODE + 4)
    def first(e: Emulator, address: int, size: int) -> None:
        e.on_code(lambda e, at, size: seen.append(at - CODE), address=CODE + 8)
        e.write(CODE + 4, e.assemble("addi a0, a0, 100"))
        e.write(CODE + 12, e.assemble("addi a0, a0, 1000"))

    emu.run(CODE, until=CODE + 32)
    assert seen == [8]
    assert emu.a0 == 8 + 6 + 100 + 1000


def test_memory_hooks(program: Program) -> None:
    emu = program("sw a0, 4(a2)\nlw a1, 4(a2)\nlb a3, 9(a2)\namoadd.w a4, a0, (a2)\nj .")
    emu.a0 = 0x11223344
    seen: list[MemoryAccess] = []

    @emu.on_memory(start=DATA, end=DATA + 8)
    def touched(e: Emulator, access: MemoryAccess) -> None:
        seen.append(access)

    emu.run(until=CODE + 16)
    assert seen == [
        MemoryAccess("write", DATA + 4, 4, 0x11223344, CODE),
        MemoryAccess("read", DATA + 4, 4, 0x11223344, CODE + 4),
        MemoryAccess("read", DATA, 4, 0, CODE + 12),
        MemoryAccess("write", DATA, 4, 0x11223344, CODE + 12),
    ]
    emu.unhook(touched)
    reads: list[int] = []
    emu.on_read(lambda e, access: reads.append(access.address - DATA))
    fetches: list[tuple[int, int]] = []
    emu.on_fetch(lambda e, access: fetches.append((access.address - CODE, access.size)), address=CODE + 4)
    emu.run(CODE, until=CODE + 16)
    assert reads == [4, 9, 0]
    assert fetches == [(4, 4)]


def test_a_memory_hook_may_change_what_is_read_and_skip_accesses(program: Program) -> None:
    emu = program("lw a1, 0(a2)\nsw a1, 8(a2)\nj .")

    @emu.on_read
    def fill(e: Emulator, access: MemoryAccess) -> None:
        e.write_int(access.address, 99, access.size)

    @emu.on_write
    def forbid(e: Emulator, access: MemoryAccess) -> None:
        assert access.value == 99
        e.pc += 4

    emu.run(until=CODE + 8)
    assert emu.a1 == 99
    assert emu.read_int(DATA + 8, 4) == 0


def test_fault_hooks_map_what_is_missing(program: Program) -> None:
    emu = program("ld a0, 0(a1)\nsd a2, 0(a1)\nj .")
    emu.a1 = 0x500FFC
    faults: list[Fault] = []
    calls: list[int] = []
    emu.on_code(lambda e, address, size: calls.append(address - CODE))

    @emu.on_unmapped
    def supply(e: Emulator, fault: Fault) -> bool:
        faults.append(fault)
        e.map(fault.address & -4096, 4096, "r")
        e.write_int(fault.address & -4, 7, 4)
        return True

    emu.run(count=1)
    assert [fault.address for fault in faults] == [0x500FFC, 0x501000]
    assert emu.a0 == 7 << 32 | 7
    assert calls == [0]

    @emu.on_fault(mapped=True)
    def allow(e: Emulator, fault: Fault) -> bool:
        assert (fault.kind, fault.mapped, fault.pc) == ("write", True, CODE + 4)
        e.protect(fault.address & -4096, 4096, "rw")
        return True

    emu.run(count=1)
    assert emu.read_int(0x500FFC, 8) == DATA


def test_a_fault_hook_that_does_nothing_does_not_loop(program: Program) -> None:
    emu = program("ld a0, 0(a1)")
    emu.a1 = 0x500000
    calls: list[Fault] = []

    @emu.on_fault
    def nothing(e: Emulator, fault: Fault) -> bool:
        calls.append(fault)
        return True

    with pytest.raises(UnmappedMemory):
        emu.run()
    assert len(calls) == 1


def test_system_calls(program: Program) -> None:
    emu = program("li a7, 64\necall\nmv s0, a0\nli a7, 1000\necall\nli a7, 93\necall")
    calls: list[SystemCall] = []

    @emu.on_syscall("write")
    def write(e: Emulator, call: SystemCall) -> int:
        calls.append(call)
        return 12

    @emu.on_syscall(1000)
    def strange(e: Emulator, call: SystemCall) -> int:
        assert call.name == ""
        return -38

    emu.a0, emu.a1 = 1, DATA
    with pytest.raises(SystemCallTrap):
        emu.run()
    assert (calls[0].number, calls[0].name, calls[0].arguments[:3]) == (64, "write", (1, DATA, DATA))
    assert (emu.s0, emu.a0) == (12, (1 << 64) - 38)
    emu.on_syscall(lambda e, call: e.stop())
    assert emu.run().reason is StopReason.STOPPED
    assert emu.pc == CODE + 28


def test_traps(program: Program) -> None:
    emu = program("ebreak\nc.ebreak\nli a0, 3\nj .")
    traps: list[Trap] = []
    with pytest.raises(GuestTrap) as caught:
        emu.run()

    @emu.on_trap(code=caught.value.code)
    def skip(e: Emulator, trap: Trap) -> bool:
        traps.append(trap)
        return True

    emu.run(until=CODE + 10)
    assert emu.a0 == 3
    assert [trap.pc - CODE for trap in traps] == [0, 4]
    assert {trap.name for trap in traps} == {caught.value.name}
    with pytest.raises(EmulatorError, match="has no trap"):
        emu.on_trap("nonsense")


class Counter:
    """A device: reads count up, writes are kept."""

    def __init__(self) -> None:
        self.log: list[tuple[int, int, int]] = []
        self.count = 0

    def read(self, offset: int, size: int) -> int:
        self.count += 1
        return self.count << 8 | offset

    def write(self, offset: int, size: int, value: int) -> None:
        self.log.append((offset, size, value))
        if value == 0xBAD:
            raise RuntimeError("bad value")


def test_devices(program: Program) -> None:
    emu = program("lw a0, 4(a1)\nsh a0, 8(a1)\nlw a3, 4(a1)\nsw a4, 0(a1)\nj .")
    device = Counter()
    emu.map_device(0x90000, 0x100, device)
    emu.a1, emu.a4 = 0x90000, 0xBAD
    emu.run(until=CODE + 12)
    assert (emu.a0, emu.a3) == (0x104, 0x204)
    assert device.log == [(8, 2, 0x104)]
    with pytest.raises(RuntimeError, match="bad value"):
        emu.run(until=CODE + 16)
    assert emu.pc == CODE + 12
    emu.a4 = 1
    emu.run(until=CODE + 16)
    assert device.log[-1] == (0, 4, 1)
    assert emu.regions[-1].device is device
    emu.unmap(0x90000, 0x1000)
    with pytest.raises(UnmappedMemory):
        emu.run(CODE)


def test_hooks_are_fast(program: Program) -> None:
    """A wide margin below what is measured on an idle machine (over 4 million calls a second)."""
    emu = program(LOOP)

    @emu.on_code
    def nothing(e: Emulator, address: int, size: int) -> None:
        pass

    best = 0.0
    for _ in range(5):
        emu.a0 = 30_000
        begin = time.process_time()
        with pytest.raises(SystemCallTrap):
            emu.run(CODE)
        best = max(best, 90_000 / (time.process_time() - begin))
    assert best > 1_000_000


def test_a_hook_may_not_run_the_emulator_unless_it_says_so(program: Program) -> None:
    emu = program("addi a0, a0, 1\naddi a0, a0, 10\nj .\nother: addi a0, a0, 100\nnop")
    emu.a0 = 0
    raised: list[str] = []

    @emu.on_code(address=CODE + 4)
    def nest(e: Emulator, address: int, size: int) -> None:
        try:
            e.run(CODE + 12, count=1)
        except EmulatorError as error:
            raised.append(str(error))
        with e.nested():
            assert e.run(CODE + 12, until=CODE + 16).instructions == 1
        assert e.pc == CODE + 4

    emu.run(until=CODE + 8)
    assert len(raised) == 1 and "running already" in raised[0]
    assert emu.a0 == 111


def test_system_mode_delivers_traps_to_the_guest(emu: Emulator) -> None:
    guest = Emulator("riscv64", system=True)
    guest.map(CODE, 0x1000)
    guest.load_assembly(
        "start: ecall\nafter: wfi\nj after\n.balign 64\nhandler: csrr a0, mcause\n"
        "csrr t0, mepc\naddi t0, t0, 4\ncsrw mepc, t0\nmret",
        CODE,
    )
    guest.mtvec = guest.symbols["handler"]
    handled: list[int] = []
    guest.on_code(lambda e, address, size: handled.append(e.mepc), address="handler")
    result = guest.run("start")
    assert result.reason is StopReason.WAITING
    assert guest.a0 == 11
    assert handled == [CODE]
