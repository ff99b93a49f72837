"""What a debugger sees of a RISC-V hart: its registers by name, the system registers among them as the spec
shows them, and its virtual memory. Only while the hart stands still, between two instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Final

from machines.hart import Hart
from runtime.cpu import block, symbols
from runtime.errors import IsagenError
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import AddressError
from runtime.registers import RegisterFile

BANK: Final = "csr"
MACHINE_MODE: Final = 3
MPRV, SUM, MXR = 1 << 17, 1 << 18, 1 << 19
"""Bits of ``mstatus`` (volume II, 3.1.6)."""
READ, EXECUTE = 0, 2
PARTIAL: Final = 1 << 63
"""See the spec's `translate`."""


class HartView:
    """Looks into a hart, and changes it on request."""

    def __init__(self, hart: Hart) -> None:
        self.hart = hart
        self.cpu = hart.cpu
        package = self.cpu.package
        self._registers = RegisterFile(self.cpu)
        self._numbers: Mapping[str, int] = package.banks.get(BANK, {})
        self._read_bank = package.shared_function(f"{BANK}_read", 1)
        self._write_bank = package.shared_function(f"{BANK}_write", 2)
        self._translate = package.shared_function("translate", 2)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Whatever is done to the CPU's block inside is undone."""
        kept = bytes(self.cpu.block)
        try:
            yield
        finally:
            self.cpu.block[:] = kept

    def _call(self, function: Callable[..., int], *arguments: int) -> int | None:
        """A shared function's first result; None where it raises."""
        for place in (block.BUDGET, block.ENTRY_BUDGET):  # no instructions of a run are still to be counted
            self.cpu.block[place : place + 8] = bytes(8)
        signed = (value - (1 << 64) if value >> 63 else value for value in arguments)
        if function(self.cpu.address, *signed) != symbols.STATUS_DONE:
            return None
        return int.from_bytes(self.cpu.block[block.RESULTS : block.RESULTS + 8], "little")

    # --- registers --------------------------------------------------------------------------------------

    @cached_property
    def system_names(self) -> tuple[str, ...]:
        """Names of the system registers that are there."""
        return tuple(name for name in self._numbers if self._read_system(name) is not None)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers or name in self._registers

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the registers, without those of the system."""
        return tuple(name for name in self._registers.names if name not in self._numbers)

    def _read_system(self, name: str) -> int | None:
        if self._read_bank is None:
            return None
        with self._aside():
            self.cpu.set("priv", MACHINE_MODE)
            return self._call(self._read_bank, self._numbers[name])

    def read(self, name: str) -> int | None:
        """A register's value; None: it isn't there now (floating point is switched off, for example). Raises
        IsagenError for unknown names.
        """
        if name in self._numbers:
            return self._read_system(name)
        return self._registers.read(name)

    def write(self, name: str, value: int) -> bool:
        """Change a register as far as it can be; False: it isn't there now. Raises IsagenError for unknown
        names.
        """
        if name not in self._numbers:
            self._registers.write(name, value)
            return True
        if self._write_bank is None:
            return False
        privilege = self.cpu.get("priv")
        kept = bytes(self.cpu.block)
        self.cpu.set("priv", MACHINE_MODE)
        done = self._call(self._write_bank, self._numbers[name], value)
        if done is None:
            self.cpu.block[:] = kept
            return False
        self.cpu.set("priv", privilege)
        self.cpu.changed(translations=True)
        return True

    def width(self, name: str) -> int:
        """Bits of a register."""
        return self.cpu.package.pc_width if name in self._numbers else self._registers.width(name)

    # --- memory -----------------------------------------------------------------------------------------

    def physical(self, address: int) -> int | None:
        """The physical address behind a virtual one of the hart as it is now, whatever the access; None:
        nothing is mapped there.
        """
        if self._translate is None:
            return address
        address &= (1 << self.cpu.package.pc_width) - 1
        with self._aside():
            self.cpu.set("mstatus", (self.cpu.get("mstatus") | SUM | MXR) & ~MPRV)
            for privilege in dict.fromkeys((self.cpu.get("priv"), 1 if self.cpu.get("priv") < 2 else 3, 0)):
                self.cpu.set("priv", privilege)
                for access in (READ, EXECUTE):
                    found = self._call(self._translate, address, access)
                    if found is not None:
                        return found & ~PARTIAL
                if privilege == MACHINE_MODE:
                    break
        return None

    def _pieces(self, address: int, size: int, virtual: bool) -> Iterator[tuple[int | None, int]]:
        """Physical addresses and sizes, page by page."""
        while size > 0:
            part = min(size, PAGE_SIZE - address % PAGE_SIZE)
            yield (self.physical(address) if virtual else address), part
            address += part
            size -= part

    def read_memory(self, address: int, size: int, *, virtual: bool = True) -> bytes:
        """Up to `size` bytes: as far as RAM goes on."""
        found = bytearray()
        for physical, part in self._pieces(address, size, virtual):
            if physical is None:
                break
            try:
                found += self.cpu.memory.read(physical, part)
            except AddressError as error:
                found += self.cpu.memory.read(physical, error.address - physical)
                break
        return bytes(found)

    def write_memory(self, address: int, data: bytes, *, virtual: bool = True) -> bool:
        """Write all or nothing; whether it was possible."""
        places = list(self._pieces(address, len(data), virtual))
        memory = self.cpu.memory
        for physical, size in places:
            region = None if physical is None else memory.find(physical)
            if region is None or region.ram is None or physical is None or physical + size > region.end:
                return False
        done = 0
        for physical, size in places:
            assert physical is not None
            memory.write(physical, data[done : done + size])
            done += size
        return True


def whole(view: HartView, address: int, size: int, *, virtual: bool = True) -> bytes:
    """Exactly `size` bytes. Raises IsagenError where there is no RAM."""
    data = view.read_memory(address, size, virtual=virtual)
    if len(data) < size:
        kind = "virtual" if virtual else "physical"
        raise IsagenError("no memory", where=f"{kind} address {address + len(data):#x}")
    return data
