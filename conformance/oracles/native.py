"""The host's own processor as a peer: x86-64 Linux, user-level instructions.

Each machine is a process of its own that has the cases' memory and nothing else: an ELF file made here, held
by ptrace(2). A case puts registers and memory into it, lets it execute one instruction, and reads them back;
a signal tells how the instruction ended. The process never runs anything but the cases' instructions.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import weakref
from pathlib import Path
from typing import Any, Final

from conformance.cases import CaseMaker, Start
from conformance.corners import CODE, CODE_SIZE, DATA, DATA_SIZE, MEMORY_SIZE, READ_ONLY
from conformance.families.base import Peer, PeerRegister
from conformance.memory import code_area
from conformance.oracles.outcome import COMPLETED, UNKNOWN, Ending
from conformance.oracles.peer import PeerMachine

_TRACE_ME, _GET_REGISTERS, _SET_REGISTERS, _STEP = 0, 12, 13, 9
_GET_SIGNAL, _GET_SET, _PUT_SET, _SET_OPTIONS = 0x4202, 0x4204, 0x4205, 0x4200
_EXIT_KILL = 0x0010_0000
_XSTATE = 0x202

# `struct user_regs_struct` of x86-64 (sys/user.h).
# fmt: off
REGISTERS: Final = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)
# fmt: on
EXTENDED: Final = 0x1000
"""Numbers from here on are byte offsets into the XSAVE area (SDM volume 1, 13.4)."""
MXCSR: Final = EXTENDED + 24
FCW: Final = EXTENDED
FSW: Final = EXTENDED + 2
FTW: Final = EXTENDED + 4
ST: Final = EXTENDED + 32
XMM: Final = EXTENDED + 160
YMM_HIGH: Final = EXTENDED + 576
_STATE_BITS: Final = 512
"""Where the area's header says which of its components are there; x87, SSE and AVX are bits 0 to 2."""
_AREA: Final = 4096

_SEGMENTS: Final = ((DATA, DATA_SIZE, 6), (READ_ONLY, MEMORY_SIZE - DATA_SIZE, 4), (CODE, CODE_SIZE, 5))


def number(name: str) -> int:
    """The number of a general register for `PeerRegister`."""
    return REGISTERS.index(name)


