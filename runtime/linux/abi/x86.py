"""x86 Linux: x86-64 (``syscall``) and i386 (``int 0x80``)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi import x86_float, x86_segments
from runtime.linux.abi.base import Abi, GuestReader, SignalCall, SignalReturn
from runtime.linux.abi.x86_segments import UserDescriptor
from runtime.linux.errors import SystemCallError
from runtime.linux.ports import EXECUTE, READ, WRITE, Cpu, Memory, Stop
from runtime.linux.siginfo import SI_KERNEL

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


# What the kernel sets before a program runs: the x87 as FNINIT leaves it (arch/x86/kernel/fpu/init.c).
_INITIAL: Mapping[str, int] = MappingProxyType({"fpu_cw": 0x37F})


_IF = 0x200
"""The flag that interrupts are allowed, which programs see set."""


class _X86(Abi):
    """What both have in common."""

    signal_codes: ClassVar = _SIGNALS
    initial_state = _INITIAL

    def signal_of(self, stop: Stop) -> str:
        """By the trap's vector, the low byte of its code; other software interrupts than the system call are
        general-protection faults.
        """
        if stop.kind == "fault":
            return "SIGSEGV"
        if stop.name == "software_interrupt" and stop.code & 0xFF not in (3, 4):
            return "SIGSEGV"
        return self.signal_codes.get(stop.code & 0xFF, "SIGSEGV")

    def signal_details(self, cpu: Cpu, stop: Stop) -> tuple[int, int] | None:
        """``si_code`` and ``si_addr`` (arch/x86/kernel/traps.c)."""
        vector = stop.code & 0xFF
        if stop.kind != "trap":
            return None
        if vector in (16, 19):
            return x86_float.error_code(cpu, simd=vector == 19), stop.pc
        if vector in (3, 11, 12, 13) or self.signal_of(stop) == "SIGSEGV":
            return SI_KERNEL, 0
        return {0: 1, 1: 2, 6: 2}.get(vector, SI_KERNEL), stop.pc  # FPE_INTDIV, TRAP_TRACE, ILL_ILLOPN

    def exception(self, stop: Stop, *, present: bool) -> tuple[int, int]:
        """A page fault's error code: bit 0 present, 1 write, 2 user, 4 fetch (SDM volume 3, 4.7)."""
        if stop.kind == "fault":
            kind = {WRITE: 2, EXECUTE: 16}.get(stop.access, 0)
            return 14, 4 | kind | present
        return stop.code & 0xFF, stop.code >> 8 & 0xFFFF

    def after_trap(self, cpu: Cpu, stop: Stop) -> None:
        """Traps, unlike faults, are reported behind their instruction (SDM volume 3, 6.5)."""
        if stop.name in ("breakpoint", "overflow") or stop.code & 0xFF in (3, 4):
            cpu.pc = stop.value or stop.pc + 1


class X86_64(_X86):
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
    system_call_names = frozenset({"system_call"})
    system_call_size = 2
    stat = layouts.STAT_X86_64
    hwcap = 0x0781_ABFD  # CPUID.1:EDX of a plain x86-64 with SSE2
    platform = "x86_64"
    shown_registers = (
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
        *(f"r{n}" for n in range(8, 16)),
    )
    frame_skew = 8

    # The stack frame of a signal (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h): where to return
    # to; ucontext: flags, link, stack, 256 bytes of registers, mask; siginfo; FXSAVE's 512 bytes.
    _ORDER: ClassVar = (
        *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
        *("rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp"),
    )
    _INFORMATION: ClassVar[int] = 8 + 304
    _FLOATS: ClassVar[int] = _INFORMATION + 128  # a multiple of 16, the frame being skewed
    _SEGMENTS: ClassVar[int] = 0x002B_0000_0000_0033  # cs, gs, fs, ss

    def frame_size(self, with_info: bool = True) -> int:
        return self._FLOATS + 512 + 8

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        general = [cpu.get(name) for name in self._ORDER]
        vector, error = call.exception
        data = self.pack_words(call.restorer, 6, 0) + self.pack_stack(call.stack)
        data += self.pack_words(*general, cpu.pc, self.read_if_there(cpu, "rflags") | _IF, self._SEGMENTS)
        data += self.pack_words(error, vector, call.blocked, call.address, frame + self._FLOATS).ljust(
            104, b"\0"
        )
        data += self.pack_mask(call.blocked) + call.information
        memory.write(frame, data.ljust(self._FLOATS, b"\0") + x86_float.save(cpu, 16))
        cpu.set("rsp", frame)
        cpu.set("rdi", call.number)
        cpu.set("rsi", frame + self._INFORMATION)
        cpu.set("rdx", frame + 8)
        cpu.set("rax", 0)
        self.write_if_there(cpu, "df", 0)
        cpu.pc = call.handler

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        """The handler's return has taken the first word from the stack."""
        data = memory(cpu.get("rsp") - 8 & self.mask, self._INFORMATION)
        values = self.words(data, 48, 24)
        for name, value in zip(self._ORDER, values, strict=False):
            cpu.set(name, value)
        self.write_if_there(cpu, "rflags", values[17])
        if values[23]:
            x86_float.restore(cpu, memory(values[23], 512), 16)
        cpu.pc = values[16]
        return SignalReturn(self.unpack_mask(data[304:312]), self.unpack_stack(data[24:48]))


