"""What a device is to its machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict


class State(BaseModel):
    """A device's state, as snapshots keep it: all that the guest could see or that decides what it sees."""

    model_config = ConfigDict(extra="forbid")


S = TypeVar("S", bound=State)


class Line:
    """A wire that one device drives and another listens to."""

    __slots__ = ("_sink", "level")

    def __init__(self, sink: Callable[[bool], None] | None = None) -> None:
        self._sink = sink
        self.level = False

    def set(self, level: bool) -> None:
        """Drive the wire; the listener hears of changes only."""
        if level != self.level:
            self.level = level
            if self._sink is not None:
                self._sink(level)


class Device(ABC, Generic[S]):
    """Registers at offsets from 0 to `size`. Accesses are 1, 2, 4 or 8 bytes, anywhere in the range: the
    guest chooses, and nothing that it writes may raise. Values are numbers in the guest's byte order.
    """

    size: ClassVar[int]
    """Bytes of its address range."""
    state_type: type[S]

    @abstractmethod
    def read(self, offset: int, size: int) -> int:
        """What a load of `size` bytes at `offset` returns."""

    @abstractmethod
    def write(self, offset: int, size: int, value: int) -> None:
        """A store of the low `size` bytes of `value` at `offset`."""

    @abstractmethod
    def reset(self) -> None:
        """The state after power-on."""

    @abstractmethod
    def save(self) -> S:
        """The state."""

    @abstractmethod
    def restore(self, state: S) -> None:
        """Take over a state that `save` returned, and drive the lines accordingly."""
