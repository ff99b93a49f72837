"""ARM Linux: AArch64 (asm-generic numbers) and 32-bit EABI."""

from __future__ import annotations

from typing import ClassVar

from runtime.elf import ElfFile
from runtime.linux import layouts
from runtime.linux.abi.base import Abi, GuestReader, SignalCall, SignalReturn
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
    system_call_names = frozenset({"supervisor_call"})
    open_flag_changes: ClassVar = _OPEN_FLAGS
    reservation: ClassVar = {"exclusive_address": (1 << 64) - 1}
    hwcap = 0b11  # FP, ASIMD
    platform = "aarch64"
    shown_registers = (*(f"x{n}" for n in range(31)), "sp")

    # The stack frame of a signal (arch/arm64/include/uapi/asm/sigcontext.h, ucontext.h): siginfo, then
    # ucontext: flags, link, stack, 128 bytes of mask; 16-byte aligned fault address, x0..x30, sp, pc, pstate;
    # 4096 bytes of records, of which the first holds the vector registers. Behind it a frame record.
    _CONTEXT: ClassVar[int] = 128
    _REGISTERS: ClassVar[int] = _CONTEXT + 176
    _RECORDS: ClassVar[int] = _REGISTERS + 288
    _RECORD: ClassVar[int] = _RECORDS + 4096
    _FPSIMD_MAGIC: ClassVar[int] = 0x46508001

    def prepare_memory(self, memory: Memory) -> None:
        """A page above the stack with what handlers return to: ``mov x8, 139 (rt_sigreturn); svc 0``."""
        memory.map(self.stack_top, self.page_size, READ | EXECUTE)
        memory.write(self.stack_top, bytes.fromhex("681180d2 010000d4"))

    def frame_size(self, with_info: bool = True) -> int:
        return self._RECORD + 16

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        data = bytearray(self._RECORD + 16)
        data[0:128] = call.information
        at = self._CONTEXT
        data[at : at + 48] = (
            self.pack_words(0, 0) + self.pack_stack(call.stack) + self.pack_mask(call.blocked)
        )
        general = [cpu.get(f"x{n}") for n in range(31)]
        flags = self.read_if_there(cpu, "nzcv")
        values = self.pack_words(call.address, *general, cpu.get("sp"), cpu.pc, flags)
        data[self._REGISTERS : self._REGISTERS + len(values)] = values
        status = [self.read_if_there(cpu, name) for name in ("fpsr", "fpcr")]
        vectors = b"".join(self.pack(self.read_if_there(cpu, f"v{n}"), 16) for n in range(32))
        record = b"".join(self.pack(value, 4) for value in (self._FPSIMD_MAGIC, 528, *status)) + vectors
        data[self._RECORDS : self._RECORDS + len(record)] = record
        data[self._RECORD :] = self.pack_words(general[29], general[30])
        memory.write(frame, bytes(data))
        cpu.set("sp", frame)
        cpu.set("x29", frame + self._RECORD)
        cpu.set("x30", call.restorer or self.stack_top)
        cpu.set("x0", call.number)
        cpu.set("x1", frame)
        cpu.set("x2", frame + self._CONTEXT)
        cpu.pc = call.handler

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        data = memory(cpu.get("sp"), self._RECORD)
        values = self.words(data, self._REGISTERS + 8, 34)
        for n in range(31):
            cpu.set(f"x{n}", values[n])
        cpu.set("sp", values[31])
        self.write_if_there(cpu, "nzcv", values[33])
        at = self._RECORDS
        if self.unpack(data[at : at + 4]) == self._FPSIMD_MAGIC:
            for i, name in enumerate(("fpsr", "fpcr")):
                self.write_if_there(cpu, name, self.unpack(data[at + 8 + 4 * i : at + 12 + 4 * i]))
            for n in range(32):
                self.write_if_there(cpu, f"v{n}", self.unpack(data[at + 16 + 16 * n : at + 32 + 16 * n]))
        cpu.pc = values[32]
        at = self._CONTEXT
        return SignalReturn(
            self.unpack_mask(data[at + 40 : at + 48]), self.unpack_stack(data[at + 16 : at + 40])
        )


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
    system_call_names = frozenset({"supervisor_call"})
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
            # what handlers return to: mov r7, 119 (sigreturn); svc 0, and the same with 173 (rt_sigreturn)
            self._RETURN: bytes.fromhex("7770a0e3000000ef"),
            self._RETURN + 8: bytes.fromhex("ad70a0e3000000ef"),
            0xFE0: bytes.fromhex("700f1dee1eff2fe1"),  # get_tls: mrc p15, 0, r0, c13, c0, 3; bx lr
            0xFFC: (5).to_bytes(4, "little"),  # helper version
        }
        for offset, code in helpers.items():
            memory.write(self.KUSER_PAGE + offset, code)

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        cpu.set("sp", stack)
        cpu.pc = entry

    def skip_call(self, cpu: Cpu, stop: Stop) -> None:
        cpu.retire(stop.pc + (2 if cpu.get("cpsr") & self._THUMB else 4) & self.mask)

    # The stack frame of a signal (arch/arm/kernel/signal.c, uapi/asm/ucontext.h): siginfo where the handler
    # wants it, then ucontext: flags, link, stack, sigcontext (trap, error, mask, r0..r15, cpsr, address), 128
    # bytes of mask, 512 bytes of coprocessors' records, 16 bytes of code.
    _RETURN: ClassVar[int] = 0xE00
    _THUMB: ClassVar[int] = 0x20
    _SWITCHES: ClassVar[int] = 0x0600_FC00
    """CPSR's IT bits."""
    _UCONTEXT: ClassVar[int] = 20 + 84 + 128 + 512 + 16
    _VFP_MAGIC: ClassVar[int] = 0x56465001

    def frame_size(self, with_info: bool = True) -> int:
        return self._UCONTEXT + (128 if with_info else 0)

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        general = [cpu.get(name) for name in (*(f"r{n}" for n in range(13)), "sp", "lr")]
        flags = self.read_if_there(cpu, "cpsr")
        context = self.pack_words(0, 0) + self.pack_stack(call.stack)
        context += self.pack_words(0, 0, call.blocked, *general, cpu.pc, flags, call.address)
        context += self.pack_mask(call.blocked).ljust(128, b"\0")
        context += self.pack_words(self._VFP_MAGIC, 288)
        context += b"".join(self.pack(self.read_if_there(cpu, f"d{n}"), 8) for n in range(32))
        context += self.pack_words(self.read_if_there(cpu, "fpscr"))
        at = frame + (128 if call.with_info else 0)
        if call.with_info:
            memory.write(frame, call.information)
            cpu.set("r1", frame)
            cpu.set("r2", at)
        memory.write(at, context.ljust(self._UCONTEXT, b"\0"))
        cpu.set("r0", call.number)
        cpu.set("sp", frame)
        cpu.set("lr", call.restorer or self.KUSER_PAGE + self._RETURN + (8 if call.with_info else 0))
        cpu.set("cpsr", flags & ~(self._THUMB | self._SWITCHES) | (self._THUMB if call.handler & 1 else 0))
        cpu.pc = call.handler & ~1

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        data = memory(cpu.get("sp") + (128 if with_info else 0) & self.mask, self._UCONTEXT)
        values = self.words(data, 20, 20)
        for i, name in enumerate((*(f"r{n}" for n in range(13)), "sp", "lr")):
            cpu.set(name, values[3 + i])
        cpu.set("cpsr", values[19])
        if self.words(data, 232, 1)[0] == self._VFP_MAGIC:
            for n in range(32):
                self.write_if_there(cpu, f"d{n}", self.unpack(data[240 + 8 * n : 248 + 8 * n]))
            self.write_if_there(cpu, "fpscr", self.words(data, 496, 1)[0])
        cpu.pc = values[18] & ~1
        return SignalReturn(self.unpack_mask(data[104:112]), self.unpack_stack(data[8:20]))
