"""What a machine learnt from outside, in the order in which it asked: recorded while it runs, answered from
the record when a part of the run is repeated.

Whoever asks the host for something that may differ the next time does it by `Journal.value`; whoever does
something to the host that mustn't happen twice, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from runtime.errors import IsagenError

T = TypeVar("T")

ENTRY: Final = 64
"""About what an entry takes, in bytes, beside its value."""


class Diverged(IsagenError):
    """A repeated run asked for something else than the first one: a bug of a device."""


class Journal:
    """A record of answers. Outside of `active` phases (see `Machine.run`) nothing is recorded or repeated."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, Any, Exception | None]] = []
        self._start = 0
        """The number of the first entry that is kept."""
        self._next = 0
        self.repeating = False
        self.active = False
        self.size = 0
        """About how many bytes it takes."""

    def value(self, kind: str, ask: Callable[[], T]) -> T:
        """What `ask` returns or raises (OSError, IsagenError), or did when this was recorded."""
        if not self.active:
            return ask()
        if self.repeating:
            return cast("T", self._repeat(kind))
        error: Exception | None = None
        found: Any = None
        try:
            found = ask()
        except (OSError, IsagenError) as raised:
            error = raised
        if isinstance(found, (bytearray, memoryview)):
            found = bytes(found)
        self._entries.append((kind, found, error))
        self.size += ENTRY + (len(found) if isinstance(found, bytes) else 0)
        if error is not None:
            raise error
        return cast("T", found)

    def _repeat(self, kind: str) -> Any:
        index = self._next - self._start
        if index >= len(self._entries) or self._entries[index][0] != kind:
            there = self._entries[index][0] if index < len(self._entries) else "nothing"
            raise Diverged(f"the repeated run asks for {kind}, and {there} was recorded")
        _, found, error = self._entries[index]
        self._next += 1
        if error is not None:
            raise error
        return found

    @property
    def position(self) -> int:
        """The number of the next entry."""
        return self._next if self.repeating else self._start + len(self._entries)

    def repeat_from(self, position: int) -> None:
        """Answer from the record, from this entry on."""
        self.repeating = True
        self._next = position

    def record(self) -> None:
        """Go on at the end of the record."""
        self.repeating = False

    def forget_before(self, position: int) -> None:
        """Entries before this one aren't needed any more."""
        count = position - self._start
        for _, found, _ in self._entries[:count]:
            self.size -= ENTRY + (len(found) if isinstance(found, bytes) else 0)
        del self._entries[:count]
        self._start = position
