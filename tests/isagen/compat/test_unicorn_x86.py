"""What only x86 has, under Unicorn and under our module: tuples as registers, ports, CPUID, privileges."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import isagen.compat.unicorn as ours

A, D = 0x100000, 0x200000
Script = Callable[[Any, Any, list[Any]], None]
SCRIPTS: list[Script] = []


def script(function: Script) -> Script:
    SCRIPTS.append(function)
    return function


def engine(u: Any, code: str) -> tuple[Any, int]:
    """An engine with the code at `A`, and where the code ends."""
    data = bytes.fromhex(code)
    uc = u.Uc(u.UC_ARCH_X86, u.UC_MODE_64)
    uc.mem_map(A, 0x1000)
    uc.mem_map(D, 0x1000)
    uc.mem_write(A, data + b"\x90")
    return uc, A + len(data)


@script
def x87(u: Any, r: Any, log: list[Any]) -> None:
    uc, end = engine(u, "d9e8 d9eb")  # fld1; fldpi
    uc.emu_start(A, end)
    names = ("ST0", "ST1", "FP0", "FP6", "FP7", "FPSW")
    log.append([uc.reg_read(getattr(r, f"UC_X86_REG_{name}")) for name in names])
    uc.reg_write(r.UC_X86_REG_FP2, (0xC000000000000000, 0x4001))
    log.append(uc.reg_read(r.UC_X86_REG_FP2))


@script
def model_specific_registers(u: Any, r: Any, log: list[Any]) -> None:
    uc, end = engine(u, "6448a10800000000000000")  # mov rax, fs:[8]
    uc.mem_write(D + 8, b"ABCDEFGH")
    uc.msr_write(0xC0000100, D)
    uc.reg_write(r.UC_X86_REG_MSR, (0xC0000101, 0x1234))
    log.append([uc.msr_read(0xC0000100), uc.reg_read(r.UC_X86_REG_FS_BASE), uc.msr_read(0xC0000101)])
    log.append(uc.reg_read_batch([r.UC_X86_REG_RBX, (r.UC_X86_REG_MSR, 0xC0000101)]))
    uc.emu_start(A, end)
    log.append(uc.reg_read(r.UC_X86_REG_RAX))


@script
def tables(u: Any, r: Any, log: list[Any]) -> None:
    uc, _ = engine(u, "90")
    uc.reg_write(r.UC_X86_REG_GDTR, (0, D, 0x1000, 0))
    log.append(uc.reg_read(r.UC_X86_REG_GDTR))


@script
def ports(u: Any, r: Any, log: list[Any]) -> None:
    # in al, 0x3f; out 0x46, al; in eax, dx; out dx, eax; in ax, dx
    uc, end = engine(u, "e43f e646 ed ef 66ed")

    def into(uc: Any, port: int, size: int, data: Any) -> int:
        log.append(("in", port, size, data, uc.reg_read(r.UC_X86_REG_RIP)))
        return 0x89F1

    def out(uc: Any, port: int, size: int, value: int, data: Any) -> None:
        log.append(("out", port, size, value, data, uc.reg_read(r.UC_X86_REG_RIP)))

    first = uc.hook_add(u.UC_HOOK_INSN, into, 7, 1, 0, r.UC_X86_INS_IN)
    uc.hook_add(u.UC_HOOK_INSN, out, 8, 1, 0, r.UC_X86_INS_OUT)
    uc.reg_write(r.UC_X86_REG_RDX, 0x3F8)
    uc.emu_start(A, end)
    log.append(uc.reg_read(r.UC_X86_REG_RAX))
    uc.hook_del(first)
    uc.emu_start(A, A + 2)
    log.append(uc.reg_read(r.UC_X86_REG_RAX))
    log.append(list(uc.mem_regions()))


@script
def strings_from_ports(u: Any, r: Any, log: list[Any]) -> None:
    uc, end = engine(u, "f36c")  # rep insb

    def into(uc: Any, port: int, size: int, data: Any) -> int:
        log.append((port, size))
        return 0x41

    uc.hook_add(u.UC_HOOK_INSN, into, None, 1, 0, r.UC_X86_INS_IN)
    for name, value in {"RDI": D, "RCX": 3, "RDX": 9}.items():
        uc.reg_write(getattr(r, f"UC_X86_REG_{name}"), value)
    uc.emu_start(A, end)
    log.append((bytes(uc.mem_read(D, 5)), uc.reg_read(r.UC_X86_REG_RCX)))


@script
def cpuid(u: Any, r: Any, log: list[Any]) -> None:
    uc, end = engine(u, "90 0fa2 48ffc3")

    def asked(uc: Any, data: Any) -> int:
        log.append((data, uc.reg_read(r.UC_X86_REG_RIP)))
        uc.reg_write(r.UC_X86_REG_RAX, 0x99)
        return 1

    uc.hook_add(u.UC_HOOK_INSN, asked, 5, 1, 0, r.UC_X86_INS_CPUID)
    uc.emu_start(A, end)
    log.append([uc.reg_read(number) for number in (r.UC_X86_REG_RAX, r.UC_X86_REG_RBX, r.UC_X86_REG_RIP)])


@script
def sysenter(u: Any, r: Any, log: list[Any]) -> None:
    uc, end = engine(u, "0f34 48ffc3")
    uc.hook_add(
        u.UC_HOOK_INSN,
        lambda uc, data: log.append((data, uc.reg_read(r.UC_X86_REG_RIP))),
        "data", 1, 0, r.UC_X86_INS_SYSENTER,
    )  # fmt: skip
    uc.emu_start(A, end)
    log.append((uc.reg_read(r.UC_X86_REG_RBX), uc.reg_read(r.UC_X86_REG_RIP)))


@script
def privileged_instructions(u: Any, r: Any, log: list[Any]) -> None:
    # mov rax, cr0; cli; sti; rdtsc; pushfq; wbinvd; in al, 1 (which nobody answers); hlt, which ends the run
    for code in ("0f20c0", "fa", "fb", "0f31", "9c", "0f09", "e401", "f490"):
        uc, end = engine(u, code)
        uc.reg_write(r.UC_X86_REG_RSP, D + 0x800)
        uc.emu_start(A, end)
        log.append((code, uc.reg_read(r.UC_X86_REG_RIP)))


@pytest.mark.slow
@pytest.mark.parametrize("function", SCRIPTS, ids=lambda function: function.__name__)
def test_a_script(
    function: Script, require_module: Callable[[str], ModuleType], require_target: Callable[[str], Path]
) -> None:
    require_target("x86_64")
    expected: list[Any] = []
    function(require_module("unicorn"), importlib.import_module("unicorn.x86_const"), expected)
    found: list[Any] = []
    function(ours, ours.x86_const, found)
    assert found == expected
    assert expected
