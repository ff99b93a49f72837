"""Which target an architecture and mode of Unicorn's mean, and how it numbers registers and exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from isagen.compat.unicorn import (
    arm64_const,
    arm_const,
    ppc_const,
    riscv_const,
    sparc_const,
    x86_const,
)
from isagen.compat.unicorn import unicorn_const as uc
from isagen.compat.unicorn.errors import UcError
from isagen.emulator.events import Trap
from isagen.generated import is_built
from isagen.targets import all_targets

_WORD = uc.UC_MODE_32 | uc.UC_MODE_64
_TARGETS: Final[dict[int, Callable[[int], str | None]]] = {
    uc.UC_ARCH_RISCV: lambda mode: {4: "riscv32", 8: "riscv64"}.get(mode),
    uc.UC_ARCH_ARM64: lambda mode: None if mode & uc.UC_MODE_BIG_ENDIAN else "aarch64",
    uc.UC_ARCH_ARM: lambda mode: None if mode & (uc.UC_MODE_BIG_ENDIAN | uc.UC_MODE_MCLASS) else "arm",
    uc.UC_ARCH_X86: lambda mode: {4: "i386", 8: "x86_64", 2: "i8086"}.get(mode & (_WORD | uc.UC_MODE_16)),
    uc.UC_ARCH_PPC: lambda mode: (
        {4: "ppc", 8: "ppc64"}.get(mode & _WORD)
        if mode & uc.UC_MODE_BIG_ENDIAN
        else {8: "ppc64le"}.get(mode & _WORD)
    ),
    uc.UC_ARCH_SPARC: lambda mode: (
        {4: "sparc", 8: "sparc64"}.get(mode & _WORD) if mode & uc.UC_MODE_BIG_ENDIAN else None
    ),
}


def target_of(arch: int, mode: int) -> str:
    """The name of the target, built or not. Raises UcError."""
    choose = _TARGETS.get(arch)
    if choose is None:
        raise UcError(uc.UC_ERR_ARCH)
    name = choose(mode)
    if name is None or (name not in all_targets() and not is_built(name)):
        raise UcError(uc.UC_ERR_MODE)
    return name


@dataclass(frozen=True, slots=True)
class Architecture:
    """How Unicorn shows an architecture."""

    registers: Mapping[int, str]
    """Our names by its numbers; the target need not have them all."""
    illegal: int = uc.UC_ERR_INSN_INVALID
    """The error for an invalid instruction."""
    illegal_interrupt: int | None = None
    """The exception number where invalid instructions are exceptions like any other."""
    interrupts: Mapping[str, int | None] = field(default_factory=dict)
    """Exception numbers by trap; None: the trap's code. Other traps end the run as invalid instructions."""
    code_mask: int = -1
    """The bits of a trap's code that are the exception's number."""
    behind: frozenset[str] = frozenset()
    """Traps in whose hooks the program counter is already behind the instruction, and stays there."""
    ignored: frozenset[str] = frozenset()
    """Traps that do nothing where nobody has hooked them."""
    initial: Mapping[str, int] = field(default_factory=dict)
    """Registers that it starts with."""
    unit: int = 4
    """The size that hooks of failed fetches are told."""

    def interrupt(self, trap: Trap) -> int | None:
        """The exception's number, or None."""
        if trap.name not in self.interrupts:
            return None
        number = self.interrupts[trap.name]
        return trap.code & self.code_mask if number is None else number


def _numbers(constants: object, prefix: str, **names: str) -> dict[int, str]:
    """Registers by number, of the same name as ours but for case, or as `names` has them."""
    found: dict[int, str] = {}
    for name, number in vars(constants).items():
        if name.startswith(prefix):
            short = name[len(prefix) :].lower()
            found.setdefault(number, names.get(short, short))
    return found


@cache
def architecture(arch: int) -> Architecture:
    """The description of an architecture that `target_of` knows."""
    if arch == uc.UC_ARCH_RISCV:
        calls = dict.fromkeys(("ecall_user", "ecall_supervisor", "ecall_machine"), 8)
        return Architecture(
            _numbers(riscv_const, "UC_RISCV_REG_"),
            illegal=uc.UC_ERR_EXCEPTION,
            illegal_interrupt=2,
            interrupts=calls,
            behind=frozenset((*calls, "illegal")),
            initial={"priv": 3, "fs_on": 0, "fs_state": 0, "mcounteren": 7, "scounteren": 7},
            unit=2,
        )
    if arch == uc.UC_ARCH_ARM64:
        return Architecture(
            _numbers(arm64_const, "UC_ARM64_REG_"),
            illegal=uc.UC_ERR_EXCEPTION,
            illegal_interrupt=1,
            interrupts={"supervisor_call": 2, "breakpoint": 7},
            behind=frozenset({"supervisor_call"}),
        )
    if arch == uc.UC_ARCH_ARM:
        return Architecture(
            _numbers(arm_const, "UC_ARM_REG_", c13_c0_3="tpidruro"),
            interrupts={"supervisor_call": 2, "breakpoint": 7},
            behind=frozenset({"supervisor_call"}),
        )
    if arch == uc.UC_ARCH_X86:
        return Architecture(
            _numbers(x86_const, "UC_X86_REG_"),
            interrupts={"divide_error": 0, "breakpoint": 3, "overflow": 4, "software_interrupt": None},
            code_mask=0xFF,
            behind=frozenset({"software_interrupt", "breakpoint", "overflow"}),
            ignored=frozenset({"system_call"}),
            initial={"cpl": 0},
            unit=1,
        )
    if arch == uc.UC_ARCH_PPC:
        return Architecture(
            _numbers(ppc_const, "UC_PPC_REG_", **{str(n): f"r{n}" for n in range(32)}),
            interrupts={"system_call": 8, "trap_taken": 6},
            behind=frozenset({"system_call"}),
        )
    return Architecture(
        _numbers(sparc_const, "UC_SPARC_REG_"),
        interrupts={"trap_instruction": None},
    )
