"""How hooks are added to an emulator: decorators with filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self, TypedDict, TypeVar, Unpack, overload

from isagen.emulator.errors import EmulatorError
from isagen.emulator.events import Fault, MemoryAccess, SystemCall, Trap
from isagen.emulator.hooks import Hook, Hooks
from isagen.emulator.state import State

R = TypeVar("R")


class Filter(TypedDict, total=False):
    """Which addresses a hook is for: `address` alone; those from `start` on and before `end`; or all of the
    function `symbol`. Numbers, or names of symbols. All addresses where nothing is given.
    """

    symbol: str
    address: int | str
    start: int | str
    end: int | str


class Hooking(State):
    """The part of `Emulator` that adds and removes hooks.

    All `on_...` methods are decorators, to be used bare or with filters; the function stays as it is. Several
    hooks for the same thing are called in the order in which they were added. In a hook the state is exact;
    it may change registers, memory, mappings and hooks, which are valid at once; set `pc`, and the run goes
    on there; call `stop`; raise, and `run` raises the same. It may not run the emulator.
    """

    hooks: Hooks

    def __init__(
        self, target: str, *, features: Iterable[str] | str | None = None, system: bool = False
    ) -> None:
        self.__dict__["hooks"] = Hooks(self)
        super().__init__(target, features=features, system=system)

    def _bounds(self, filters: Filter) -> tuple[int, int]:
        """First and last address of a filter."""
        if "symbol" in filters:
            return self.extent_of(filters["symbol"])
        if "address" in filters:
            at = self.address_of(filters["address"]) & self.highest
            return at, at
        first = self.address_of(filters["start"]) if "start" in filters else 0
        last = self.address_of(filters["end"]) - 1 if "end" in filters else self.highest
        if first > last:
            raise EmulatorError(f"the filter from {first:#x} to {last + 1:#x} matches nothing")
        return first & self.highest, last & self.highest

    def _decorator(self, function: Any, make: Callable[[Any], Hook]) -> Any:
        """Add `function`, or return what will add one."""

        def add(wanted: Any) -> Any:
            self.hooks.add(make(wanted))
            return wanted

        return add if function is None else add(function)

    # --- code -------------------------------------------------------------------------------------------

    @overload
    def on_code(
        self, function: Callable[[Self, int, int], R], **filters: Unpack[Filter]
    ) -> Callable[[Self, int, int], R]: ...
    @overload
    def on_code(
        self, function: None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, int, int], R]], Callable[[Self, int, int], R]]: ...
    def on_code(self, function: Any = None, **filters: Unpack[Filter]) -> Any:
        """Call ``function(emu, address, size)`` before each instruction that starts at an address of the
        filter (`Filter`). Other instructions run as without hooks.
        """
        first, last = self._bounds(filters)
        return self._decorator(function, lambda wanted: Hook("code", wanted, first, last))

    @overload
    def on_block(
        self, function: Callable[[Self, int, int], R], **filters: Unpack[Filter]
    ) -> Callable[[Self, int, int], R]: ...
    @overload
    def on_block(
        self, function: None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, int, int], R]], Callable[[Self, int, int], R]]: ...
    def on_block(self, function: Any = None, **filters: Unpack[Filter]) -> Any:
        """As `on_code`, but only where a basic block begins: in front of the first instruction of a run, and
        of each that is executed behind one that may jump. `size`: bytes from there to the end of the block.
        """
        first, last = self._bounds(filters)
        return self._decorator(function, lambda wanted: Hook("block", wanted, first, last))

    # --- memory -----------------------------------------------------------------------------------------

    def _memory(self, function: Any, kinds: frozenset[str], filters: Filter) -> Any:
        first, last = self._bounds(filters)
        return self._decorator(function, lambda wanted: Hook("memory", wanted, first, last, kinds))

    @overload
    def on_memory(
        self, function: Callable[[Self, MemoryAccess], R], *, access: str = "rw", **filters: Unpack[Filter]
    ) -> Callable[[Self, MemoryAccess], R]: ...
    @overload
    def on_memory(
        self, function: None = None, *, access: str = "rw", **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, MemoryAccess], R]], Callable[[Self, MemoryAccess], R]]: ...
    def on_memory(self, function: Any = None, *, access: str = "rw", **filters: Unpack[Filter]) -> Any:
        """Call ``function(emu, access)`` before each access that touches an address of the filter; `access`
        names the kinds: letters of ``rwx`` for reads, writes, fetches. The function is told a `MemoryAccess`.

        Accesses that aren't possible are `on_fault`'s. Where the hook sets `pc`, the access doesn't happen.
        Pages without watched addresses are as fast as without hooks.
        """
        letters = {"r": "read", "w": "write", "x": "fetch"}
        if not access or set(access) - letters.keys():
            raise EmulatorError(f"{access!r} names no accesses", remedy="take letters of rwx")
        return self._memory(function, frozenset(letters[letter] for letter in access), filters)

    @overload
    def on_read(
        self, function: Callable[[Self, MemoryAccess], R], **filters: Unpack[Filter]
    ) -> Callable[[Self, MemoryAccess], R]: ...
    @overload
    def on_read(
        self, function: None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, MemoryAccess], R]], Callable[[Self, MemoryAccess], R]]: ...
    def on_read(self, function: Any = None, **filters: Unpack[Filter]) -> Any:
        """`on_memory` for reads."""
        return self._memory(function, frozenset({"read"}), filters)

    @overload
    def on_write(
        self, function: Callable[[Self, MemoryAccess], R], **filters: Unpack[Filter]
    ) -> Callable[[Self, MemoryAccess], R]: ...
    @overload
    def on_write(
        self, function: None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, MemoryAccess], R]], Callable[[Self, MemoryAccess], R]]: ...
    def on_write(self, function: Any = None, **filters: Unpack[Filter]) -> Any:
        """`on_memory` for writes."""
        return self._memory(function, frozenset({"write"}), filters)

    @overload
    def on_fetch(
        self, function: Callable[[Self, MemoryAccess], R], **filters: Unpack[Filter]
    ) -> Callable[[Self, MemoryAccess], R]: ...
    @overload
    def on_fetch(
        self, function: None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, MemoryAccess], R]], Callable[[Self, MemoryAccess], R]]: ...
    def on_fetch(self, function: Any = None, **filters: Unpack[Filter]) -> Any:
        """`on_memory` for fetches of instructions."""
        return self._memory(function, frozenset({"fetch"}), filters)

    # --- faults -----------------------------------------------------------------------------------------

    @overload
    def on_fault(
        self, function: Callable[[Self, Fault], R], *, mapped: bool | None = None, **filters: Unpack[Filter]
    ) -> Callable[[Self, Fault], R]: ...
    @overload
    def on_fault(
        self, function: None = None, *, mapped: bool | None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, Fault], R]], Callable[[Self, Fault], R]]: ...
    def on_fault(self, function: Any = None, *, mapped: bool | None = None, **filters: Unpack[Filter]) -> Any:
        """Call ``function(emu, fault)`` where an access isn't possible, `fault` being a `Fault`. If it
        returns true, the instruction is tried again (the hook should have mapped something), or the run goes
        on at the `pc` that it has set; else the next hook is asked, and at last the exception raised.

        `mapped`: True: only what protection forbids; False: only what isn't mapped.
        """
        first, last = self._bounds(filters)
        return self._decorator(function, lambda wanted: Hook("fault", wanted, first, last, mapped=mapped))

    @overload
    def on_unmapped(
        self, function: Callable[[Self, Fault], R], **filters: Unpack[Filter]
    ) -> Callable[[Self, Fault], R]: ...
    @overload
    def on_unmapped(
        self, function: None = None, **filters: Unpack[Filter]
    ) -> Callable[[Callable[[Self, Fault], R]], Callable[[Self, Fault], R]]: ...
    def on_unmapped(self, function: Any = None, **filters: Unpack[Filter]) -> Any:
        """`on_fault` for what isn't mapped."""
        return self.on_fault(function, mapped=False, **filters)

    # --- traps ------------------------------------------------------------------------------------------

    @overload
    def on_trap(
        self, function: Callable[[Self, Trap], R], *, code: int | None = None
    ) -> Callable[[Self, Trap], R]: ...
    @overload
    def on_trap(
        self, function: str | None = None, *names: str, code: int | None = None
    ) -> Callable[[Callable[[Self, Trap], R]], Callable[[Self, Trap], R]]: ...
    def on_trap(self, function: Any = None, *names: str, code: int | None = None) -> Any:
        """Call ``function(emu, trap)`` for exceptions of the architecture, `trap` being a `Trap`: those of
        the spec's names given, or with this `code`, else all. If it returns true, the run goes on behind the
        instruction, or at the `pc` that it has set; else the next hook is asked, and at last the exception
        raised.
        """
        if isinstance(function, str):
            names, function = (function, *names), None
        known = self.cpu.package.traps
        unknown = [name for name in names if name not in known]
        if unknown:
            what = f"{self.target} has no trap {unknown[0]!r}"
            raise EmulatorError(what, remedy=f"traps: {', '.join(known)}")
        numbers = frozenset(() if code is None else (code,))
        return self._decorator(
            function, lambda wanted: Hook("trap", wanted, names=frozenset(names), numbers=numbers)
        )

    @overload
    def on_syscall(self, function: Callable[[Self, SystemCall], R]) -> Callable[[Self, SystemCall], R]: ...
    @overload
    def on_syscall(
        self, function: str | int | None = None, *calls: str | int
    ) -> Callable[[Callable[[Self, SystemCall], R]], Callable[[Self, SystemCall], R]]: ...
    def on_syscall(self, function: Any = None, *calls: str | int) -> Any:
        """Call ``function(emu, call)`` for system calls, `call` being a `SystemCall`: those of the names or
        numbers given, else all. The call then counts as done: what the hook returns is its result (-errno for
        errors; None: the registers stay as the hook left them).
        """
        if isinstance(function, str | int):
            calls, function = (function, *calls), None
        names = frozenset(call for call in calls if isinstance(call, str))
        numbers = frozenset(call for call in calls if isinstance(call, int))
        return self._decorator(function, lambda wanted: Hook("syscall", wanted, names=names, numbers=numbers))

    def unhook(self, function: Callable[..., object]) -> None:
        """Remove all hooks that call `function`. Raises EmulatorError where there is none."""
        found = [hook for hook in self.hooks.all if hook.function == function]
        if not found:
            raise EmulatorError("this function is no hook")
        for hook in found:
            self.hooks.remove(hook)
