"""SPARC Linux, V8 and V9."""

from __future__ import annotations

from typing import ClassVar

from runtime.linux import layouts
from runtime.linux.abi.base import GENERIC_IOCTLS, GENERIC_SIGNALS, Abi, GuestReader, SignalCall, SignalReturn
from runtime.linux.errors import SPARC_ERRORS, renumbering
from runtime.linux.ports import EXECUTE, READ, Cpu, Memory, Stop


class Sparc(Abi):
    name = "sparc"
    pipe_in_registers = True
    socket_level = 0xFFFF
    # SA_ONSTACK, SA_RESTART, SA_RESETHAND, SA_NOCLDSTOP, SA_NODEFER, SA_NOCLDWAIT, SA_SIGINFO (asm/signal.h)
    action_flags: ClassVar = {
        **{1: 0x0800_0000, 2: 0x1000_0000, 4: 0x8000_0000, 8: 1, 0x20: 0x4000_0000},
        **{0x100: 2, 0x200: 4},
    }
    targets: ClassVar[tuple[str, ...]] = ("sparc",)
    machine = "sparc"
    bits = 32
    order = ">"
    stack_top = 0xF000_0000
    page_size = 8192
    number_register = "g1"
    argument_registers = ("o0", "o1", "o2", "o3", "o4", "o5")
    result_register = "o0"
    stack_pointer = "sp"
    thread_pointer = "g7"
    system_call_codes = frozenset({0x90, 0x110, 0x16D})  # ta 0x10; V9's trap type 0x110; ta 0x6d
    # Trap types (SPARC V8 manual, table 7-1; V9 manual, table 14).
    signal_codes: ClassVar = {
        0x01: "SIGSEGV",
        0x02: "SIGILL",
        0x03: "SIGILL",
        0x07: "SIGBUS",
        0x08: "SIGSEGV",
        0x09: "SIGSEGV",
        0x10: "SIGILL",
        0x21: "SIGFPE",
        0x28: "SIGFPE",
        0x2A: "SIGFPE",
        0x30: "SIGSEGV",
        0x34: "SIGBUS",
        0x81: "SIGTRAP",
        0x101: "SIGTRAP",
    }
    signals: ClassVar = {
        **{name: number for name, number in GENERIC_SIGNALS.items() if name != "SIGSTKFLT"},
        **{
            "SIGEMT": 7,
            "SIGBUS": 10,
            "SIGSYS": 12,
            "SIGURG": 16,
            "SIGSTOP": 17,
            "SIGTSTP": 18,
            "SIGCONT": 19,
        },
        **{"SIGCHLD": 20, "SIGIO": 23, "SIGPWR": 29, "SIGUSR1": 30, "SIGUSR2": 31},
    }
    error_numbers: ClassVar = renumbering(SPARC_ERRORS)
    open_flag_changes: ClassVar = {
        **{"O_APPEND": 0x8, "O_CREAT": 0x200, "O_TRUNC": 0x400, "O_EXCL": 0x800, "O_DSYNC": 0x2000},
        **{"O_NONBLOCK": 0x4000, "O_NOCTTY": 0x8000, "O_LARGEFILE": 0x40000, "O_DIRECT": 0x100000},
        **{"O_NOATIME": 0x200000, "O_CLOEXEC": 0x400000, "O_PATH": 0x1000000, "O_TMPFILE": 0x2000000},
    }
    ioctls: ClassVar = {
        **GENERIC_IOCTLS,
        **{"TCGETS": 0x4024_5408, "TCSETS": 0x8024_5409, "TCSETSW": 0x8024_540A, "TCSETSF": 0x8024_540B},
        **{"TCSBRK": 0x2000_5405, "TCXONC": 0x2000_5406, "TCFLSH": 0x2000_5407, "TIOCOUTQ": 0x4004_7473},
        **{"TIOCSWINSZ": 0x8008_7467, "TIOCGPTN": 0x4004_7486, "TIOCSPTLCK": 0x8004_7487},
        **{"TIOCNOTTY": 0x2000_7471, "TIOCSCTTY": 0x2000_7484, "TIOCGPTPEER": 0x2000_7489},
        **{"TIOCEXCL": 0x2000_740D, "TIOCNXCL": 0x2000_740E, "FIGETBSZ": 0x2000_0002, "FICLONE": 0x8004_9409},
        **{"TIOCGPGRP": 0x4004_7483, "TIOCSPGRP": 0x8004_7482, "TIOCGWINSZ": 0x4008_7468},
        **{"FIONREAD": 0x4004_667F, "FIONBIO": 0x8004_667E, "FIOCLEX": 0x2000_6601, "FIONCLEX": 0x2000_6602},
    }
    stat = layouts.STAT64_SPARC32
    hwcap = 0
    shown_registers = tuple(f"{kind}{n}" for kind in "goli" for n in range(8))
    carries: ClassVar[tuple[str, ...]] = ("c",)
    """The carry bits of the condition codes."""

    def stack_frame(self) -> int:
        return 16 * self.word  # where the first register window would be saved

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        cpu.set("sp", stack - self.stack_frame() - self.stack_bias)
        cpu.set("g1", 0)
        cpu.pc = entry
        cpu.set("npc", entry + 4)

    def skip_call(self, cpu: Cpu, stop: Stop) -> None:
        following = cpu.get("npc")
        cpu.retire(following)
        cpu.set("npc", (following + 4) & self.mask)

    def finish_call(self, cpu: Cpu, stop: Stop, result: int, error: int) -> None:
        """Errors are positive, and the carry bit tells them from results."""
        cpu.set("o0", (error or result) & self.mask)
        for carry in self.carries:
            cpu.set(carry, 1 if error else 0)
        self.skip_call(cpu, stop)

    def after_fork(self, cpu: Cpu, child: bool) -> None:
        """The second result tells the child from the parent."""
        cpu.set("o1", int(child))

    def second_result(self, cpu: Cpu, value: int) -> None:
        cpu.set("o1", value)

    # The stack frame of a signal (arch/sparc/kernel/signal_32.c): 24 words of a function's frame; then either
    # registers (psr, pc, npc, y, g0..g7, o0..o7), mask, pointer, code, the mask's other half; or siginfo,
    # registers, mask, pointer, code, stack. The window's other registers stay where they are.
    _CALLER: ClassVar[int] = 96
    _SETS: ClassVar = (*(f"g{n}" for n in range(8)), *(f"o{n}" for n in range(6)), "sp", "o7")

    def prepare_memory(self, memory: Memory) -> None:
        """A page above the stack with what handlers return to: ``mov 101 (rt_sigreturn), %g1; ta 0x10``, and
        the same with 216 (sigreturn).
        """
        memory.map(self.stack_top, self.page_size, READ | EXECUTE)
        code = (0x8210_2065, self._TRAP, 0x8210_20D8, self._TRAP)
        memory.write(self.stack_top, b"".join(self.pack(word, 4) for word in code))

    _TRAP: ClassVar[int] = 0x91D0_2010

    def frame_size(self, with_info: bool = True) -> int:
        return self._CALLER + (128 if with_info else 0) + 80 + 48

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        general = [cpu.get(name) for name in self._SETS]
        state = self.read_if_there(cpu, "psr")
        registers = self.pack_words(state, cpu.pc, cpu.get("npc"), cpu.get("y"), *general)
        data = bytes(self._CALLER)
        first = frame + self._CALLER
        second = first
        if call.with_info:
            second = first + 128
            data += call.information + registers + self.pack_mask(call.blocked) + bytes(12)
            data += self.pack_stack(call.stack)
        else:
            data += (
                registers + self.pack_words(call.blocked) + bytes(12) + self.pack_words(call.blocked >> 32)
            )
        memory.write(frame, data)
        self.enter_function(cpu, frame, call, first, second)

    def enter_function(self, cpu: Cpu, frame: int, call: SignalCall, first: int, second: int) -> None:
        cpu.set("sp", frame - self.stack_bias)
        cpu.set("o0", call.number)
        cpu.set("o1", first)
        cpu.set("o2", second)
        cpu.set("o7", call.restorer or self.stack_top - 8 + (0 if call.with_info else 8))
        cpu.pc = call.handler
        cpu.set("npc", call.handler + 4)

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        data = memory(cpu.get("sp") + self._CALLER & self.mask, self.frame_size(with_info) - self._CALLER)
        at = 128 if with_info else 0
        values = self.words(data, at, 20)
        for name, value in zip(self._SETS[1:], values[5:], strict=True):
            cpu.set(name, value)
        self.write_if_there(cpu, "psr", values[0])
        cpu.set("y", values[3])
        cpu.pc = values[1]
        cpu.set("npc", values[2])
        at += 80
        if with_info:
            return SignalReturn(
                self.unpack_mask(data[at : at + 8]), self.unpack_stack(data[at + 20 : at + 32])
            )
        return SignalReturn(self.words(data, at, 1)[0] | self.words(data, at + 16, 1)[0] << 32)


