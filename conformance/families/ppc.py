"""PowerPC: user mode, 32 and 64 bits. Unicorn 2.1's 64-bit CPUs can't be put into 64-bit mode: a
peer for 32 bits only.
"""

from __future__ import annotations

from functools import partial
from random import Random

from conformance.families.base import (
    ByteOrder,
    Family,
    Files,
    Part,
    Peer,
    PeerRegister,
    Registers,
    files_of,
    reserve,
)

MTXER, MFXER = (
    bytes.fromhex("7c0103a6"),
    bytes.fromhex("7c0102a6"),
)  # of r0: Unicorn's own XER lacks SO, OV and CA


def settle(registers: Registers, files: Files, memory: bytes, random: Random, order: ByteOrder) -> None:
    """Reservations fit."""
    reserve(registers, files["r"], memory, order, random)


def peer() -> Peer:
    """Unicorn's 32-bit CPU with floating point on."""
    import unicorn
    from unicorn import ppc_const as c

    registers = [
        *files_of(c, "UC_PPC_REG_", "r", range(32), 32),
        PeerRegister(c.UC_PPC_REG_CR, tuple(Part("crb", i, 31 - i, 1) for i in range(32))),
        PeerRegister(
            c.UC_PPC_REG_0,
            (
                Part("so", None, 31, 1),
                Part("ov", None, 30, 1),
                Part("ca", None, 29, 1),
                Part("strlen", None, 0, 7),
            ),
            write=MTXER,
            read=MFXER,
        ),
        *files_of(c, "UC_PPC_REG_FPR", "f", range(32), 64),
        PeerRegister(c.UC_PPC_REG_LR, (Part("lr", None, 0, 32),)),
        PeerRegister(c.UC_PPC_REG_CTR, (Part("ctr", None, 0, 32),)),
    ]
    return Peer(
        architecture=unicorn.UC_ARCH_PPC,
        mode=unicorn.UC_MODE_PPC32 | unicorn.UC_MODE_BIG_ENDIAN,
        pc=c.UC_PPC_REG_PC,
        registers=tuple(registers),
        set_up=lambda uc: uc.reg_write(c.UC_PPC_REG_MSR, 0x2000),
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(
        never=frozenset({"msr"}),
        float_files=frozenset({"f"}),
        settle=partial(settle, order="little" if target == "ppc64le" else "big"),
        peers=(lambda: [peer()]) if target == "ppc" else None,
    )
