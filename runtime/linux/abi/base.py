"""The description of an architecture's Linux: registers, numbers, structures, flags, and how a program
starts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from runtime.elf import ElfFile
from runtime.errors import IsagenError, NotYetError
from runtime.linux import layouts
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import Layout
from runtime.linux.ports import Cpu, Memory, Stop

GuestReader = Callable[[int, int], bytes]
"""Reads memory that the guest may read: address, size."""

GENERIC_SIGNALS = {
    "SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8,
    "SIGKILL": 9, "SIGUSR1": 10, "SIGSEGV": 11, "SIGUSR2": 12, "SIGPIPE": 13, "SIGALRM": 14, "SIGTERM": 15,
    "SIGSTKFLT": 16, "SIGCHLD": 17, "SIGCONT": 18, "SIGSTOP": 19, "SIGTSTP": 20, "SIGTTIN": 21, "SIGTTOU": 22,
    "SIGURG": 23, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGVTALRM": 26, "SIGPROF": 27, "SIGWINCH": 28, "SIGIO": 29,
    "SIGPWR": 30, "SIGSYS": 31,
}  # fmt: skip

# Open flags of x86 and asm-generic, which are the host's; architectures list their differences.
GENERIC_OPEN_FLAGS = {
    "O_CREAT": 0o100, "O_EXCL": 0o200, "O_NOCTTY": 0o400, "O_TRUNC": 0o1000, "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000, "O_DSYNC": 0o10000, "O_DIRECT": 0o40000, "O_LARGEFILE": 0o100000,
    "O_DIRECTORY": 0o200000, "O_NOFOLLOW": 0o400000, "O_NOATIME": 0o1000000, "O_CLOEXEC": 0o2000000,
    "O_PATH": 0o10000000, "O_TMPFILE": 0o20000000,
}  # fmt: skip

GENERIC_IOCTLS = {
    "TCGETS": 0x5401, "TCSETS": 0x5402, "TCSETSW": 0x5403, "TCSETSF": 0x5404, "TCSBRK": 0x5409,
    "TCXONC": 0x540A, "TCFLSH": 0x540B, "TIOCEXCL": 0x540C, "TIOCNXCL": 0x540D, "TIOCSCTTY": 0x540E,
    "TIOCGPGRP": 0x540F, "TIOCSPGRP": 0x5410, "TIOCOUTQ": 0x5411, "TIOCGWINSZ": 0x5413, "TIOCSWINSZ": 0x5414,
    "FIONREAD": 0x541B, "FIONBIO": 0x5421, "TIOCNOTTY": 0x5422, "TCSBRKP": 0x5425, "TIOCGSID": 0x5429,
    "TIOCGPTN": 0x80045430, "TIOCSPTLCK": 0x40045431, "TIOCGPTPEER": 0x5441, "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451, "SIOCATMARK": 0x8905, "FIGETBSZ": 2, "FICLONE": 0x40049409,
}  # fmt: skip


class SignalCall(NamedTuple):
    """What a signal's handler is called with."""

    number: int
    handler: int
    restorer: int
    information: bytes
    """``siginfo_t``, 128 bytes."""
    blocked: int
    """The mask to put back."""
    stack: tuple[int, int, int]
    """The alternate stack's address, flags and size."""
    with_info: bool = True
    """SA_SIGINFO: the handler takes three arguments; some architectures have another frame without it."""
    address: int = 0
    """``si_addr``, of faults."""
    exception: tuple[int, int] = (0, 0)
    """The exception's number and error code."""


class SignalReturn(NamedTuple):
    """What the frame of a handler that returns says, beside the registers."""

    blocked: int
    stack: tuple[int, int, int] | None = None
    """The alternate stack, where the frame has it."""


