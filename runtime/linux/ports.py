"""What the Linux layer needs of a CPU and of a memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

READ, WRITE, EXECUTE = 1, 2, 4
"""Permissions, numbered as Linux's ``PROT_*``."""


class AccessFault(Exception):
    """A guest address that isn't mapped, or not with the permission needed.

    `address` is the first bad one; `access` one of `READ`, `WRITE`, `EXECUTE`.
    """

    def __init__(self, address: int, access: int = READ) -> None:
        super().__init__(address, access)
        self.address = address
        self.access = access

    def __str__(self) -> str:
        kind = {READ: "read", WRITE: "write", EXECUTE: "execute"}[self.access]
        return f"can't {kind} guest address {self.address:#x}"


class Memory(Protocol):
    """The guest's address space, in pages. `start` and `size` are multiples of the page size."""

    stand_still: Callable[[], None]
    """Is called before mappings change: has the CPUs that run beside the caller's return."""

    def map(self, start: int, size: int, permissions: int, *, shared: bool = False) -> None:
        """Map fresh zero pages, replacing what was there. `shared`: forked processes see each other's
        writes.
        """
        ...

    def map_file(
        self, start: int, size: int, permissions: int, descriptor: int, offset: int, writable: bool
    ) -> None:
        """Map pages that are the file's, from `offset` on; those behind its end stay unmapped.

        `writable`: whether writes will ever be allowed. Raises OSError.
        """
        ...

    def move(self, old: int, new: int, size: int) -> None:
        """Map at `new` what is mapped at `old`, and nothing there any more. The ranges don't overlap."""
        ...

    def grown(self, address: int, permissions: int) -> bool:
        """Map the page at `address`, if it is one of a file that has grown since it was mapped. Returns
        whether it was.
        """
        ...

    def shrunk(self, descriptor: int, size: int) -> None:
        """The host's file is going to have `size` bytes: what is mapped behind them goes."""
        ...

    def mapped_file(self, address: int) -> int | None:
        """The host's descriptor of the shared file that is mapped there."""
        ...

    def clear_dirty(self) -> None:
        """Begin to note which pages are written."""
        ...

    def dirty(self) -> Iterator[tuple[int, int]]:
        """Address and size of the runs of pages that may have been written since `clear_dirty`."""
        ...

    def host_address(self, address: int) -> int:
        """Where in the host's memory the guest's `address` lies. Raises `AccessFault`."""
        ...

    def unmap(self, start: int, size: int) -> None:
        """Remove the pages there are in the range."""
        ...

    def protect(self, start: int, size: int, permissions: int) -> None:
        """Change the permissions of mapped pages."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes, whatever the pages' permissions; raises `AccessFault` where nothing is mapped."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write bytes, whatever the pages' permissions; raises `AccessFault` where nothing is mapped."""
        ...


class Stop:
    """Why `Cpu.run` came back. (Not frozen: one is made for each system call.)

    budget: all instructions allowed were executed; trap: an exception `name` with the architecture's `code`,
    which `pc` raised; fault: a memory access to `address` wasn't allowed (`access`: `READ`, `WRITE` or
    `EXECUTE`). `instructions` were completed since the last time, without those that `retire` reported.
    """

    __slots__ = ("access", "address", "code", "instructions", "kind", "name", "pc", "value")

    def __init__(
        self,
        kind: Literal["budget", "trap", "fault"],
        pc: int,
        instructions: int,
        name: str = "",
        code: int = 0,
        value: int = 0,
        address: int = 0,
        access: int = 0,
    ) -> None:
        self.kind = kind
        self.pc = pc
        self.instructions = instructions
        self.name = name
        self.code = code
        self.value = value
        self.address = address
        self.access = access


class Cpu(Protocol):
    """A CPU in user mode. Registers are read and written by the names that assemblers use for them."""

    pc: int

    def get(self, register: str) -> int: ...

    def set(self, register: str, value: int) -> None: ...

    def run(self, budget: int) -> Stop:
        """Execute at most `budget` instructions."""
        ...

    def retire(self, pc: int) -> None:
        """Go on at `pc`; the instruction that `run` stopped at was done by the caller and counts as
        executed.
        """
        ...

    def save(self) -> object:
        """All registers, `pc` included, for `restore`."""
        ...

    def restore(self, saved: object) -> None:
        """Put registers back that `save` gave."""
        ...

    def beside(self) -> Cpu:
        """Another CPU like this one over the same memory: from now on both may run at the same time, each in
        a thread of the host. While neither does.
        """
        ...

    def interrupt(self) -> None:
        """From another thread of the host: have `run` return soon, as if all allowed were executed."""
        ...

    def forked(self) -> None:
        """This is another process of the host from now on."""
        ...

    def close(self) -> None:
        """The CPU isn't needed any more."""
        ...

    def changed_code(self, start: int, size: int) -> None:
        """The host changed guest memory that may hold code."""
        ...
