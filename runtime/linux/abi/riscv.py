"""RISC-V Linux (asm-generic numbers and structures; RISC-V ELF psABI)."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import Abi

_HWCAP_IMAFDC = sum(1 << (ord(letter) - ord("A")) for letter in "IMAFDC")


class Riscv64(Abi):
    name = "riscv64"
    targets: ClassVar[tuple[str, ...]] = ("riscv64",)
    machine = "riscv64"
    bits = 64
    stack_top = 0x40_0000_0000 - 4096  # Sv39's user half, less the last page
    number_register = "a7"
    argument_registers = ("a0", "a1", "a2", "a3", "a4", "a5")
    result_register = "a0"
    thread_pointer = "tp"
    system_call_codes = frozenset({8, 9, 11})  # environment call from U, S or M (Privileged, table "mcause")
    signal_codes: ClassVar = {
        0: "SIGBUS",
        1: "SIGSEGV",
        2: "SIGILL",
        3: "SIGTRAP",
        4: "SIGBUS",
        5: "SIGSEGV",
        6: "SIGBUS",
        7: "SIGSEGV",
        12: "SIGSEGV",
        13: "SIGSEGV",
        15: "SIGSEGV",
    }
    has_restorer = False
    hwcap = _HWCAP_IMAFDC
    # User mode, floating-point unit on ("Initial"), counters readable.
    initial_state: ClassVar = {"priv": 0, "fs_on": 1, "fs_state": 1, "mcounteren": 7, "scounteren": 7}
    shown_registers = (
        *("ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1"),
        *("a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"),
        *("s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"),
    )


class Riscv32(Riscv64):
    name = "riscv32"
    targets: ClassVar[tuple[str, ...]] = ("riscv32",)
    machine = "riscv32"
    bits = 32
    stack_top = 0x9DC0_0000  # Linux's rv32: the user's part ends below 0x9dc00000
    stat = layouts.STAT64_GENERIC32
