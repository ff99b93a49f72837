"""Registers, memory, runs and their ends, faults."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from isagen import (
    Emulator,
    EmulatorError,
    IllegalInstruction,
    IsagenError,
    MisalignedFetch,
    ProtectedMemory,
    StopReason,
    SystemCallTrap,
    UnmappedMemory,
)
from tests.isagen.emulator.conftest import CODE, DATA

Program = Callable[[str], Emulator]
LOOP = "loop: addi a1, a1, 1\naddi a0, a0, -1\nbnez a0, loop\necall"


def test_registers_are_attributes_and_items(emu: Emulator) -> None:
    emu.a0 = -1
    assert emu.a0 == emu.x10 == emu.registers["a0"] == emu.registers.x10 == (1 << 64) - 1
    emu.registers["t0"] = 7
    emu.registers.t1 = 1 << 64 | 8
    assert (emu.x5, emu.t1) == (7, 8)
    emu.zero = 5
    assert emu.zero == 0
    emu.fcsr = 0x61
    assert (emu.frm, emu.fflags, emu.fcsr) == (3, 1, 0x61)
    assert "a0" in emu.registers and "q" not in emu.registers
    assert emu.registers.as_dict()["t0"] == 7
    for bad in ("q", "a99", "hooked"):
        with pytest.raises(AttributeError):
            getattr(emu, bad)
        with pytest.raises(AttributeError):
            setattr(emu, bad, 1)
        with pytest.raises(AttributeError):
            setattr(emu.registers, bad, 1)


def test_wide_registers_and_parts(require_target: Callable[[str], Path]) -> None:
    require_target("x86_64")
    emu = Emulator("x86_64")
    emu.xmm3 = 0x112233445566778899AABBCCDDEEFF00
    assert emu.xmm3 == 0x112233445566778899AABBCCDDEEFF00
    emu.rax = 0x1122334455667788
    emu.ah = 0xFF
    assert (emu.rax, emu.eax, emu.ax, emu.al, emu.ah) == (
        0x112233445566FF88, 0x5566FF88, 0xFF88, 0x88, 0xFF,
    )  # fmt: skip
    emu.rflags = 0x8D5
    assert (emu.rflags, emu.cf, emu.pf, emu.af, emu.zf, emu.sf, emu.of) == (0x8D7, 1, 1, 1, 1, 1, 1)
    emu.zf = 0
    assert emu.eflags == 0x897
    emu.map(0x1000, 0x1000)
    emu.write(0x1000, emu.assemble("cmp rax, rax", 0x1000))
    emu.run(0x1000, count=1)
    assert (emu.zf, emu.sf, emu.cf, emu.rip) == (1, 0, 0, 0x1003)


def test_memory(emu: Emulator) -> None:
    emu.write(DATA + 0xFFE, b"abcd")
    assert emu.read(DATA + 0xFFE, 4) == b"abcd"
    emu.write_int(DATA, -2, 4)
    assert emu.read_int(DATA, 4) == 0xFFFFFFFE
    assert emu.read_int(DATA, 4, signed=True) == -2
    emu.write(DATA + 8, b"hello\0x")
    assert emu.read_string(DATA + 8) == b"hello"
    assert emu.read_string(DATA + 8, 3) == b"hel"
    assert [(r.address, r.size, r.permissions) for r in emu.regions] == [
        (CODE, 0x1000, "rwx"), (DATA, 0x2000, "rw-"),
    ]  # fmt: skip
    with pytest.raises(UnmappedMemory) as caught:
        emu.read(DATA + 0x1FFE, 4)
    assert (caught.value.address, caught.value.access) == (DATA + 0x2000, "read")
    emu.unmap(DATA, 0x1000)
    with pytest.raises(UnmappedMemory):
        emu.write(DATA, b"x")
    for start, size, permissions in (
        (1, 4096, 7),
        (0, 100, 7),
        (-4096, 4096, 7),
        (0, 4096, "q"),
        (0, 1 << 70, 7),
    ):
        with pytest.raises(IsagenError):
            emu.map(start, size, permissions)
    with pytest.raises(EmulatorError):
        emu.protect(0x5000, 0x1000, "r")


def test_a_run_ends_where_it_should(program: Program) -> None:
    emu = program(LOOP)
    emu.a0 = 10
    end = emu.run(CODE, until=CODE + 8)
    assert (end.reason, end.pc, end.instructions, emu.pc) == (StopReason.UNTIL, CODE + 8, 2, CODE + 8)
    end = emu.run(until=CODE + 8)
    assert (end.reason, end.instructions) == (StopReason.UNTIL, 0)
    end = emu.run(count=4)
    assert (end.reason, end.pc, end.instructions) == (StopReason.COUNT, CODE, 4)
    assert emu.step().instructions == 1
    assert emu.run(count=0).instructions == 0
    with pytest.raises(SystemCallTrap):
        emu.run()
    assert (emu.a0, emu.a1, emu.pc) == (0, 10, CODE + 12)
    emu.symbols["start"] = CODE
    emu.a0 = 3
    assert emu.run("start", until="start").instructions == 0
    with pytest.raises(EmulatorError, match="no symbol"):
        emu.run("nowhere")


def test_timeouts_and_stops_from_another_thread(program: Program) -> None:
    emu = program("j .")
    begin = time.monotonic()
    assert emu.run(timeout=0.05).reason is StopReason.TIMEOUT
    threading.Timer(0.05, emu.stop).start()
    assert emu.run().reason is StopReason.STOPPED
    assert time.monotonic() - begin < 5
    assert emu.run(count=5).reason is StopReason.COUNT


def test_faults_are_typed(program: Program) -> None:
    emu = program("ld a0, 0(a1)\nsd a0, 0(a1)\njr a1")
    emu.a1 = 0x5000
    for offset, access in ((0, "read"), (4, "write")):
        with pytest.raises(UnmappedMemory) as caught:
            emu.run(CODE + offset)
        assert (caught.value.address, caught.value.access, caught.value.pc) == (0x5000, access, CODE + offset)
        assert isinstance(caught.value, IsagenError)
    with pytest.raises(UnmappedMemory) as caught:
        emu.run(CODE + 8)
    assert (caught.value.access, caught.value.pc, emu.pc) == ("fetch", 0x5000, 0x5000)
    emu.protect(DATA, 0x1000, "r")
    emu.a1 = DATA
    with pytest.raises(ProtectedMemory) as protected:
        emu.run(CODE + 4)
    assert (protected.value.access, protected.value.address) == ("write", DATA)
    emu.a1 = CODE + 1
    with pytest.raises(MisalignedFetch):
        emu.pc = CODE + 1
        emu.run()
    emu.write(CODE, bytes(4))
    with pytest.raises(IllegalInstruction):
        emu.run(CODE)


def test_assembly_and_text(emu: Emulator) -> None:
    symbols = emu.load_assembly("start: addi a0, a0, 5\nend: ret\n.data\nvalue: .word 7", 0x40000)
    assert symbols["end"] == 0x40004
    assert emu.read_int(symbols["value"], 4) == 7
    assert emu.pc == 0x40000
    assert [line.text for line in emu.disassemble(count=2)] == ["addi a0, a0, 5", "ret"]
    assert [line.size for line in emu.disassemble(0x40000, 2)] == [4, 4]
    assert emu.disassemble(0x7000) == []
    emu.run("start", until="end")
    assert emu.a0 == 5


def test_an_elf_file(emu: Emulator, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    compiler = require_tool("riscv64-linux-gnu-gcc")
    source = tmp_path / "add.c"
    source.write_text(
        "int table[4] = {1, 2, 3, 4};\nint sum(int n) { int s = 0; while (n--) s += table[n]; return s; }\n"
    )
    path = tmp_path / "add"
    subprocess.run(
        [compiler, "-O1", "-static", "-nostdlib", "-Wl,-e,sum", "-o", path, source], check=True, timeout=60
    )
    guest = Emulator.from_elf(path)
    assert guest.target == "riscv64"
    assert guest.pc == guest.symbols["sum"]
    guest.a0 = 3
    guest.ra = 0x1000
    guest.run(until=0x1000)
    assert guest.a0 == 6
    seen: list[int] = []
    guest.on_code(lambda e, address, size: seen.append(address), symbol="sum")
    guest.a0 = 1
    guest.run("sum", until=0x1000)
    first, last = guest.extent_of("sum")
    assert seen[0] == first == guest.symbols["sum"]
    assert last in range(seen[-1], seen[-1] + 4)
    with pytest.raises(ProtectedMemory):
        guest.a0 = guest.symbols["sum"]
        guest.load(0x1000, guest.assemble("sd a0, 0(a0)"))
        guest.run(0x1000)
    with pytest.raises(IsagenError):
        Emulator.from_elf(source)


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(IsagenError, match="no target named"):
        Emulator("pdp11")


def test_importing_is_cheap() -> None:
    text = (
        "import sys, time; t = time.process_time(); from isagen import Emulator; t = time.process_time() - t;"
        "print(t, [m for m in ('numba', 'llvmlite', 'pydantic', 'rich') if m in sys.modules])"
    )
    found = [
        subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True).stdout.split(
            " ", 1
        )
        for _ in range(3)
    ]
    assert all(heavy.strip() == "[]" for _, heavy in found)
    assert min(float(seconds) for seconds, _ in found) < 0.15


def test_features_of_a_guest(require_target: Callable[[str], Path]) -> None:
    require_target("riscv64")
    emu = Emulator("riscv64", features="rv64i")
    emu.map(CODE, 0x1000)
    emu.write(CODE, Emulator("riscv64").assemble("mul a0, a0, a0"))
    with pytest.raises(IllegalInstruction):
        emu.run(CODE)


def test_translated_code_and_hooks(program: Program) -> None:
    with program(LOOP) as emu:
        emu.translate(background=False)
        emu.a0 = 3_000_000
        with pytest.raises(SystemCallTrap):
            emu.run(CODE)
        assert emu.a1 == 3_000_000
        seen: list[int] = []
        emu.on_code(lambda e, address, size: seen.append(e.a1), address=CODE + 4)
        emu.a0, emu.a1 = 100, 0
        with pytest.raises(SystemCallTrap):
            emu.run(CODE)
        assert seen == list(range(1, 101))


def test_float_registers_work_at_once(program: Program) -> None:
    emu = program("fadd.d fa0, fa0, fa0")
    emu.fa0 = 0x3FF0000000000000
    emu.run(count=1)
    assert emu.fa0 == 0x4000000000000000
