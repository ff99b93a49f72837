"""Our own firmware, assembled by our own assembler, and kept beside the target that it is for."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from isagen.generated import folder_of, load_syntax

BASE: Final = 0x80000000


def embedded_sbi(width: int, harts: int) -> bytes:
    """The small SBI of `machines.firmware` for RV32 or RV64, to lie at the start of RAM. Raises NotBuiltError
    where the target isn't built.
    """
    from machines.firmware.sbi import source

    target = f"riscv{width}"
    text = source(width, harts)
    folder = folder_of(target)
    kept = folder / f"sbi-{hashlib.sha256(text.encode()).hexdigest()[:16]}.bin"
    try:
        return kept.read_bytes()
    except FileNotFoundError:
        code = assembled(target, text)
    part = kept.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(code)
    part.replace(kept)
    return code


def assembled(target: str, text: str) -> bytes:
    """Raw bytes for the start of RAM."""
    from runtime.assembly.assembler import Assembler
    from runtime.assembly.program import Program

    return Program(Assembler(load_syntax(target)), base=BASE).assemble(text, "sbi.s").flat()
