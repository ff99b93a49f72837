"""What Linux is like on each architecture. `for_elf` picks the description that fits a program."""

from __future__ import annotations

from importlib import import_module

from runtime.elf import ElfFile
from runtime.elf import constants as c
from runtime.linux.abi.base import Abi
from runtime.linux.errors import LoadError

# (e_machine, bits, little-endian) to the module and class that describe it.
_KINDS: dict[tuple[int, int, bool], tuple[str, str]] = {
    (c.EM_RISCV, 64, True): ("riscv", "Riscv64"),
    (c.EM_RISCV, 32, True): ("riscv", "Riscv32"),
    (c.EM_AARCH64, 64, True): ("arm", "Aarch64"),
    (c.EM_ARM, 32, True): ("arm", "Arm"),
    (c.EM_X86_64, 64, True): ("x86", "X86_64"),
    (c.EM_386, 32, True): ("x86", "I386"),
    (c.EM_PPC, 32, False): ("ppc", "Ppc"),
    (c.EM_PPC64, 64, False): ("ppc", "Ppc64"),
    (c.EM_PPC64, 64, True): ("ppc", "Ppc64le"),
    (c.EM_SPARC, 32, False): ("sparc", "Sparc"),
    (c.EM_SPARC32PLUS, 32, False): ("sparc", "Sparc"),
    (c.EM_SPARCV9, 64, False): ("sparc", "Sparc64"),
}


def for_elf(elf: ElfFile) -> Abi:
    """The description for the program `elf`. Raises `LoadError` for architectures that there is none for."""
    found = _KINDS.get((elf.machine, elf.bits, elf.little_endian))
    if found is None:
        order = "little" if elf.little_endian else "big"
        raise LoadError(
            f"a program for {elf.machine_name} ({elf.bits} bits, {order}-endian), which isn't supported",
            where=elf.name,
        )
    module, name = found
    kind: type[Abi] = getattr(import_module(f"runtime.linux.abi.{module}"), name)
    return kind()
