"""RISC-V Linux (asm-generic numbers and structures; RISC-V ELF psABI)."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import Abi, SignalCall
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

    # The stack frame of a signal (arch/riscv/include/uapi/asm/ucontext.h, sigcontext.h): siginfo, then
    # ucontext: flags, link, stack, 128 bytes of mask, 16-byte aligned registers (pc, x1..x31), 528 bytes of
    # floating-point state.
    _CONTEXT: ClassVar[int] = 128
    _REGISTERS: ClassVar[int] = _CONTEXT + 176
    _FLOATS: ClassVar[int] = _REGISTERS + 32 * 8
    _FRAME: ClassVar[int] = _FLOATS + 528

    def prepare_memory(self, memory: Memory) -> None:
        """A page above the stack with what handlers return to: ``li a7, 139 (rt_sigreturn); ecall``."""
        if self.bits == 64:
            memory.map(self.stack_top, self.page_size, READ | EXECUTE)
            memory.write(self.stack_top, bytes.fromhex("9308b008 73000000"))

    def frame_size(self) -> int:
        return self._FRAME if self.bits == 64 else 0

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        data = bytearray(self._FRAME)
        data[0:128] = call.information
        address, flags, size = call.stack
        at = self._CONTEXT
        data[at : at + 48] = self.pack_words(0, 0, address, flags, size, call.blocked)
        values = [cpu.pc, *(cpu.get(f"x{n}") for n in range(1, 32))]
        data[self._REGISTERS : self._FLOATS] = self.pack_words(*values)
        floats = [cpu.get(f"f{n}") for n in range(32)]
        fcsr = cpu.get("frm") << 5 | cpu.get("fflags")
        data[self._FLOATS : self._FLOATS + 33 * 8] = self.pack_words(*floats, fcsr)
        memory.write(frame, bytes(data))
        cpu.set("sp", frame)
        cpu.set("ra", self.stack_top)
        cpu.set("a0", call.number)
        cpu.set("a1", frame)
        cpu.set("a2", frame + self._CONTEXT)
        cpu.pc = call.handler

    def leave_handler(self, cpu: Cpu, memory: Memory) -> int:
        data = memory.read(cpu.get("sp"), self._FRAME)
        words = [self.unpack(data[at : at + 8]) for at in range(0, self._FRAME, 8)]
        first = self._REGISTERS // 8
        for n in range(1, 32):
            cpu.set(f"x{n}", words[first + n])
        for n in range(32):
            cpu.set(f"f{n}", words[self._FLOATS // 8 + n])
        fcsr = words[self._FLOATS // 8 + 32]
        cpu.set("fflags", fcsr & 31)
        cpu.set("frm", fcsr >> 5 & 7)
        cpu.pc = words[first]
        return words[self._CONTEXT // 8 + 5]


class Riscv32(Riscv64):
    name = "riscv32"
    targets: ClassVar[tuple[str, ...]] = ("riscv32",)
    machine = "riscv32"
    bits = 32
    stack_top = 0x9DC0_0000  # Linux's rv32: the user's part ends below 0x9dc00000
    stat = layouts.STAT64_GENERIC32
