"""One guest process: it runs the CPU, answers system calls, and turns faults into signals."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.elf import ElfFile
from runtime.linux import loader, signals
from runtime.linux.abi.base import Abi
from runtime.linux.calls import load_handlers
from runtime.linux.descriptors import Descriptors
from runtime.linux.errors import CallTookOver, GuestExit, SystemCallError
from runtime.linux.ports import AccessFault, Cpu, Memory, Stop

SLICE = 200_000_000
"""Instructions between two looks at the host's signals: well under a second."""


class Process:
    """A process of one thread. Attributes are what the system calls work on."""

    def __init__(
        self,
        elf: ElfFile,
        abi: Abi,
        cpu: Cpu,
        pages: Memory,
        *,
        arguments: Sequence[bytes],
        environment: Sequence[bytes],
        memory_limit: int = 16 << 30,
    ) -> None:
        self.abi = abi
        self.cpu = cpu
        self.executable = os.fsencode(Path(elf.name).resolve())
        self.arguments = list(arguments)
        self.files = Descriptors(self)
        self.signals = signals.Signals()
        self.umask = os.umask(0o22)
        os.umask(self.umask)
        self.limits: dict[int, tuple[int, int]] = {}
        self.clear_child_tid = 0
        self.instructions = 0
        self.memory = loader.new_memory(abi, pages, memory_limit)
        image = loader.load(elf, abi, self.memory)
        abi.prepare_memory(pages)
        stack = loader.build_stack(
            abi,
            self.memory,
            elf,
            image,
            executable=os.fsencode(elf.name),
            arguments=arguments,
            environment=environment,
        )
        for register, value in abi.initial_state.items():
            cpu.set(register, value)
        abi.start(cpu, pages, image.entry, stack)
        handlers = load_handlers()
        self._calls: dict[int, tuple[Callable[..., int], int]] = {
            number: handlers[name] for number, name in abi.call_names.items() if name in handlers
        }

    # --- running --------------------------------------------------------------------------------------

    def run(self, limit: int | None = None) -> int | None:
        """Run until the process ends, and return its exit status: 128 + signal if a signal killed it.

        Returns None where `limit` instructions were executed before that.
        """
        cpu, abi = self.cpu, self.abi
        try:
            while True:
                budget = SLICE if limit is None else min(SLICE, limit - self.instructions)
                if budget <= 0:
                    return None
                stop = cpu.run(budget)
                self.instructions += stop.instructions
                if stop.kind == "budget":
                    continue
                if abi.is_system_call(stop):
                    self.instructions += 1
                    self.system_call(stop)
                else:
                    signals.fault(self, stop)
        except GuestExit as ended:
            return ended.status

    def system_call(self, stop: Stop) -> None:
        """Answer the system call at `stop`."""
        cpu, abi = self.cpu, self.abi
        found = self._calls.get(abi.call_number(cpu))
        result, error = 0, 0
        if found is None:
            error = errno.ENOSYS
        else:
            handler, count = found
            try:
                result = handler(self, *abi.arguments(cpu, count))
            except CallTookOver:
                if self.signals.pending:
                    signals.deliver(self)
                return
            except SystemCallError as failure:
                error = failure.number
            except AccessFault:
                error = errno.EFAULT
            except OSError as failure:
                error = failure.errno or errno.EIO
            except (ValueError, OverflowError):
                # The host's Python refuses what no kernel takes either: embedded zeros, numbers beyond C
                # types.
                error = errno.EINVAL
            except MemoryError:
                error = errno.ENOMEM
        abi.finish_call(cpu, stop, result, abi.error_numbers.get(error, error))
        if self.signals.pending:
            signals.deliver(self)

    # --- arguments ------------------------------------------------------------------------------------

    def path(self, address: int) -> bytes:
        """The path at `address`. Raises ENAMETOOLONG beyond PATH_MAX."""
        return self.memory.string(address, 4096)

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

    def exit(self, status: int) -> None:
        """End the process."""
        raise GuestExit(status & 0xFF)
