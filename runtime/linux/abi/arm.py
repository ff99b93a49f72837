"""ARM Linux: AArch64 (asm-generic numbers) and 32-bit EABI."""

from __future__ import annotations

from typing import ClassVar

from runtime.elf import ElfFile
from runtime.linux import layouts
from runtime.linux.abi.base import Abi
from runtime.linux.errors import LoadError
from runtime.linux.ports import EXECUTE, READ, Cpu, Memory, Stop

_OPEN_FLAGS = {"O_DIRECTORY": 0o40000, "O_NOFOLLOW": 0o100000, "O_DIRECT": 0o200000, "O_LARGEFILE": 0o400000}


class Aarch64(Abi):
    name = "aarch64"
    targets: ClassVar[tuple[str, ...]] = ("aarch64",)
    machine = "aarch64"
    bits = 64
    stack_top = 0x80_0000_0000  # 39-bit user addresses
    number_register = "x8"
    argument_registers = ("x0", "x1", "x2", "x3", "x4", "x5")
    result_register = "x0"
    thread_pointer = "tpidr_el0"
    system_call_names = frozenset({"svc"})
    open_flag_changes: ClassVar = _OPEN_FLAGS
    hwcap = 0b11  # FP, ASIMD
    platform = "aarch64"
    shown_registers = (*(f"x{n}" for n in range(31)), "sp")


class Arm(Abi):
    name = "arm"
    targets: ClassVar[tuple[str, ...]] = ("arm",)
    machine = "armv7l"
    bits = 32
    stack_top = 0xBF00_0000
    number_register = "r7"
    argument_registers = ("r0", "r1", "r2", "r3", "r4", "r5")
    result_register = "r0"
    thread_pointer = "tpidruro"
    system_call_names = frozenset({"svc"})
    open_flag_changes: ClassVar = _OPEN_FLAGS
    stat = layouts.STAT64_ARM
    aligned_pairs = True
    # half, thumb, fast multiply, VFP, EDSP, NEON, VFPv3, TLS, VFPv4, IDIVA, IDIVT
    hwcap = 0x7_B0D7
    platform = "v7l"
    shown_registers = (*(f"r{n}" for n in range(13)), "sp", "lr")

    KUSER_PAGE: ClassVar[int] = 0xFFFF_0000

    def check_program(self, elf: ElfFile) -> None:
        if elf.flags >> 24 not in (4, 5):
            raise LoadError("an ARM program of the old ABI, not EABI", where=elf.name)

    def prepare_memory(self, memory: Memory) -> None:
        """The kernel's user helpers (Documentation/arch/arm/kernel_user_helpers)."""
        memory.map(self.KUSER_PAGE, 4096, READ | EXECUTE)
        helpers = {
            0xFA0: bytes.fromhex("ba0f07ee1eff2fe1"),  # memory_barrier: mcr p15, 0, r0, c7, c10, 5; bx lr
            # cmpxchg: ldr r3, [r2]; subs r3, r3, r0; streq r1, [r2]; rsbs r0, r3, #0; bx lr
            0xFC0: bytes.fromhex("003092e5003053e000108205000073e21eff2fe1"),
            0xFE0: bytes.fromhex("700f1dee1eff2fe1"),  # get_tls: mrc p15, 0, r0, c13, c0, 3; bx lr
            0xFFC: (5).to_bytes(4, "little"),  # helper version
        }
        for offset, code in helpers.items():
            memory.write(self.KUSER_PAGE + offset, code)

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        cpu.set("sp", stack)
        cpu.pc = entry

    def skip_call(self, cpu: Cpu, stop: Stop) -> None:
        thumb = cpu.get("cpsr") & 0x20
        cpu.retire((stop.pc + (2 if thumb else 4)) | (1 if thumb else 0))
