"""PowerPC Linux: 32-bit big-endian, 64-bit big-endian (ELFv1) and little-endian (ELFv2)."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import GENERIC_IOCTLS, Abi, GuestReader, SignalCall, SignalReturn
from runtime.linux.ports import EXECUTE, READ, AccessFault, Cpu, Memory, Stop

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

    # The stack frame of a signal (arch/powerpc/kernel/signal_32.c, uapi/asm/ucontext.h): a small frame of a
    # function, then either sigcontext (16 unused bytes, number, handler, mask, pointer to registers) and
    # registers; or 16 bytes, siginfo, ucontext (flags, link, stack, 28 bytes, pointer to registers, 128 bytes
    # of mask, 12 bytes, registers).
    reservation: ClassVar = {"reserved": 0}
    _CALLER: ClassVar[int] = 64
    _REGISTERS: ClassVar[int] = 48 * 4 + 33 * 8 + 8
    _GAP: ClassVar[int] = 224

    def prepare_memory(self, memory: Memory) -> None:
        """A page above the stack with what handlers return to: ``li r0, 172 (rt_sigreturn); sc``, and the
        same with 119 (sigreturn).
        """
        memory.map(self.stack_top, self.page_size, READ | EXECUTE)
        code = (0x3800_00AC, 0x4400_0002, 0x3800_0077, 0x4400_0002)
        memory.write(self.stack_top, b"".join(self.pack(word, 4) for word in code))

    def frame_size(self, with_info: bool = True) -> int:
        head = 16 + 128 + 192 if with_info else 32
        return self._CALLER + head + self._REGISTERS + self._GAP

    def gather(self, cpu: Cpu) -> bytes:
        """``pt_regs`` (r0..r31, nip, msr, r3, ctr, lr, xer, cr, 0, trap, dar, dsisr, result) in 48 words, and
        the floating-point registers.
        """
        read = self.read_if_there
        values = [cpu.get(f"r{n}") for n in range(32)]
        values += [cpu.pc, 0, values[3], cpu.get("ctr"), cpu.get("lr"), read(cpu, "xer"), read(cpu, "cr")]
        floats = b"".join(self.pack(read(cpu, f"f{n}"), 8) for n in range(32))
        return (
            self.pack_words(*values).ljust(48 * self.word, b"\0") + floats + self.pack(read(cpu, "fpscr"), 8)
        )

    def scatter(self, cpu: Cpu, data: bytes) -> None:
        """The same backwards."""
        values = self.words(data, 0, 39)
        for n in range(32):
            cpu.set(f"r{n}", values[n])
        for name, value in (("ctr", values[35]), ("lr", values[36]), ("xer", values[37]), ("cr", values[38])):
            self.write_if_there(cpu, name, value)
        at = 48 * self.word
        for n in range(32):
            self.write_if_there(cpu, f"f{n}", self.unpack(data[at + 8 * n : at + 8 * n + 8]))
        cpu.pc = values[32]

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        registers = self.gather(cpu).ljust(self._REGISTERS, b"\0")
        data = self.pack_words(cpu.get("r1")).ljust(self._CALLER, b"\0")
        if call.with_info:
            first, second = frame + 80, frame + 208
            data += bytes(16) + call.information + self.pack_words(0, 0) + self.pack_stack(call.stack)
            data += bytes(28) + self.pack_words(second + 192)
            data += self.pack_mask(call.blocked).ljust(128, b"\0") + bytes(12) + registers
        else:
            first, second = frame + self._CALLER, 0
            high, low = call.blocked >> 32, call.blocked
            data += self.pack_words(0, 0, 0, high, call.number, call.handler, low, frame + 96) + registers
        memory.write(frame, data)
        for name, value in (("r1", frame), ("r3", call.number), ("r4", first), ("r5", second)):
            cpu.set(name, value)
        cpu.set("r6", frame + 80)
        cpu.set("lr", self.stack_top + (0 if call.with_info else 8))
        cpu.pc = call.handler

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        data = memory(cpu.get("r1") & self.mask, self.frame_size(with_info) - self._GAP)
        if with_info:
            self.scatter(cpu, data[400:])
            return SignalReturn(self.unpack_mask(data[260:268]), self.unpack_stack(data[216:228]))
        words = self.words(data, self._CALLER, 8)
        self.scatter(cpu, data[96:])
        return SignalReturn(words[3] << 32 | words[6])


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
    red_zone = 512

    # The stack frame of a signal (arch/powerpc/kernel/signal_64.c): a small frame of a function, ucontext
    # (flags, link, stack, 128 bytes of mask, sigcontext: 64 bytes, registers, pointer to and room for vector
    # registers), 16 + 24 bytes, pointers to siginfo and ucontext, siginfo, a gap.
    _CALLER: ClassVar[int] = 128
    _AT: ClassVar[int] = 168 + 64
    _POINTERS: ClassVar[int] = 1696 + 16 + 24
    _INFORMATION: ClassVar[int] = _POINTERS + 16
    _END: ClassVar[int] = _INFORMATION + 128 + 512

    def prepare_memory(self, memory: Memory) -> None:
        """What handlers return to: ``addi r1, r1, 128; li r0, 172 (rt_sigreturn); sc``."""
        memory.map(self.stack_top, self.page_size, READ | EXECUTE)
        code = (0x3821_0080, 0x3800_00AC, 0x4400_0002)
        memory.write(self.stack_top, b"".join(self.pack(word, 4) for word in code))

    def frame_size(self, with_info: bool = True) -> int:
        return self._CALLER + self._END

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        context = frame + self._CALLER
        data = bytearray(self._END)
        head = self.pack_words(0, 0) + self.pack_stack(call.stack) + self.pack_mask(call.blocked)
        data[: len(head)] = head
        data[200:208] = self.pack(call.number, 4) + bytes(4)
        data[208:232] = self.pack_words(call.handler, call.blocked, context + self._AT)
        registers = self.gather(cpu)
        data[self._AT : self._AT + len(registers)] = registers
        data[self._POINTERS : self._INFORMATION] = self.pack_words(context + self._INFORMATION, context)
        data[self._INFORMATION : self._INFORMATION + 128] = call.information
        memory.write(context, bytes(data))
        memory.write(frame, self.pack_words(cpu.get("r1")).ljust(self._CALLER, b"\0"))
        cpu.set("r1", frame)
        cpu.set("r3", call.number)
        cpu.set("r4", context + self._INFORMATION)
        cpu.set("r5", context)
        cpu.set("r6", context)
        cpu.set("lr", self.stack_top)
        self.enter_function(cpu, memory, call.handler)

    def enter_function(self, cpu: Cpu, memory: Memory, function: int) -> None:
        """ELFv1: a function's address is that of its descriptor."""
        cpu.set("r2", self.unpack(memory.read(function + 8, 8)))
        cpu.pc = self.unpack(memory.read(function, 8))

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        data = memory(cpu.get("r1") & self.mask, self._POINTERS)
        self.scatter(cpu, data[self._AT :])
        return SignalReturn(self.unpack_mask(data[40:48]), self.unpack_stack(data[16:40]))

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        """ELFv1: the entry point is a function descriptor (64-bit ELF ABI supplement, section 3.2). A program
        whose descriptor can't be read dies of SIGSEGV there.
        """
        cpu.set("r1", stack)
        try:
            self.enter_function(cpu, memory, entry)
        except AccessFault as fault:
            cpu.pc = fault.address & ~3


class Ppc64le(Ppc64):
    targets: ClassVar[tuple[str, ...]] = ("ppc64le",)
    machine = "ppc64le"
    order = "<"

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        """ELFv2: r12 holds the entry point's address (OpenPOWER ABI, section 2.3.2)."""
        cpu.set("r1", stack)
        self.enter_function(cpu, memory, entry)

    def enter_function(self, cpu: Cpu, memory: Memory, function: int) -> None:
        cpu.set("r12", function)
        cpu.pc = function
