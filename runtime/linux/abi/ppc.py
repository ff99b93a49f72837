"""PowerPC Linux: 32-bit big-endian, 64-bit big-endian (ELFv1) and little-endian (ELFv2)."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import GENERIC_IOCTLS, Abi
from runtime.linux.ports import Cpu, Memory, Stop

_AT_DCACHEBSIZE, _AT_ICACHEBSIZE, _AT_UCACHEBSIZE, _AT_IGNOREPPC = 19, 20, 21, 22


class Ppc(Abi):
    name = "ppc"
    targets: ClassVar[tuple[str, ...]] = ("ppc",)
    machine = "ppc"
    bits = 32
    order = ">"
    stack_top = 0xC000_0000
    number_register = "r0"
    argument_registers = ("r3", "r4", "r5", "r6", "r7", "r8")
    result_register = "r3"
    stack_pointer = "r1"
    thread_pointer = "r2"
    system_call_codes = frozenset({0xC00})
    # Interrupt vectors (Power ISA, book III): data and instruction storage, alignment, program, floating
    # point.
    signal_codes: ClassVar = {
        0x300: "SIGSEGV",
        0x380: "SIGSEGV",
        0x400: "SIGSEGV",
        0x480: "SIGSEGV",
        0x600: "SIGBUS",
        0x700: "SIGILL",
        0x800: "SIGFPE",
        0xD00: "SIGTRAP",
    }
    open_flag_changes: ClassVar = {
        "O_DIRECTORY": 0o40000,
        "O_NOFOLLOW": 0o100000,
        "O_LARGEFILE": 0o200000,
        "O_DIRECT": 0o400000,
    }
    ioctls: ClassVar = {
        **GENERIC_IOCTLS,
        **{"TCGETS": 0x402C_7413, "TCSETS": 0x802C_7414, "TCSETSW": 0x802C_7415, "TCSETSF": 0x802C_7416},
        **{"TCSBRK": 0x2000_741D, "TCXONC": 0x2000_741E, "TCFLSH": 0x2000_741F, "TIOCOUTQ": 0x4004_7473},
        **{"TIOCSWINSZ": 0x8008_7467, "TIOCGPTN": 0x4004_5430, "TIOCSPTLCK": 0x8004_5431},
        **{"TIOCGPTPEER": 0x2000_5441, "FIGETBSZ": 0x2000_0002, "FICLONE": 0x8004_9409},
        **{"TIOCGPGRP": 0x4004_7477, "TIOCSPGRP": 0x8004_7476, "TIOCGWINSZ": 0x4008_7468},
        **{"FIONREAD": 0x4004_667F, "FIONBIO": 0x8004_667E, "FIOCLEX": 0x2000_6601, "FIONCLEX": 0x2000_6602},
    }
    stat = layouts.STAT64_GENERIC32
    aligned_pairs = True
    hwcap = 0x8C00_0000  # 32-bit, FPU, MMU
    platform = "power8"
    shown_registers = (*(f"r{n}" for n in range(32)), "lr", "ctr")

    def extra_auxv(self) -> list[tuple[int, int]]:
        ignored = [(_AT_IGNOREPPC, _AT_IGNOREPPC)] * 2  # the kernel pads with two such entries
        return [*ignored, (_AT_DCACHEBSIZE, 128), (_AT_ICACHEBSIZE, 128), (_AT_UCACHEBSIZE, 0)]

    def finish_call(self, cpu: Cpu, stop: Stop, result: int, error: int) -> None:
        """Errors are positive, and CR0's summary overflow bit tells them from results."""
        cpu.set("r3", (error or result) & self.mask)
        cpu.set("crb3", 1 if error else 0)  # CR0[SO]
        self.skip_call(cpu, stop)


class Ppc64(Ppc):
    name = "ppc64"
    targets: ClassVar[tuple[str, ...]] = ("ppc64",)
    machine = "ppc64"
    bits = 64
    stack_top = 0x1000_0000_0000
    thread_pointer = "r13"
    stat = layouts.STAT_X86_64
    aligned_pairs = False
    hwcap = 0xCC00_0000  # 64-bit, 32-bit, FPU, MMU

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        """ELFv1: the entry point is a function descriptor (64-bit ELF ABI supplement, section 3.2)."""
        cpu.set("r1", stack)
        cpu.set("r2", self.unpack(memory.read(entry + 8, 8)))
        cpu.pc = self.unpack(memory.read(entry, 8))


class Ppc64le(Ppc64):
    targets: ClassVar[tuple[str, ...]] = ("ppc64le",)
    machine = "ppc64le"
    order = "<"

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        """ELFv2: r12 holds the entry point's address (OpenPOWER ABI, section 2.3.2)."""
        cpu.set("r1", stack)
        cpu.set("r12", entry)
        cpu.pc = entry
