"""The generated engine as the Linux layer's `Cpu` and `Memory`."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from runtime.cpu.engine import Cpu as Engine
from runtime.cpu.engine import TargetPackage
from runtime.cpu.exits import Exit, Reason
from runtime.errors import IsagenError
from runtime.linux import host
from runtime.linux.ports import EXECUTE, READ, WRITE, AccessFault, Stop
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import AddressError, AddressSpace, Ram

HUGE = 1 << 19
"""Mappings from this size on get the host's huge pages, which need room for two of them to be of use."""
SMALLEST_ROOM = 2 << 20
LARGEST_ROOM = 1 << 28
"""Bytes of RAM set aside for a mapping to grow; only what is touched costs anything."""

if TYPE_CHECKING:
    from runtime.registers import RegisterFile

NEVER = 1 << 64
PATIENCE = 5_000_000
"""Instructions before hot code is looked for: about a hundredth of a second."""

_ACCESSES = (READ, WRITE, EXECUTE)


class FileRam(Ram):
    """Whole pages of a file, shared with everybody who maps it. Raises OSError.

    The pages behind the file's end are not to be touched: the host would be sent SIGBUS.
    """

    def __init__(self, descriptor: int, offset: int, size: int, *, writable: bool) -> None:
        self.size = size
        self.file = self._origin = None
        self._copied, self._offset = False, offset
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        library = host.library()
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
        library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        address = library.mmap(None, size, protection, mmap.MAP_SHARED, descriptor, offset)
        if address in (None, ctypes.c_void_p(-1).value):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.host = cast(int, address)
        self.memory = cast(mmap.mmap, memoryview((ctypes.c_char * size).from_address(self.host)).cast("B"))
        self.file = os.dup(descriptor)
        self.offset = offset
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)

    def close(self) -> None:
        if self.file is not None:
            host.library().munmap(self.host, self.size)
        super().close()

    def present(self) -> int:
        """How many bytes of pages there are up to the file's end now."""
        assert self.file is not None
        length = max(0, os.fstat(self.file).st_size - self.offset)
        return min(self.size, -(-length // PAGE_SIZE) * PAGE_SIZE)


class EngineMemory:
    """A guest's pages in an `AddressSpace`."""

    def __init__(self) -> None:
        self.space = AddressSpace()
        self._ends: WeakKeyDictionary[Ram, int] = WeakKeyDictionary()
        """How much of each RAM was ever mapped: what lies behind is zeros that nobody uses."""
        self._files: list[tuple[int, int, FileRam, int]] = []
        """Mapped files: start, end, RAM, and the file's offset of the start."""
        self.stand_still: Callable[[], None] = lambda: None
        """Is called before mappings change: has the CPUs that run beside the caller's return."""

    def map(self, start: int, size: int, permissions: int, *, shared: bool = False) -> None:
        """Pages behind a region go on in its RAM where there is room, so that a heap that grows stays one
        region.
        """
        self.unmap(start, size)  # stands still
        if shared:
            self.space.map_ram(start, Ram(size, shared=True), permissions=permissions)
            return
        before = self.space.find(start - 1)
        if before is not None and before.ram is not None and before.permissions == permissions:
            ram, offset = before.ram, before.offset + before.size
            if offset + size <= ram.size and self._ends.get(ram) == offset:
                self.space.map_ram(start, ram, offset=offset, size=size, permissions=permissions)
                self._ends[ram] = offset + size
                return
            room = min(max(2 * before.size, SMALLEST_ROOM), LARGEST_ROOM)
        else:
            room = SMALLEST_ROOM
        mapped = size if before is None or room == SMALLEST_ROOM else before.size + size
        ram = Ram(max(size, room) if permissions & WRITE else size, huge=mapped >= HUGE)
        self._ends[ram] = size
        self.space.map_ram(start, ram, size=size, permissions=permissions)

    def map_file(
        self, start: int, size: int, permissions: int, descriptor: int, offset: int, writable: bool
    ) -> None:
        self.unmap(start, size)
        ram = FileRam(descriptor, offset, size, writable=writable)
        self._files.append((start, start + size, ram, offset))
        present = ram.present()
        if present:
            self.space.map_ram(start, ram, size=present, permissions=permissions)

    def grown(self, address: int, permissions: int) -> bool:
        """Map the page at `address`, if it is one of a file that has grown since it was mapped."""
        page = address // PAGE_SIZE * PAGE_SIZE
        self.stand_still()
        for start, end, ram, offset in self._files:
            if start <= page < end and self.space.find(page) is None:
                within = offset + page - start - ram.offset
                if ram.present() > within:
                    self.space.map_ram(page, ram, offset=within, size=PAGE_SIZE, permissions=permissions)
                    return True
        return False

    def mapped_file(self, address: int) -> int | None:
        return next((ram.file for start, end, ram, _ in self._files if start <= address < end), None)

    def shrunk(self, descriptor: int, size: int) -> None:
        """The host's file is going to have `size` bytes: unmap what lies behind."""
        if not self._files:
            return
        self.stand_still()
        status = os.fstat(descriptor)
        for start, end, ram, offset in self._files:
            if ram.identity == (status.st_dev, status.st_ino):
                first = start + max(0, -(-(size - offset) // PAGE_SIZE) * PAGE_SIZE)
                if first < end:
                    self.space.unmap(first, end - first)

    def unmap(self, start: int, size: int) -> None:
        self.stand_still()
        self.space.unmap(start, size)
        self._cut_files(start, start + size)

    def _cut_files(self, start: int, end: int) -> list[tuple[int, int, FileRam, int]]:
        """Take a range out of the list of mapped files; returns what was in it."""
        removed, kept = [], []
        for low, high, ram, offset in self._files:
            if high <= start or low >= end:
                kept.append((low, high, ram, offset))
                continue
            if low < start:
                kept.append((low, start, ram, offset))
            if high > end:
                kept.append((end, high, ram, offset + end - low))
            first = max(low, start)
            removed.append((first, min(high, end), ram, offset + first - low))
        self._files = kept
        return removed

    def protect(self, start: int, size: int, permissions: int) -> None:
        self.stand_still()
        self.space.protect(start, size, permissions)

    def move(self, old: int, new: int, size: int) -> None:
        end = old + size
        self.unmap(new, size)
        for low, high, file, offset in self._cut_files(old, end):
            self._files.append((low + new - old, high + new - old, file, offset))
        parts = [region for region in self.space if region.start < end and region.end > old]
        for part in parts:
            assert part.ram is not None
            low, high = max(part.start, old), min(part.end, end)
            self.space.map_ram(
                new + low - old,
                part.ram,
                offset=part.offset + low - part.start,
                size=high - low,
                permissions=part.permissions,
            )
        self.space.unmap(old, size)

    def clear_dirty(self) -> None:
        self.stand_still()
        self.space.take_dirty()

    def dirty(self) -> Iterator[tuple[int, int]]:
        self.stand_still()
        pages = self.space.take_dirty()
        for region in self.space:
            if region.ram is not None:
                first = region.offset // PAGE_SIZE
                for page in pages.get(region.ram, ()):
                    if first <= page < first + region.size // PAGE_SIZE:
                        yield region.start + (page - first) * PAGE_SIZE, PAGE_SIZE

    def host_address(self, address: int) -> int:
        region = self.space.find(address)
        if region is None or region.ram is None:
            raise AccessFault(address, READ)
        return region.ram.host + region.offset + address - region.start

    def read(self, address: int, size: int) -> bytes:
        try:
            return self.space.read(address, size)
        except AddressError as error:
            raise AccessFault(error.address, READ) from None

    def write(self, address: int, data: bytes) -> None:
        try:
            self.space.write(address, data)
        except AddressError as error:
            raise AccessFault(error.address, WRITE) from None


class EngineCpu:
    """A CPU of a built target in user mode. `features` are the names of those that are on (None: the usual
    ones).
    """

    def __init__(
        self, package: TargetPackage, memory: EngineMemory, features: Iterable[str] | None = None
    ) -> None:
        self.package = package
        self.memory = memory
        self.engine = Engine(package, memory.space, features=features)
        self.step: Callable[[int], Exit] = self.engine.run
        """How to run: `Cpu.run`, or what a tracer puts around it."""
        self._seen = 0
        self._translate_at = NEVER
        self._patience = NEVER
        self._program = b""

    def translate_when_long(self, program: bytes = b"") -> None:
        """Let the engine translate hot code when the program, or a fork of it, has run for a while: many are
        over before a translator could be of use. `program`: what tells it from others.
        """
        self._program = program
        self._patience = PATIENCE
        self._translate_at = self.engine.executed + PATIENCE

    def beside(self) -> EngineCpu:
        """Another CPU like this one over the same memory: from now on both may run at the same time. While
        neither does.
        """
        other = EngineCpu(self.package, self.memory, self.engine.features)
        for cpu in (self, other):
            cpu.engine.parallel = True
        if self._patience != NEVER:
            other.translate_when_long(self._program)
        elif self.engine.translator is not None:
            other.engine.translate(program=self._program)
        return other

    def interrupt(self) -> None:
        self.engine.interrupt()

    def forked(self) -> None:
        if self.engine.translator is not None:
            self.engine.translator.off = True
        self._translate_at = self.engine.executed + self._patience

    def _translate(self) -> None:
        self._translate_at = NEVER
        if self.engine.translator is None:
            self.engine.translate(program=self._program)
        else:
            self.engine.translator.off = False

    @property
    def pc(self) -> int:
        return self.engine.pc

    @pc.setter
    def pc(self, value: int) -> None:
        self.engine.pc = value

    def get(self, register: str) -> int:
        if register == "npc":
            return self.engine.next_pc
        try:
            return self.engine.get(register)
        except IsagenError:
            return self._file.read(register)

    def set(self, register: str, value: int) -> None:
        if register == "npc":
            self.engine.next_pc = value
        elif self.engine.has(register):
            self.engine.set(register, value)
        else:
            self._file.write(register, value)

    @cached_property
    def _file(self) -> RegisterFile:
        """For names of registers that the spec keeps in parts."""
        from runtime.registers import RegisterFile

        return RegisterFile(self.engine)

    def retire(self, pc: int) -> None:
        self.engine.retire(pc)
        self._seen += 1

    def save(self) -> object:
        engine = self.engine
        return bytes(engine.state), engine.pc, engine.next_pc

    def restore(self, saved: object) -> None:
        state, pc, next_pc = cast(tuple[bytes, int, int], saved)
        self.engine.state[:] = state
        self.engine.pc = pc
        self.engine.next_pc = next_pc

    def run(self, budget: int) -> Stop:
        stop = self.step(budget)
        executed = self.engine.executed
        if executed >= self._translate_at:
            self._translate()
        count, self._seen = executed - self._seen, executed
        if stop.reason is Reason.TRAP:
            return Stop(
                "trap",
                stop.pc,
                count,
                name=self.package.traps[stop.trap],
                code=stop.code,
                value=stop.arguments[0] if stop.arguments else 0,
            )
        if stop.reason is Reason.FAULT:
            return Stop("fault", stop.pc, count, address=stop.address, access=_ACCESSES[stop.access])
        if stop.reason in (Reason.BUDGET, Reason.INTERRUPTED):
            return Stop("budget", stop.pc, count)
        raise AssertionError(f"the engine stopped for {stop.reason.name}")

    def close(self) -> None:
        self.engine.close()

    def changed_code(self, start: int, size: int) -> None:
        """The address space tells the engine by itself."""
