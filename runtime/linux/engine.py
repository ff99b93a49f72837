"""The generated engine as the Linux layer's `Cpu` and `Memory`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

from runtime.cpu.engine import Cpu as Engine
from runtime.cpu.engine import TargetPackage
from runtime.cpu.exits import Exit, Reason
from runtime.errors import IsagenError
from runtime.linux.ports import EXECUTE, READ, WRITE, AccessFault, Stop
from runtime.memory.space import AddressError, AddressSpace, Ram

SMALLEST_ROOM = 1 << 20
LARGEST_ROOM = 1 << 28
"""Bytes of RAM set aside for a mapping to grow; only what is touched costs anything."""

_ACCESSES = (READ, WRITE, EXECUTE)


class EngineMemory:
    """A guest's pages in an `AddressSpace`."""

    def __init__(self) -> None:
        self.space = AddressSpace()
        self._ends: WeakKeyDictionary[Ram, int] = WeakKeyDictionary()
        """How much of each RAM was ever mapped: what lies behind is zeros that nobody uses."""

    def map(self, start: int, size: int, permissions: int) -> None:
        """Pages behind a region go on in its RAM where there is room, so that a heap that grows stays one
        region.
        """
        self.space.unmap(start, size)
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
        ram = Ram(max(size, room) if permissions & WRITE else size)
        self._ends[ram] = size
        self.space.map_ram(start, ram, size=size, permissions=permissions)

    def unmap(self, start: int, size: int) -> None:
        self.space.unmap(start, size)

    def protect(self, start: int, size: int, permissions: int) -> None:
        self.space.protect(start, size, permissions)

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
        self.engine = Engine(package, memory.space, features=features)
        self.step: Callable[[int], Exit] = self.engine.run
        """How to run: `Cpu.run`, or what a tracer puts around it."""
        self._seen = 0

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
            raise KeyError(register) from None

    def set(self, register: str, value: int) -> None:
        if register == "npc":
            self.engine.next_pc = value
        else:
            self.engine.set(register, value)

    def retire(self, pc: int) -> None:
        self.engine.retire(pc)
        self._seen += 1

    def run(self, budget: int) -> Stop:
        stop = self.step(budget)
        executed = self.engine.executed
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

    def changed_code(self, start: int, size: int) -> None:
        """The address space tells the engine by itself."""
