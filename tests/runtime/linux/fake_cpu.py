"""A CPU that executes nothing and a memory made of Python's bytes: for tests that make system calls
themselves.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from runtime.linux.ports import READ, WRITE, AccessFault, Stop

PAGE = 4096


class FakeMemory:
    """Pages by number, made when they are written."""

    def __init__(self) -> None:
        self.stand_still: Callable[[], None] = lambda: None
        self.pages: dict[int, bytearray | None] = {}
        self.mapped: list[tuple[int, int]] = []

    def map(self, start: int, size: int, permissions: int, *, shared: bool = False) -> None:
        assert start % PAGE == 0 and size % PAGE == 0 and size > 0
        self.unmap(start, size)
        self.mapped.append((start, start + size))

    def unmap(self, start: int, size: int) -> None:
        end = start + size
        kept = []
        for low, high in self.mapped:
            kept += [(a, b) for a, b in ((low, min(high, start)), (max(low, end), high)) if a < b]
        self.mapped = kept
        for page in [p for p in self.pages if start <= p * PAGE < end]:
            del self.pages[page]

    def map_file(
        self, start: int, size: int, permissions: int, descriptor: int, offset: int, writable: bool
    ) -> None:
        raise OSError(errno.ENODEV, "not here")

    def move(self, old: int, new: int, size: int) -> None:
        data = self.read(old, size)
        self.unmap(old, size)
        self.map(new, size, WRITE)
        self.write(new, data)

    def grown(self, address: int, permissions: int) -> bool:
        return False

    def mapped_file(self, address: int) -> int | None:
        return None

    def shrunk(self, descriptor: int, size: int) -> None:
        pass

    def clear_dirty(self) -> None:
        pass

    def dirty(self) -> Iterator[tuple[int, int]]:
        return iter(())

    def host_address(self, address: int) -> int:
        raise AccessFault(address, READ)

    def protect(self, start: int, size: int, permissions: int) -> None:
        self._check(start, size, WRITE)

    def _check(self, address: int, size: int, access: int) -> None:
        at = address
        while at < address + size:
            for low, high in self.mapped:
                if low <= at < high:
                    at = high
                    break
            else:
                raise AccessFault(at, access)

    def read(self, address: int, size: int) -> bytes:
        self._check(address, size, READ)
        parts = []
        while size:
            offset = address % PAGE
            length = min(size, PAGE - offset)
            page = self.pages.get(address // PAGE)
            parts.append(bytes(page[offset : offset + length]) if page else bytes(length))
            address += length
            size -= length
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data), WRITE)
        done = 0
        while done < len(data):
            page, offset = divmod(address + done, PAGE)
            length = min(len(data) - done, PAGE - offset)
            if self.pages.get(page) is None:
                self.pages[page] = bytearray(PAGE)
            buffer = self.pages[page]
            assert buffer is not None
            buffer[offset : offset + length] = data[done : done + length]
            done += length


class FakeCpu:
    """Registers only."""

    def __init__(self) -> None:
        self.pc = 0
        self.registers: dict[str, int] = {}

    def get(self, register: str) -> int:
        return self.registers.get(register, 0)

    def set(self, register: str, value: int) -> None:
        self.registers[register] = value

    def run(self, budget: int) -> Stop:
        return Stop("trap", self.pc, 1, code=8)

    def retire(self, pc: int) -> None:
        self.pc = pc

    def save(self) -> object:
        return self.pc, dict(self.registers)

    def restore(self, saved: object) -> None:
        self.pc, self.registers = saved[0], dict(saved[1])  # type: ignore[index]

    def beside(self) -> FakeCpu:
        raise NotImplementedError

    def interrupt(self) -> None:
        pass

    def forked(self) -> None:
        pass

    def close(self) -> None:
        pass

    def changed_code(self, start: int, size: int) -> None:
        pass