class Sparc64(Sparc):
    name = "sparc64"
    targets: ClassVar[tuple[str, ...]] = ("sparc64",)
    machine = "sparc64"
    bits = 64
    stack_top = 0x7FF_FFFF_E000
    stat = layouts.STAT_X86_64
    stack_bias = 2047
    carries = ("c", "xc")

    # arch/sparc/kernel/signal_64.c: 24 words of a function's frame, siginfo, registers (g0..g7, o0..o7,
    # tstate, tpc, tnpc, y, magic), pointer, stack, mask, pointer.
    _CALLER: ClassVar[int] = 192
    _TRAP: ClassVar[int] = 0x91D0_206D

    def frame_size(self, with_info: bool = True) -> int:
        return self._CALLER + 128 + 160 + 8 + 24 + 8 + 8

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        general = [cpu.get(name) for name in self._SETS]
        state = self.read_if_there(cpu, "ccr") << 32
        data = bytes(self._CALLER) + call.information
        data += self.pack_words(*general, state, cpu.pc, cpu.get("npc"))
        data += self.pack(cpu.get("y"), 4) + self.pack(0x57AC_6C00, 4) + bytes(8)
        data += self.pack_stack(call.stack) + self.pack_mask(call.blocked) + bytes(8)
        memory.write(frame, data)
        first = frame + self._CALLER
        self.enter_function(cpu, frame, call, first, first)

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        frame = cpu.get("sp") + self.stack_bias + self._CALLER
        data = memory(frame & self.mask, self.frame_size() - self._CALLER)
        values = self.words(data, 128, 19)
        for name, value in zip(self._SETS[1:], values[1:16], strict=True):
            cpu.set(name, value)
        self.write_if_there(cpu, "ccr", values[16] >> 32 & 0xFF)
        cpu.set("y", self.unpack(data[280:284]))
        cpu.pc = values[17]
        cpu.set("npc", values[18])
        return SignalReturn(self.unpack_mask(data[320:328]), self.unpack_stack(data[296:320]))