class Abi:
    """One architecture's Linux. Subclasses set the class variables and override what works differently."""

    name: ClassVar[str]
    """Also the name of the table of system-call numbers."""
    targets: ClassVar[tuple[str, ...]]
    """Names of the targets that can run its programs, preferred first."""
    machine: ClassVar[str]
    """As ``uname -m`` prints it."""
    bits: ClassVar[int]
    order: ClassVar[str] = "<"
    page_size: ClassVar[int] = 4096
    stack_top: ClassVar[int]
    """The end of the user's address space (exclusive), under which the stack lies."""
    number_register: ClassVar[str]
    argument_registers: ClassVar[tuple[str, ...]]
    result_register: ClassVar[str]
    stack_pointer: ClassVar[str] = "sp"
    thread_pointer: ClassVar[str] = ""
    system_call_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the traps that are system calls."""
    system_call_codes: ClassVar[frozenset[int]] = frozenset()
    """Codes of the traps that are system calls."""
    system_call_size: ClassVar[int] = 4
    """Bytes of a system-call instruction."""
    signal_codes: ClassVar[dict[int, str]] = {}
    """The signals that traps turn into, by the trap's code; others are SIGILL."""
    signals: ClassVar[dict[str, int]] = GENERIC_SIGNALS
    error_numbers: ClassVar[dict[int, int]] = {}
    """From the host's error numbers to the guest's, where they differ."""
    open_flag_changes: ClassVar[dict[str, int]] = {}
    ioctls: ClassVar[dict[str, int]] = GENERIC_IOCTLS
    stat: ClassVar[Layout] = layouts.STAT_GENERIC64
    """What ``fstat``, ``newfstatat``, ``fstat64`` and ``fstatat64`` fill in."""
    has_restorer: ClassVar[bool] = True
    """Whether ``struct sigaction`` has the field ``sa_restorer``."""
    action_flags: ClassVar[Mapping[int, int]] = MappingProxyType({})
    """asm-generic's flags of actions (SA_RESTART, ...) by the architecture's, where they differ."""
    frame_skew: ClassVar[int] = 0
    """How far below a multiple of 16 a signal frame begins."""
    red_zone: ClassVar[int] = 0
    """Bytes below the stack pointer that are a function's own."""
    stack_bias: ClassVar[int] = 0
    """What the stack pointer is below the address that it means."""
    reservation: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """Registers, by the specs' names, that hold a load's reservation, and their values without one."""
    pipe_in_registers: ClassVar[bool] = False
    """Whether ``pipe`` returns its two descriptors in registers."""
    thread_area_size: ClassVar[int] = 0
    """Bytes that describe an entry for thread-local storage; 0: there are none, nor the calls for them."""
    packs_locks: ClassVar[bool] = False
    """Whether ``struct flock64`` of a 32-bit architecture has no padding."""
    large_file_flag: ClassVar[int] = 0
    """What F_GETFL adds."""
    clone_child_first: ClassVar[bool] = False
    """Whether clone takes the address for the child's number before the thread pointer (clone(2))."""
    socket_level: ClassVar[int] = 1
    """SOL_SOCKET."""
    socket_types: ClassVar[Mapping[int, int]] = MappingProxyType({})
    """The host's types of sockets by the guest's, where they differ."""
    aligned_pairs: ClassVar[bool] = False
    """Whether 64-bit arguments of a 32-bit architecture start at an even argument register."""
    hwcap: ClassVar[int] = 0
    hwcap2: ClassVar[int] = 0
    platform: ClassVar[str] = ""
    initial_state: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """Registers of the system that the kernel has set before a program runs, by the specs' names."""
    shown_registers: ClassVar[tuple[str, ...]] = ()
    """Registers to print with a fault."""

    @property
    def word(self) -> int:
        """Bytes of a ``long``."""
        return self.bits // 8

    @property
    def mask(self) -> int:
        return (1 << self.bits) - 1

    @property
    def program_base(self) -> int:
        """Where position-independent programs are loaded: two thirds up, as Linux does."""
        return self.stack_top // 3 * 2 // 0x10000 * 0x10000

    @cached_property
    def call_names(self) -> dict[int, str]:
        """Names of the system calls by number."""
        text = (Path(__file__).parent.parent / "tables" / f"{self.name}.tsv").read_text()
        names: dict[int, str] = {}
        for line in text.splitlines():
            number, name = line.split("\t")
            names.setdefault(int(number), name)
        return names

    @cached_property
    def signal_names(self) -> dict[int, str]:
        return {number: name for name, number in self.signals.items()}

    @cached_property
    def ioctl_names(self) -> dict[int, str]:
        """Names of the ioctl requests by number."""
        return {number: name for name, number in self.ioctls.items()}

    @cached_property
    def _open_flags(self) -> list[tuple[int, int]]:
        flags = {**GENERIC_OPEN_FLAGS, **self.open_flag_changes}
        return [(guest, getattr(os, name)) for name, guest in flags.items() if hasattr(os, name)]

    def open_flags(self, guest: int) -> int:
        """The host's open flags for the guest's."""
        host = guest & 3
        for ours, theirs in self._open_flags:
            if guest & ours:
                host |= theirs
        return host

    def guest_open_flags(self, host: int) -> int:
        """The guest's open flags for the host's (as F_GETFL gives them)."""
        guest = host & 3
        for ours, theirs in self._open_flags:
            if theirs and host & theirs == theirs:
                guest |= ours
        return guest

    # --- entering and leaving system calls ------------------------------------------------------------

    def is_system_call(self, stop: Stop) -> bool:
        return stop.kind == "trap" and (
            stop.name in self.system_call_names or stop.code in self.system_call_codes
        )

    def call_number(self, cpu: Cpu) -> int:
        return cpu.get(self.number_register) & 0xFFFF_FFFF

    def name_of_call(self, cpu: Cpu) -> str:
        return self.call_names.get(self.call_number(cpu), "")

    def arguments(self, cpu: Cpu, count: int) -> list[int]:
        mask = self.mask
        return [cpu.get(name) & mask for name in self.argument_registers[:count]]

    def finish_call(self, cpu: Cpu, stop: Stop, result: int, error: int) -> None:
        """Give the caller `result`, or the guest's error number `error` unless that is 0, and step over
        the call.
        """
        cpu.set(self.result_register, (-error if error else result) & self.mask)
        self.skip_call(cpu, stop)

    def skip_call(self, cpu: Cpu, stop: Stop) -> None:
        cpu.retire((stop.pc + self.system_call_size) & self.mask)

    def second_result(self, cpu: Cpu, value: int) -> None:
        """The second result of calls that return two (``pipe`` on some architectures)."""
        raise NotImplementedError

    def after_fork(self, cpu: Cpu, child: bool) -> None:
        """Set what fork and clone leave in registers besides the result."""

    # --- faults ---------------------------------------------------------------------------------------

    def signal_of(self, stop: Stop) -> str:
        """The name of the signal that a trap or fault turns into."""
        if stop.kind == "fault":
            return "SIGSEGV"
        return self.signal_codes.get(stop.code, "SIGILL")

    def signal_details(self, cpu: Cpu, stop: Stop) -> tuple[int, int] | None:
        """``si_code`` and ``si_addr`` of a trap's signal, where they are the architecture's own."""
        return None

    def exception(self, stop: Stop, *, present: bool) -> tuple[int, int]:
        """The exception's number and error code, where signal frames tell them. `present`: there is a page
        where an access faulted.
        """
        return 0, 0

    def after_trap(self, cpu: Cpu, stop: Stop) -> None:
        """Set the pc that a trap's handler sees, where it isn't that of the instruction."""

    # --- calling handlers --------------------------------------------------------------------------------

    def frame_size(self, with_info: bool = True) -> int:
        """Bytes of a signal frame."""
        raise NotYetError(f"handlers of signals can't be called on {self.name} yet")

    def enter_handler(self, cpu: Cpu, memory: Memory, frame: int, call: SignalCall) -> None:
        """Write the signal frame at `frame` and set the registers for the handler."""
        raise NotImplementedError

    def leave_handler(self, cpu: Cpu, memory: GuestReader, with_info: bool) -> SignalReturn:
        """Set the registers from the frame that the stack pointer points to: ``rt_sigreturn``, or
        ``sigreturn`` if not `with_info`. Raises `AccessFault`.
        """
        raise SystemCallError(errno.ENOSYS)

    @staticmethod
    def read_if_there(cpu: Cpu, register: str) -> int:
        """A register's value; 0 where the target hasn't got it."""
        try:
            return cpu.get(register)
        except (KeyError, IsagenError):
            return 0

    @staticmethod
    def write_if_there(cpu: Cpu, register: str, value: int) -> None:
        with contextlib.suppress(KeyError, IsagenError):
            cpu.set(register, value)

    def words(self, data: bytes, at: int, count: int) -> list[int]:
        """`count` words of `data` from offset `at` on."""
        word = self.word
        return [self.unpack(data[i : i + word]) for i in range(at, at + count * word, word)]

    def host_signal(self, number: int) -> int:
        """The host's number of the guest's signal."""
        return getattr(signal, self.signal_names.get(number, ""), number)

    @cached_property
    def _from_host(self) -> dict[int, int]:
        return {self.host_signal(number): number for number in range(1, 65)}

    def guest_signal(self, number: int) -> int:
        """The guest's number of the host's signal."""
        return self._from_host.get(number, number)

    @cached_property
    def interrupted(self) -> int:
        """The guest's EINTR."""
        return self.error_numbers.get(errno.EINTR, errno.EINTR)

    def generic_action_flags(self, flags: int) -> int:
        """asm-generic's numbers for an action's flags."""
        if not self.action_flags:
            return flags
        return sum(generic for own, generic in self.action_flags.items() if flags & own)

    def own_action_flags(self, flags: int) -> int:
        """The reverse of `generic_action_flags`."""
        if not self.action_flags:
            return flags
        return sum(own for own, generic in self.action_flags.items() if flags & generic)

    def pack_mask(self, mask: int) -> bytes:
        """A signal mask: an array of words, the lowest signals in the first."""
        return self.pack_words(*(mask >> shift for shift in range(0, 64, self.bits)))

    def unpack_mask(self, data: bytes) -> int:
        word = self.word
        return sum(self.unpack(data[i : i + word]) << (8 * i) for i in range(0, 8, word))

    def pack_stack(self, stack: tuple[int, int, int]) -> bytes:
        """``stack_t``: address, flags (an int), size, each in a word."""
        address, flags, size = stack
        return (
            self.pack(address, self.word)
            + self.pack(flags, 4).ljust(self.word, b"\0")
            + self.pack(size, self.word)
        )

    def unpack_stack(self, data: bytes) -> tuple[int, int, int]:
        word = self.word
        size = self.unpack(data[2 * word : 3 * word])
        return self.unpack(data[:word]), self.unpack(data[word : word + 4]), size

    # --- starting -------------------------------------------------------------------------------------

    def check_program(self, elf: ElfFile) -> None:
        """Raises `LoadError` for programs of this machine that don't follow this ABI."""

    def extra_auxv(self) -> list[tuple[int, int]]:
        """Architecture's own entries of the auxiliary vector, in front of the others."""
        return []

    def prepare_memory(self, memory: Memory) -> None:
        """Map what the kernel provides beside the program."""

    def stack_frame(self) -> int:
        """Bytes that the start-up code expects free below the argument count."""
        return 0

    def start(self, cpu: Cpu, memory: Memory, entry: int, stack: int) -> None:
        """Set the registers as the kernel does when a program begins."""
        cpu.set(self.stack_pointer, stack)
        cpu.pc = entry

    def set_thread_pointer(self, cpu: Cpu, value: int) -> None:
        cpu.set(self.thread_pointer, value)

    def install_tls(self, cpu: Cpu, memory: Memory, value: int) -> None:
        """What clone's argument for thread-local storage asks for. Raises `AccessFault`."""
        self.set_thread_pointer(cpu, value)

    def set_thread_area(self, cpu: Cpu, memory: Memory, description: bytes) -> int:
        """Fill the entry that a description names, or a free one: its number. Raises SystemCallError."""
        raise SystemCallError(errno.ENOSYS)

    def get_thread_area(self, memory: Memory, entry: int) -> bytes:
        """The description of an entry. Raises SystemCallError."""
        raise SystemCallError(errno.ENOSYS)

    # --- values ---------------------------------------------------------------------------------------

    def pack_words(self, *values: int) -> bytes:
        """`values` as an array of ``long``."""
        order = "little" if self.order == "<" else "big"
        return b"".join((v & self.mask).to_bytes(self.word, order) for v in values)  # type: ignore[arg-type]

    def unpack(self, data: bytes, signed: bool = False) -> int:
        """The number that `data` holds in this byte order."""
        return int.from_bytes(data, "little" if self.order == "<" else "big", signed=signed)

    def pack(self, value: int, size: int) -> bytes:
        """`value`, wrapped to `size` bytes."""
        wrapped = value & ((1 << (8 * size)) - 1)
        return wrapped.to_bytes(size, "little" if self.order == "<" else "big")
