"""x86 Linux: x86-64 (``syscall``) and i386 (``int 0x80``)."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import Abi
from runtime.linux.ports import Cpu

# Exceptions by vector (SDM vol. 3, table 6-1).
_SIGNALS = {
    0: "SIGFPE",
    1: "SIGTRAP",
    3: "SIGTRAP",
    4: "SIGSEGV",
    5: "SIGSEGV",
    6: "SIGILL",
    11: "SIGBUS",
    12: "SIGBUS",
    13: "SIGSEGV",
    14: "SIGSEGV",
    16: "SIGFPE",
    17: "SIGBUS",
    19: "SIGFPE",
}


class X86_64(Abi):
    name = "x86_64"
    clone_child_first = True
    red_zone = 128
    targets: ClassVar[tuple[str, ...]] = ("x86_64",)
    machine = "x86_64"
    bits = 64
    stack_top = 0x7FFF_FFFF_F000
    number_register = "rax"
    argument_registers = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    result_register = "rax"
    stack_pointer = "rsp"
    thread_pointer = "fs_base"
    system_call_names = frozenset({"syscall"})
    system_call_size = 2
    signal_codes: ClassVar = _SIGNALS
    stat = layouts.STAT_X86_64
    hwcap = 0x0781_ABFD  # CPUID.1:EDX of a plain x86-64 with SSE2
    platform = "x86_64"
    shown_registers = (
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
        *(f"r{n}" for n in range(8, 16)),
    )


class I386(Abi):
    name = "i386"
    packs_locks = True
    targets: ClassVar[tuple[str, ...]] = ("i386",)
    machine = "i686"
    bits = 32
    stack_top = 0xFFFF_D000
    number_register = "eax"
    argument_registers = ("ebx", "ecx", "edx", "esi", "edi", "ebp")
    result_register = "eax"
    stack_pointer = "esp"
    thread_pointer = "gs_base"
    system_call_codes = frozenset({0x80})
    system_call_size = 2
    signal_codes: ClassVar = _SIGNALS
    stat = layouts.STAT64_I386
    hwcap = 0x0781_ABFD
    platform = "i686"
    shown_registers = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")

    def set_thread_pointer(self, cpu: Cpu, value: int) -> None:
        cpu.set("gs_base", value)
