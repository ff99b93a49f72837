"""The guest's memory as devices see it: physical addresses, checked."""

from __future__ import annotations

from typing import Protocol


class GuestMemory(Protocol):
    """`runtime.memory.space.AddressSpace`, or a test's. Addresses without RAM raise its AddressError."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None: ...

    def views(self, address: int, size: int, *, writable: bool = False) -> list[memoryview]: ...

    def discard(self, address: int, size: int) -> None: ...
