"""The evaluator's machine: registers by name and memory behind a protocol, all Python integers.

Nothing here is fast. It is what the fast tiers are compared with, so it does one obvious thing in one place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from generator.model.target import Register, Target

Access = Literal["read", "write", "fetch"]
ACCESS_CODES: dict[Access, int] = {"read": 0, "write": 1, "fetch": 2}
"""What the spec's `translate` calls the kinds of access."""


FEATURES = "features"
"""The register that behaviours look at for ``has(...)``: bit i is the target's feature number i."""


class GuestFault(Exception):
    """The guest touched memory that it may not: the first byte that failed and the kind of access. Not a host
    error.
    """

    def __init__(self, address: int, access: Access) -> None:
        self.address = address
        self.access: Access = access
        super().__init__(f"{access} at {address:#x}")


class Memory(Protocol):
    """Memory as the evaluator sees it. An access that isn't possible as a whole raises `GuestFault` and
    changes nothing.
    """

    def read(self, address: int, size: int, access: Access) -> bytes:
        """`size` bytes from `address` on, as a "read" or a "fetch"."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write `data` from `address` on."""
        ...

    def check(self, address: int, size: int, access: Access) -> None:
        """Raise `GuestFault` if the access isn't possible."""
        ...


class SparseMemory:
    """Byte-wise memory: ranges that are mapped with permissions ("r", "w", "x"), and the bytes that aren't 0.

    `address_width` bits is where addresses wrap around.
    """

    def __init__(self, address_width: int = 64) -> None:
        self.address_mask = (1 << address_width) - 1
        self.ranges: list[tuple[int, int, str]] = []
        self.bytes: dict[int, int] = {}

    def map(self, address: int, size: int, permissions: str = "rwx") -> None:
        """Make ``address .. address + size - 1`` accessible; a later mapping hides an earlier one."""
        self.ranges.insert(0, (address, address + size, permissions))

    def check(self, address: int, size: int, access: Access) -> None:
        letter = {"read": "r", "write": "w", "fetch": "x"}[access]
        for place in range(address, address + size):
            here = place & self.address_mask
            allowed = next((p for first, end, p in self.ranges if first <= here < end), "")
            if letter not in allowed:
                raise GuestFault(here, access)

    def read(self, address: int, size: int, access: Access = "read") -> bytes:
        self.check(address, size, access)
        return bytes(self.bytes.get((address + i) & self.address_mask, 0) for i in range(size))

    def write(self, address: int, data: bytes) -> None:
        self.check(address, len(data), "write")
        self.poke(address, data)

    def poke(self, address: int, data: bytes) -> None:
        """Write without a look at the permissions: how a test or loader sets memory up."""
        for i, byte in enumerate(data):
            self.bytes[(address + i) & self.address_mask] = byte

    def copy(self) -> SparseMemory:
        """An independent memory with the same contents."""
        other = SparseMemory()
        other.address_mask = self.address_mask
        other.ranges = list(self.ranges)
        other.bytes = dict(self.bytes)
        return other


def stored_width(register: Register) -> int:
    """The width of what is stored: a lazy flag's argument, else the register itself."""
    return register.lazy.argument.width if register.lazy else register.width


@dataclass
class State:
    """One CPU's state: single registers, files of registers, stepped contexts, and memory.

    `registers["pc"]` is the address of the next instruction. `contexts` holds the values of contexts that are
    stepped (``context it ... next ...``) where they differ from their usual value; derived contexts are never
    stored.
    """

    registers: dict[str, int]
    files: dict[str, list[int]]
    memory: Memory
    contexts: dict[str, int] = field(default_factory=dict)

    @property
    def pc(self) -> int:
        """The address of the next instruction."""
        return self.registers["pc"]

    @pc.setter
    def pc(self, value: int) -> None:
        self.registers["pc"] = value

    def copy(self, memory: Memory | None = None) -> State:
        """An independent state; `memory` replaces the memory, which is shared otherwise."""
        return State(
            dict(self.registers),
            {name: list(values) for name, values in self.files.items()},
            self.memory if memory is None else memory,
            dict(self.contexts),
        )

    def differences(self, other: State) -> list[str]:
        """Names of registers, entries and contexts that differ, as ``x[3]: 0x1, 0x2``; memory isn't
        compared.
        """
        found = []
        for name in sorted(self.registers.keys() | other.registers.keys()):
            mine, its = self.registers.get(name), other.registers.get(name)
            if mine != its:
                found.append(f"{name}: {_hex(mine)}, {_hex(its)}")
        for name in sorted(self.files.keys() | other.files.keys()):
            for i, (mine, its) in enumerate(
                zip(self.files.get(name, []), other.files.get(name, []), strict=False)
            ):
                if mine != its:
                    found.append(f"{name}[{i}]: {_hex(mine)}, {_hex(its)}")
        for name in sorted(self.contexts.keys() | other.contexts.keys()):
            mine, its = self.contexts.get(name), other.contexts.get(name)
            if mine != its:
                found.append(f"context {name}: {_hex(mine)}, {_hex(its)}")
        return found


def _hex(value: int | None) -> str:
    return "none" if value is None else hex(value)


def reset_state(target: Target, memory: Memory, features: Iterable[str] | None = None) -> State:
    """All registers at their reset values (a file's entries alike), zero registers 0, contexts at rest.

    `features` (None: the target's own) go into the register that shared functions look at.
    """
    registers: dict[str, int] = {"pc": 0}
    files: dict[str, list[int]] = {}
    stepped = {context.name for context in target.contexts if context.next is not None}
    for register in target.registers:
        if register.name in stepped:
            continue  # at rest, which may depend on pc
        if register.count is None:
            registers[register.name] = register.reset
        else:
            files[register.name] = [register.reset] * register.count
            if register.zero is not None:
                files[register.name][register.zero] = 0
    present = closed_features(target, target.default_features if features is None else features)
    if FEATURES in registers:
        registers[FEATURES] = sum(1 << i for i, f in enumerate(target.features) if f.name in present)
    return State(registers, files, memory)


def closed_features(target: Target, chosen: Iterable[str]) -> frozenset[str]:
    """`chosen` and all that they imply or require."""
    by_name = {feature.name: feature for feature in target.features}
    result: set[str] = set()
    todo = list(chosen)
    while todo:
        name = todo.pop()
        if name in result:
            continue
        result.add(name)
        if name in by_name:
            todo += by_name[name].implies + by_name[name].requires
    return frozenset(result)
