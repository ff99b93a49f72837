"""RISC-V Linux (asm-generic numbers and structures; RISC-V ELF psABI)."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import Abi, GuestReader, SignalCall, SignalReturn
from runtime.linux.ports import EXECUTE, READ, Cpu, Memory

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

    reservation: ClassVar = {"reserved": 0}

    # The stack frame of a signal (arch/riscv/include/uapi/asm/ucontext.h, sigcontext.h): siginfo, then
    # ucontext: flags, link, stack, 128 bytes of mask, 16-byte aligned registers (pc, x1..x31), 528 bytes of
    # floating-point state.
    _CONTEXT: ClassVar[int] = 128

    def prepare_memory(self, memory: Memory) -> None:
        """A page above the stack with what handlers return to: ``li a7, 139 (rt_sigreturn); ecall``."""
        memory.map(self.stack_top, self.page_size, READ | EXECUTE)
        memory.write(self.stack_top, bytes.fromhex("9308b008 73000000"))

    def frame_size(self, with_info: bool = True) -> int:
        return self._layout()[2]

    def _layout(self) -> tuple[int, int, int]:
        """Offsets of the registers and the floating-point state, and the size."""
        registers = self._CONTEXT + 5 * self.word + 128  # flags, link, stack, mask with room for 1024 signals
        registers = -(-registers // 16) * 16
        floats = registers + 32 * self.word
        return registers, floats, floats + 528

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        registers, floats, size = self._layout()
        data = bytearray(size)
        data[0:128] = call.information
        at = self._CONTEXT
        head = self.pack_words(0, 0) + self.pack_stack(call.stack) + self.pack_mask(call.blocked)
        data[at : at + len(head)] = head
        values = [cpu.pc, *(cpu.get(f"x{n}") for n in range(1, 32))]
        data[registers:floats] = self.pack_words(*values)
        for n in range(32):
            data[floats + 8 * n : floats + 8 * n + 8] = self.pack(cpu.get(f"f{n}"), 8)
        fcsr = cpu.get("frm") << 5 | cpu.get("fflags")
        data[floats + 256 : floats + 260] = self.pack(fcsr, 4)
        memory.write(frame, bytes(data))
        cpu.set("sp", frame)
        cpu.set("ra", self.stack_top)
        cpu.set("a0", call.number)
        cpu.set("a1", frame)
        cpu.set("a2", frame + self._CONTEXT)
        cpu.pc = call.handler

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        registers, floats, size = self._layout()
        data = memory(cpu.get("sp") & self.mask, size)
        word = self.word
        values = [self.unpack(data[at : at + word]) for at in range(registers, floats, word)]
        for n in range(1, 32):
            cpu.set(f"x{n}", values[n])
        for n in range(32):
            cpu.set(f"f{n}", self.unpack(data[floats + 8 * n : floats + 8 * n + 8]))
        fcsr = self.unpack(data[floats + 256 : floats + 260])
        cpu.set("fflags", fcsr & 31)
        cpu.set("frm", fcsr >> 5 & 7)
        cpu.pc = values[0]
        at = self._CONTEXT + 2 * word
        mask = self.unpack_mask(data[at + 3 * word : at + 3 * word + 8])
        return SignalReturn(mask, self.unpack_stack(data[at : at + 3 * word]))


class Riscv32(Riscv64):
    name = "riscv32"
    targets: ClassVar[tuple[str, ...]] = ("riscv32",)
    machine = "riscv32"
    bits = 32
    stack_top = 0x9DC0_0000  # Linux's rv32: the user's part ends below 0x9dc00000
    stat = layouts.STAT64_GENERIC32
