"""The hooks of an emulator: which there are, and the engine's tables and the one function made from them.

Filters on addresses become records in front of the instructions concerned, and regions whose accesses leave
the engine (`runtime.cpu.engine.Cpu.set_hooks`, `set_watches`): whatever doesn't match runs as without hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from isagen.emulator.events import MemoryAccess
from runtime.cpu import block

if TYPE_CHECKING:
    from isagen.emulator.state import State
    from runtime.cpu.engine import Cpu

LAST: Final = (1 << 64) - 1
READS: Final = 1
WRITES: Final = 2


@dataclass(eq=False, slots=True)
class Hook:
    """One function and what it is called for. `first`, `last`: guest addresses."""

    kind: str
    """code, block, memory, fault, trap, syscall"""
    function: Callable[..., Any]
    first: int = 0
    last: int = LAST
    accesses: frozenset[str] = frozenset()
    """memory, fault: of "read", "write", "fetch"."""
    mapped: bool | None = None
    """fault: only where something is mapped (True) or isn't (False)."""
    names: frozenset[str] = frozenset()
    """trap, syscall: of these names or numbers; empty: all."""
    numbers: frozenset[int] = frozenset()

    def selects(self, name: str, number: int) -> bool:
        """Whether a trap or system call is one of those asked for."""
        return not (self.names or self.numbers) or name in self.names or number in self.numbers

    def covers(self, address: int) -> bool:
        return self.first <= address <= self.last


@dataclass(slots=True)
class Hooks:
    """All hooks of an emulator, in the order in which they were added, which is that of the calls."""

    emulator: State
    all: list[Hook] = field(default_factory=list)
    _calls: list[_Call] = field(default_factory=list)

    def of(self, kind: str) -> list[Hook]:
        return [hook for hook in self.all if hook.kind == kind]

    def add(self, hook: Hook) -> None:
        self.all.append(hook)
        self._publish(hook)

    def remove(self, hook: Hook) -> None:
        self.all.remove(hook)
        self._publish(hook)

    def publish(self) -> None:
        """Tell the engine about all hooks."""
        self._publish_code()
        self._publish_watches()

    def _publish(self, hook: Hook) -> None:
        if hook.kind in ("code", "block") or "fetch" in hook.accesses:
            self._publish_code()
        if hook.kind == "memory" and hook.accesses - {"fetch"}:
            self._publish_watches()

    def _publish_watches(self) -> None:
        bits = {"read": READS, "write": WRITES}
        self.emulator.cpu.set_watches(
            (hook.first, hook.last, sum(bits[kind] for kind in hook.accesses if kind in bits))
            for hook in self.of("memory")
            if hook.accesses - {"fetch"}
        )

    @property
    def any_on_code(self) -> bool:
        """Whether there are hooks on code."""
        return bool(self._calls)

    def report_undecodable(self, address: int, size: int) -> bool:
        """Call the hooks on code for bytes that are no instruction: the engine has no record of them that
        could be hooked. Whether the run goes on to what the bytes raise.
        """
        emulator = self.emulator
        begins = emulator.cpu.block.cast("Q")[block.HOOK_EXPECTED // 8] != address
        for call in self._calls:
            if call.first <= address <= call.last and (begins or not call.blocks):
                whole = call.whole if call.blocks else call.function
                whole(emulator, address, size)
                if emulator.cpu.pc != address:
                    return False
        return not emulator.is_stopping

    def _publish_code(self) -> None:
        cpu = self.emulator.cpu
        calls = self._calls = [
            _Call(hook, cpu, self.emulator)
            for hook in self.all
            if hook.kind in ("code", "block") or (hook.kind == "memory" and "fetch" in hook.accesses)
        ]
        everywhere = any(call.first == 0 and call.last >= self.emulator.highest for call in calls)
        cpu.set_hooks(
            [(call.first, call.last) for call in calls],
            dispatcher(calls, cpu, self.emulator) if calls else None,
            blocks=all(call.hook.kind == "block" for call in calls),
            often=everywhere,
        )


class _Call:
    """A hook on code, ready to be called."""

    def __init__(self, hook: Hook, cpu: Cpu, emulator: State) -> None:
        self.hook = hook
        self.first = hook.first
        self.last = hook.last
        self.blocks = hook.kind == "block"
        function = hook.function
        self.function: Callable[..., object] = function
        self.whole: Callable[..., object] = function
        """The hook's function itself."""
        if self.blocks:

            def begins(emulator: State, address: int, size: int) -> None:
                function(emulator, address, cpu.hooked_block)

            self.function = begins
        elif hook.kind == "memory":

            def fetches(emulator: State, address: int, size: int) -> None:
                function(emulator, MemoryAccess("fetch", address, size, 0, address))

            self.function = fetches


def dispatcher(calls: list[_Call], cpu: Cpu, emulator: State) -> Callable[[], object]:
    """The function that the engine calls at hooked instructions. It is called a million times a second."""
    words = cpu.block.cast("Q")
    pc, size, begins = block.PC // 8, block.HOOK_SIZE // 8, block.HOOK_BEGINS // 8
    if len(calls) == 1:
        function = calls[0].function

        def call_one() -> None:
            function(emulator, words[pc], words[size])

        return call_one
    # A block begins before its first instruction is executed.
    calls = sorted(calls, key=lambda call: not call.blocks)
    rows = [(call.first, call.last, call.blocks, call.function) for call in calls]

    def call_some() -> None:
        address = words[pc]
        length = words[size]
        block_begins = words[begins]
        for first, last, blocks, function in rows:
            if first <= address <= last and (block_begins or not blocks):
                function(emulator, address, length)
                if words[pc] != address:
                    return  # it jumped: the others are about an instruction that isn't executed

    return call_some
