"""Call stacks by call-frame information (DWARF 5, section 6.4): ``.eh_frame`` or ``.debug_frame``."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, Final

from isagen.inspection.objects import MappedFile, MappedFiles
from runtime.errors import IsagenError
from runtime.memory.space import AddressError
from runtime.registers import RegisterFile

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu

DEEPEST: Final = 256
_X86: Final = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15"
NUMBERS: Final[dict[tuple[str, int], list[str]]] = {
    ("riscv", 64): [f"x{n}" for n in range(32)],
    ("riscv", 32): [f"x{n}" for n in range(32)],
    ("x86", 64): _X86.split(),
    ("x86", 32): ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"],
    ("arm", 64): [*(f"x{n}" for n in range(31)), "sp"],
    ("arm", 32): [*(f"r{n}" for n in range(13)), "sp", "lr"],
    ("ppc", 64): [f"r{n}" for n in range(32)] + [""] * 33 + ["lr"],
    ("ppc", 32): [f"r{n}" for n in range(32)] + [""] * 33 + ["lr"],
}
"""Registers by DWARF's numbers, from the architectures' ABI documents."""


class _Frames:
    """The frame descriptions of one file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.entries: list[Any] = []
        self.starts: list[int] = []
        self._tables: dict[int, tuple[list[int], list[Any]]] = {}
        dwarf = file.dwarf
        if dwarf is None:
            return
        from elftools.dwarf.callframe import FDE

        found: list[Any] = []
        try:
            if dwarf.has_EH_CFI():
                found += dwarf.EH_CFI_entries()
            if dwarf.has_CFI():
                found += dwarf.CFI_entries()
            rows = [(entry["initial_location"], entry) for entry in found if isinstance(entry, FDE)]
        except Exception:  # whatever damaged debugging data does to pyelftools
            return
        rows.sort(key=lambda row: row[0])
        self.starts = [start for start, _ in rows]
        self.entries = [entry for _, entry in rows]

    def rules(self, pc: int) -> tuple[Any, Any] | None:
        """The row that holds at `pc` (as the file has addresses), and the entry's CIE."""
        index = bisect.bisect_right(self.starts, pc) - 1
        if index < 0:
            return None
        entry = self.entries[index]
        if pc >= entry["initial_location"] + entry["address_range"]:
            return None
        if index not in self._tables:
            table = entry.get_decoded().table
            self._tables[index] = [row["pc"] for row in table], table
        addresses, table = self._tables[index]
        place = bisect.bisect_right(addresses, pc) - 1
        return (table[place], entry.cie) if place >= 0 else None


class Unwinder:
    """The call stacks of a guest."""

    def __init__(self, cpu: Cpu, files: MappedFiles) -> None:
        self.cpu = cpu
        self.files = files
        self.registers = RegisterFile(cpu)
        package = cpu.package
        self._names = NUMBERS.get((package.family, package.pc_width), [])
        self._word = package.pc_width // 8
        self._order = "big" if package.big_endian else "little"
        self._frames: dict[int, _Frames] = {}
        stack = {"riscv": "x2", "ppc": "r1", "x86": "rsp" if self._word == 8 else "esp"}.get(
            package.family, "sp"
        )
        self._stack = self._names.index(stack) if stack in self._names else -2
        link = {"riscv": "x1", "ppc": "lr"}.get(package.family, "x30" if self._word == 8 else "lr")
        self._link = self._names.index(link) if link in self._names else -3
        """Where the return address of a function that calls none is, if in a register."""
        self._known = [(n, name) for n, name in enumerate(self._names) if name]

    def stack(self) -> list[int]:
        """Addresses of code, the innermost first: `pc`, then for each caller the byte before where it goes
        on.
        """
        pc = self.cpu.pc
        found = [pc]
        values = {number: self.registers.read(name) for number, name in self._known}
        inside = pc
        while len(found) < DEEPEST:
            caller = self._caller(inside, values, innermost=len(found) == 1)
            if caller is None or caller <= 1:
                break
            inside = caller - 1
            found.append(inside)
        return found

    def _leaf(self, values: dict[int, int]) -> int | None:
        """The return address of a function without frame description that calls none (in assembly,
        mostly).
        """
        if self._link in values:
            return values[self._link]
        address = self._load(values[self._stack])
        values[self._stack] += self._word
        return address

    def _caller(self, pc: int, values: dict[int, int], *, innermost: bool) -> int | None:
        """The return address of the frame that `pc` is in; `values` become the caller's."""
        file = self.files.at(pc)
        if file is None:
            return None
        frames = self._frames.get(id(file))
        if frames is None:
            frames = self._frames[id(file)] = _Frames(file)
        try:
            found = frames.rules(pc - file.bias)
            if found is None:
                return self._leaf(values) if innermost else None
            row, cie = found
            rule = row["cfa"]
            if rule.reg is None or rule.reg not in values:
                return None
            frame = values[rule.reg] + rule.offset & (1 << 8 * self._word) - 1
            back = cie["return_address_register"]
            saved: dict[int, int] = {}
            for number, place in row.items():
                if isinstance(number, int) and place.type == "OFFSET":
                    saved[number] = self._load(frame + place.arg)
            address = saved.get(back, values.get(back))
            if address is None or (back not in saved and frame == values.get(-1)):
                return None
            values.update(saved)
            values[-1] = frame
            values[self._stack] = frame  # by definition of the CFA on all these architectures
            return address
        except (AddressError, IsagenError, KeyError, IndexError, AttributeError, ValueError):
            return None

    def _load(self, address: int) -> int:
        data = self.cpu.memory.read(address & (1 << 8 * self._word) - 1, self._word)
        return int.from_bytes(data, "big" if self._order == "big" else "little")