def flags() -> frozenset[str]:
    """What /proc/cpuinfo says that the processor has."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def supported() -> bool:
    """Whether the host could be a peer."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _executable() -> bytes:
    """An ELF file whose segments are the cases' memory."""
    headers, content, offset = [], b"", 0x1000
    for address, size, flags in _SEGMENTS:
        headers.append(struct.pack("<IIQQQQQQ", 1, flags, offset, address, address, size, size, 0x1000))
        content += bytes(size)
        offset += size
    kind = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = kind + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, CODE, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    return (head + b"".join(headers)).ljust(0x1000, b"\0") + content


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class NativeMachine(PeerMachine):
    """A process with the cases' memory. Raises OSError where there can't be one: another system, no ptrace,
    or memory that low is forbidden (vm.mmap_min_addr).
    """

    name = "the host"
    known = "native"
    confuses = frozenset({("fault", "trap")})  # addresses that aren't canonical (SDM volume 1, 3.3.7.1)

    def __init__(self, maker: CaseMaker, peer: Peer) -> None:
        super().__init__(maker, peer, peer.registers)
        if not supported():
            raise OSError("only x86-64 Linux can be a peer")
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        libc.ptrace.restype = ctypes.c_long
        self._libc = libc
        self._pid = self._start()
        weakref.finalize(self, _end, self._pid)
        self._ptrace(_SET_OPTIONS, 0, _EXIT_KILL)
        self._memory = os.open(f"/proc/{self._pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self._registers = bytearray(8 * len(REGISTERS))
        self._ptrace(_GET_REGISTERS, 0, _address(self._registers))
        self._usual = bytes(self._registers)
        self._area = bytearray(_AREA)
        self._area_size = self._read_area()
        struct.pack_into("<Q", self._area, _STATE_BITS, self._component_bits())
        self._usual_area = bytes(self._area)

    def _start(self) -> int:
        file = os.memfd_create("cases", os.MFD_CLOEXEC)
        try:
            os.write(file, _executable())
            os.fchmod(file, 0o700)
            pid = os.fork()
            if pid == 0:
                try:
                    self._libc.ptrace(_TRACE_ME, 0, None, None)
                    os.execve(f"/proc/self/fd/{file}", ["cases"], {})
                finally:
                    os._exit(127)
        finally:
            os.close(file)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            raise OSError("the host doesn't allow memory that low, or no ptrace")
        return pid

    def _ptrace(self, request: int, address: int, data: int) -> None:
        if self._libc.ptrace(request, self._pid, address, data) == -1:
            error = ctypes.get_errno()
            raise OSError(error, f"ptrace: {os.strerror(error)}")

    def _read_area(self) -> int:
        vector = _Vector(_address(self._area), _AREA)
        self._ptrace(_GET_SET, _XSTATE, ctypes.addressof(vector))
        return int(vector.length)

    def _component_bits(self) -> int:
        return 7 if self._area_size > YMM_HIGH - EXTENDED else 3

    def put_code(self, address: int, code: bytes) -> None:
        os.pwrite(self._memory, code_area(address, code), CODE)

    def run(self, start: Start, pattern: bytes) -> tuple[Ending, list[int], int, bytes]:
        before = start.state(self.maker.memory)
        os.pwrite(self._memory, pattern, DATA)
        self._registers[:] = self._usual
        self._area[:] = self._usual_area
        for register in self.registers:
            self._set(register, self.value(register, before))
        struct.pack_into("<Q", self._registers, 8 * number("rip"), start.pc)
        self._ptrace(_SET_REGISTERS, 0, _address(self._registers))
        vector = _Vector(_address(self._area), self._area_size)
        self._ptrace(_PUT_SET, _XSTATE, ctypes.addressof(vector))
        self._ptrace(_STEP, 0, 0)
        _, status = os.waitpid(self._pid, 0)
        if not os.WIFSTOPPED(status):
            raise OSError(f"the process with the cases ended with status {status:#x}")
        ending = self._ending(os.WSTOPSIG(status))
        self._ptrace(_GET_REGISTERS, 0, _address(self._registers))
        self._read_area()
        pc = int(struct.unpack_from("<Q", self._registers, 8 * number("rip"))[0])
        found = [self._get(register) for register in self.registers]
        return ending, found, pc, os.pread(self._memory, MEMORY_SIZE, DATA)

    def _ending(self, number: int) -> Ending:
        """What a signal says (SDM volume 3, 6.15; Linux's arch/x86 sends these)."""
        if number == signal.SIGTRAP:
            return COMPLETED
        information = bytearray(128)
        self._ptrace(_GET_SIGNAL, 0, _address(information))
        code = struct.unpack_from("<i", information, 8)[0]
        address = struct.unpack_from("<Q", information, 16)[0]
        match number:
            case signal.SIGILL:
                return Ending("illegal")
            case signal.SIGSEGV if code in (1, 2):
                return Ending("fault", arguments=(address, 0))
            case signal.SIGSEGV:
                return Ending("trap", code=13)
            case signal.SIGBUS:
                return Ending("trap", code=UNKNOWN)  # #SS or #AC
            case signal.SIGFPE:
                return Ending("trap", code=0 if code == 1 else UNKNOWN)
        return Ending("other", signal.Signals(number).name)

    def _place(self, register: PeerRegister) -> tuple[bytearray, int, int]:
        """The buffer that holds a register, its place there, and its bytes."""
        if register.number < EXTENDED:
            return self._registers, 8 * register.number, 8
        bits = max([8, *(part.low + part.width for part in register.parts)])
        return self._area, register.number - EXTENDED, (bits + 7) // 8

    def _set(self, register: PeerRegister, value: int) -> None:
        buffer, place, size = self._place(register)
        buffer[place : place + size] = value.to_bytes(size, "little")

    def _get(self, register: PeerRegister) -> int:
        buffer, place, size = self._place(register)
        return int.from_bytes(buffer[place : place + size], "little")


def _address(buffer: bytearray) -> int:
    """Where a buffer's bytes are."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _end(pid: int) -> None:
    """End a process of ours and forget it."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
