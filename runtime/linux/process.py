"""The state of one guest process: what the system calls work on.

Every guest process is a process of the host, so that files, pipes, process groups, parents and children are
the host's; its threads take turns on one CPU (`runtime.linux.scheduler`).
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from runtime.linux.abi.base import Abi
from runtime.linux.descriptors import Descriptors, OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.family import Family
from runtime.linux.memory import GuestMemory
from runtime.linux.namespace import Namespace
from runtime.linux.ports import Cpu, Memory
from runtime.linux.siginfo import SignalInfo
from runtime.linux.thread import Action, FutexWaiter, Thread
from runtime.linux.timers import Timers

if TYPE_CHECKING:
    from runtime.elf import ElfFile
    from runtime.linux.supervisor import Supervisor

FIRST_THREAD: Final = 1 << 23
"""Numbers of threads beyond the first one start here: above all process numbers (4194304 at most)."""
DENIABLE: Final = ("net", "exec", "write")

Disassemble = Callable[[Abi, bytes, int], tuple[int, str]]
"""Length and text of the instruction that bytes for an address begin with."""
Prepare = Callable[["ElfFile"], tuple[Abi, Cpu, Memory]]
"""Makes what runs a program. Raises IsagenError where nothing can."""


class Settings:
    """What the person who runs the program has asked for. Children have the same."""

    def __init__(
        self,
        prepare: Prepare | None = None,
        disassemble: Disassemble | None = None,
        denied: frozenset[str] = frozenset(),
        memory_limit: int = 16 << 30,
        process_limit: int = 256,
        cpus: int = 1,
    ) -> None:
        self.prepare = prepare
        """For execve; without it there is none."""
        self.disassemble = disassemble
        """For reports of faults."""
        self.denied = denied
        """Kinds of calls to refuse, of `DENIABLE`."""
        self.memory_limit = memory_limit
        """Bytes that a process may map."""
        self.process_limit = process_limit
        """Processes at a time."""
        self.cpus = cpus
        """Threads that run at a time, each in a thread of the host (`runtime.linux.parallel`); 1: they take
        turns.
        """


class Process:
    """A process. The thread that has the CPU is `thread`."""

    def __init__(
        self,
        abi: Abi,
        cpu: Cpu,
        memory: GuestMemory,
        *,
        executable: bytes,
        arguments: list[bytes],
        environment: list[bytes],
        settings: Settings | None = None,
        namespace: Namespace | None = None,
    ) -> None:
        self.abi = abi
        self.cpu = cpu
        self.memory = memory
        self.settings = settings or Settings()
        self.namespace = namespace or Namespace()
        self.executable = executable
        """The program's path as the guest sees it."""
        self.program_file: int | None = None
        """A host descriptor of the program, for ``/proc/self/exe``."""
        self.arguments = arguments
        self.environment = environment
        self.auxiliary = b""
        """The auxiliary vector as it lies on the stack."""
        self.files = Descriptors()
        self.umask = os.umask(0o22)
        os.umask(self.umask)
        self.limits: dict[int, tuple[int, int]] = {}
        self.timers = Timers()
        self.futexes: dict[int, list[FutexWaiter]] = {}
        """Who waits, by address, in the order of arrival."""
        self.actions: dict[int, Action] = {}
        self.pending: list[SignalInfo] = []
        """Signals for whichever thread takes them first."""
        self.thread = Thread(os.getpid(), name=os.path.basename(executable)[:15])  # noqa: PTH119 - bytes
        self.threads = [self.thread]
        self.signal_files: list[OpenFile] = []
        """The signalfds: to be made readable when their signals are pending."""
        self.next_thread = FIRST_THREAD
        self.family = Family(self.settings.process_limit)
        self.children: set[int] = set()
        self._former: deque[int] = deque(maxlen=256)
        self.is_child = False
        """Made by fork: it ends without going back to who started the first process."""
        self.after_fork: list[Callable[[], None]] = []
        """What children do first."""
        self.before_end: list[Callable[[], None]] = []
        """What happens when the process ends or turns into another program (a vfork's parent goes on)."""
        self.on_action: Callable[[int, int], None] = lambda number, handler: None
        """Is told of a signal's new handler."""
        self.on_mask: Callable[[], None] = lambda: None
        """Is told that masks or handlers have changed."""
        self.stand_still: Callable[[], None] = lambda: None
        """Has the threads that run beside the calling one stop, until its call ends."""
        self.instructions = 0
        self.attention = False
        """There may be a signal to deliver."""
        self.supervisor: Supervisor | None = None
        """A debugger. Children have none."""

    # --- threads --------------------------------------------------------------------------------------

    def thread_of(self, number: int) -> Thread:
        """The thread of that number. Raises ESRCH."""
        for thread in self.threads:
            if thread.id == number:
                return thread
        raise SystemCallError(errno.ESRCH)

    def forget_child(self, pid: int) -> None:
        """A child has ended, and was waited for."""
        self.children.discard(pid)
        self._former.append(pid)

    def knows_child(self, pid: int) -> bool:
        """Whether a process is, or was of late, the guest's child: not one of the emulator's own."""
        return pid in self.children or pid in self._former

    # --- what is refused ------------------------------------------------------------------------------

    def need(self, kind: str) -> None:
        """Raises what a call of a kind in `DENIABLE` fails with, where the kind is denied."""
        if kind in self.settings.denied:
            raise SystemCallError(errno.EROFS if kind == "write" else errno.EACCES)

    # --- arguments ------------------------------------------------------------------------------------

    def path(self, address: int) -> bytes:
        """The path at `address`. Raises ENAMETOOLONG beyond PATH_MAX."""
        return self.memory.string(address, 4095)

    def long_pair(self, first: int, second: int, third: int) -> int:
        """A 64-bit argument that begins at an odd-numbered (second, fourth) argument word, as a signed
        number.
        """
        if self.abi.bits == 64:
            value = first
        else:
            pair = (second, third) if self.abi.aligned_pairs else (first, second)
            low, high = pair if self.abi.order == "<" else (pair[1], pair[0])
            value = high << 32 | low
        return value - (1 << 64) if value >> 63 else value

    def even_pair(self, first: int, second: int) -> int:
        """A 64-bit argument of a 32-bit architecture that begins at an even-numbered argument word,
        signed.
        """
        low, high = (first, second) if self.abi.order == "<" else (second, first)
        value = high << 32 | low
        return value - (1 << 64) if value >> 63 else value

    def word_at(self, address: int) -> int:
        """The ``long`` at `address`, unsigned."""
        return self.abi.unpack(self.memory.read(address, self.abi.word))

    def int_at(self, address: int) -> int:
        """The ``int`` at `address`."""
        return self.abi.unpack(self.memory.read(address, 4), signed=True)

    def put_int(self, address: int, value: int) -> None:
        """Write an ``int``."""
        self.memory.write(address, self.abi.pack(value, 4))
