"""PowerPC: user mode, 32 and 64 bits, big- and little-endian."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

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

MTXER, MFXER = bytes.fromhex("7c0103a6"), bytes.fromhex("7c0102a6")
"""Of r0: Unicorn's own XER lacks SO, OV and CA."""
MTVRSAVE, MFVRSAVE = bytes.fromhex("7c0043a6"), bytes.fromhex("7c0042a6")

SF, PR, FP, LE = 1 << 63, 0x4000, 0x2000, 1
"""MSR (Power ISA Book III, 3.2.1): 64-bit mode, user mode, floating point, little-endian."""

HV_EMULATION = 96
"""QEMU's number of the interrupt that invalid instructions cause since POWER8 (Book III, 6.5.9)."""


def settle(registers: Registers, files: Files, memory: bytes, random: Random, order: ByteOrder) -> None:
    """Reservations fit."""
    reserve(registers, files["r"], memory, order, random)


def peer(target: str) -> Peer:
    """Unicorn's CPU (64 bits: a POWER10 in 64-bit mode) with floating point on."""
    import unicorn
    from unicorn import ppc_const as c

    wide, little = target != "ppc", target == "ppc64le"
    width = 64 if wide else 32

    def set_up(uc: Any) -> None:
        if wide:  # its MMU lets nothing through before it is set up
            uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
            uc.hook_add(unicorn.UC_HOOK_TLB_FILL, same_page)
        uc.reg_write(c.UC_PPC_REG_MSR, (SF if wide else 0) | PR | FP | (LE if little else 0))

    def same_page(_uc: Any, address: int, _access: int, entry: Any, _: object) -> bool:
        entry.paddr, entry.perms = address & -4096, unicorn.UC_PROT_ALL
        return True

    def copied(write: bytes, read: bytes, *parts: Part) -> PeerRegister:
        order = -1 if little else 1
        return PeerRegister(c.UC_PPC_REG_0, parts, write=write[::order], read=read[::order])

    flags = [Part("so", None, 31, 1), Part("ov", None, 30, 1), Part("ca", None, 29, 1)]
    registers = [
        *files_of(c, "UC_PPC_REG_", "r", range(32), width),
        PeerRegister(c.UC_PPC_REG_CR, tuple(Part("crb", i, 31 - i, 1) for i in range(32))),
        copied(MTXER, MFXER, *flags, Part("strlen", None, 0, 7)),
        copied(MTVRSAVE, MFVRSAVE, Part("vrsave", None, 0, 32)),
        *files_of(c, "UC_PPC_REG_FPR", "f", range(32), 64),
        PeerRegister(c.UC_PPC_REG_LR, (Part("lr", None, 0, width),)),
        PeerRegister(c.UC_PPC_REG_CTR, (Part("ctr", None, 0, width),)),
    ]
    return Peer(
        architecture=unicorn.UC_ARCH_PPC,
        mode=(unicorn.UC_MODE_PPC64 if wide else unicorn.UC_MODE_PPC32) | unicorn.UC_MODE_BIG_ENDIAN,
        pc=c.UC_PPC_REG_PC,
        registers=tuple(registers),
        rejects=(HV_EMULATION,),
        numbers={"alignment": 5, "privileged": 6, "trap_taken": 6, "system_call": 8},
        set_up=set_up,
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(
        never=frozenset({"msr"}),
        float_files=frozenset({"f"}),
        settle=partial(settle, order="little" if target == "ppc64le" else "big"),
        peers=lambda: [peer(target)],
    )
