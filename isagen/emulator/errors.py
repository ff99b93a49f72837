"""What a guest can do that ends a run: exceptions with the place and the cause."""

from __future__ import annotations

from typing import Literal

from runtime.errors import IsagenError

AccessKind = Literal["read", "write", "fetch"]


class EmulatorError(IsagenError):
    """The emulator can't do what it was asked for: bad addresses, names, files."""


class GuestError(EmulatorError):
    """The guest did something that ends the run. `pc`: the instruction, which was not executed."""

    def __init__(self, what: str, pc: int, remedy: str = "") -> None:
        super().__init__(what, where=f"pc {pc:#x}", remedy=remedy)
        self.pc = pc


class MemoryFault(GuestError):
    """An access that no mapping allows. `address`: the first byte that isn't accessible; `access`: "read",
    "write" or "fetch".
    """

    reason = ""

    def __init__(self, address: int, access: AccessKind, pc: int) -> None:
        super().__init__(f"{access} of guest address {address:#x}{self.reason}", pc)
        self.address = address
        self.access = access


class UnmappedMemory(MemoryFault):
    """Nothing is mapped at `address`."""

    reason = ", where nothing is mapped"


class ProtectedMemory(MemoryFault):
    """What is mapped at `address` doesn't allow the access."""

    reason = ", which its protection forbids"


class MisalignedFetch(MemoryFault):
    """The program counter isn't a multiple of the instructions' alignment."""

    reason = ", which is misaligned for an instruction"


class GuestTrap(GuestError):
    """An exception of the architecture that nobody handled: `name` and `code` as the spec has them,
    `arguments` what belongs to it.
    """

    def __init__(self, name: str, code: int, arguments: tuple[int, ...], pc: int) -> None:
        super().__init__(f"trap {name} (code {code})", pc, "handle it with `on_trap` or `on_syscall`")
        self.name = name
        self.code = code
        self.arguments = arguments


class IllegalInstruction(GuestTrap):
    """The bytes at `pc` are no instruction (of the features that are on)."""


class SystemCallTrap(GuestTrap):
    """A system call that no `on_syscall` hook answered."""