class I386(_X86):
    name = "i386"
    packs_locks = True
    thread_area_size = x86_segments.DESCRIPTION_SIZE
    targets: ClassVar[tuple[str, ...]] = ("i386",)
    machine = "i686"
    bits = 32
    stack_top = 0xFFFF_D000
    number_register = "eax"
    argument_registers = ("ebx", "ecx", "edx", "esi", "edi", "ebp")
    result_register = "eax"
    stack_pointer = "esp"
    thread_pointer = "gs_base"
    system_call_codes = frozenset({0x80, 1 << 40 | 0x80})
    system_call_size = 2
    stat = layouts.STAT64_I386
    hwcap = 0x0781_ABFD
    platform = "i686"
    shown_registers = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")

    # The stack frame of a signal: where to return to, the number; then either sigcontext, 624 bytes, the
    # mask's upper half; or pointers to siginfo and ucontext (flags, link, stack, sigcontext, mask).
    frame_skew = 4
    _ORDER: ClassVar = ("edi", "esi", "ebp", "esp", "ebx", "edx", "ecx", "eax")
    _SEGMENTS: ClassVar = (0x33, 0, 0x2B, 0x2B)  # gs, fs, es, ds
    _CODE, _STACK = 0x23, 0x2B
    _CONTEXT: ClassVar[int] = 88
    _EXTRA: ClassVar[int] = 8 + _CONTEXT + 624

    def prepare_memory(self, memory: Memory) -> None:
        """A page above the stack with what handlers without a restorer return to: ``pop eax; mov eax, 119
        (sigreturn); int 0x80``, and ``mov eax, 173 (rt_sigreturn); int 0x80``.
        """
        memory.map(self.stack_top, self.page_size, READ | EXECUTE)
        memory.write(self.stack_top, bytes.fromhex("58b877000000cd80") + bytes.fromhex("b8ad000000cd80"))
        memory.map(self._table, self.page_size, READ)
        memory.write(self._table, x86_segments.first_table())

    # The descriptor table lies where the program can read it, which Linux doesn't let it.
    @property
    def _table(self) -> int:
        return self.stack_top + self.page_size

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        super().start(cpu, memory, entry, stack)
        self.write_if_there(cpu, "cs", self._CODE)
        for name in ("ss", "ds", "es"):
            self.write_if_there(cpu, name, self._STACK)
        self.write_if_there(cpu, "gdt_base", self._table)
        self.write_if_there(cpu, "gdt_limit", len(x86_segments.first_table()) - 1)

    def set_thread_area(self, cpu: Cpu, memory: Memory, description: bytes) -> int:
        """``struct user_desc`` {entry, base, limit, flags}; entry -1 asks for a free one."""
        new = UserDescriptor.unpack(description)
        entry = new.entry
        if entry == x86_segments.ANY_ENTRY:
            free = (n for n in x86_segments.TLS_ENTRIES if not any(memory.read(self._table + 8 * n, 8)))
            entry = next(free, -1)
            if entry < 0:
                raise SystemCallError(errno.ESRCH)
        self._check_entry(entry)
        self._set_entry(cpu, memory, entry, new)
        return entry

    def get_thread_area(self, memory: Memory, entry: int) -> bytes:
        self._check_entry(entry)
        return UserDescriptor.from_descriptor(memory.read(self._table + 8 * entry, 8)).pack(entry)

    @staticmethod
    def _check_entry(entry: int) -> None:
        if entry not in x86_segments.TLS_ENTRIES:
            raise SystemCallError(errno.EINVAL)

    def _set_entry(self, cpu: Cpu, memory: Memory, number: int, new: UserDescriptor) -> None:
        """Fill an entry; a segment register that holds it has the new base at once."""
        memory.write(self._table + 8 * number, new.descriptor())
        for name in ("fs", "gs"):
            if self.read_if_there(cpu, name) >> 3 == number:
                self.write_if_there(cpu, f"{name}_base", new.base)

    def install_tls(self, cpu: Cpu, memory: Memory, value: int) -> None:
        """`value` is the address of a ``struct user_desc``."""
        new = UserDescriptor.unpack(memory.read(value, x86_segments.DESCRIPTION_SIZE))
        if new.entry in x86_segments.TLS_ENTRIES:
            self._set_entry(cpu, memory, new.entry, new)

    def _frame_head(self, with_info: bool) -> int:
        """Bytes of a signal frame before the floating-point registers."""
        return 16 + 128 + 20 + self._CONTEXT + 8 if with_info else self._EXTRA + 4

    def frame_size(self, with_info: bool = True) -> int:
        return self._frame_head(with_info) + 12 + x86_float.LEGACY_SIZE + x86_float.SIZE

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        general = [cpu.get(name) for name in self._ORDER]
        context = self.pack_words(*self._SEGMENTS, *general, *call.exception, cpu.pc, self._CODE)
        floats = frame + self._frame_head(call.with_info) + 15 & ~15
        context += self.pack_words(self.read_if_there(cpu, "eflags") | _IF, general[3], self._STACK)
        context += self.pack_words(floats, call.blocked, call.address)
        back = call.restorer or self.stack_top + (8 if call.with_info else 0)
        first, second = (frame + 16, frame + 144) if call.with_info else (0, 0)
        if call.with_info:
            data = (
                self.pack_words(back, call.number, first, second) + call.information + self.pack_words(0, 0)
            )
            data += self.pack_stack(call.stack) + context + self.pack_mask(call.blocked)
        else:
            data = (self.pack_words(back, call.number) + context).ljust(self._EXTRA, b"\0")
            data += self.pack_words(call.blocked >> 32)
        data = data.ljust(floats - frame, b"\0") + x86_float.legacy(cpu) + x86_float.save(cpu, 8)
        memory.write(frame, data)
        cpu.set("esp", frame)
        cpu.set("eax", call.number)
        cpu.set("edx", first)
        cpu.set("ecx", second)
        self.write_if_there(cpu, "df", 0)
        cpu.pc = call.handler

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        """The handler's return, and ``pop`` of the old call, have taken words from the stack."""
        frame = cpu.get("esp") - (4 if with_info else 8)
        data = memory(frame & self.mask, self._frame_head(with_info))
        at = 16 + 128 + 20 if with_info else 8
        values = self.words(data, at, 22)
        for name, value in zip(self._ORDER, values[4:12], strict=True):
            cpu.set(name, value)
        self.write_if_there(cpu, "eflags", values[16])
        if values[19]:
            extended = memory(values[19] + x86_float.LEGACY_SIZE & self.mask, x86_float.SIZE)
            x86_float.restore(cpu, extended, 8)
        cpu.pc = values[14]
        if with_info:
            mask = self.unpack_mask(data[at + self._CONTEXT : at + self._CONTEXT + 8])
            return SignalReturn(mask, self.unpack_stack(data[152:164]))
        return SignalReturn(values[20] | self.words(data, self._EXTRA, 1)[0] << 32)
