"""PowerPC: user mode, 32 and 64 bits; Unicorn has the big-endian CPUs."""

from __future__ import annotations

from random import Random

from conformance.families.base import Family, Files, Peer, PeerRegister, Registers, files_of

MTXER, MFXER = (
    bytes.fromhex("7c0103a6"),
    bytes.fromhex("7c0102a6"),
)  # of r0: Unicorn's own XER lacks SO, OV and CA


def settle(registers: Registers, files: Files, random: Random) -> None:
    """A reservation is mostly on an address that a register holds; the string count is small mostly."""
    registers["reserved"] = random.getrandbits(1)
    if random.random() < 0.7:
        registers["reservation"] = random.choice(files["r"])


def peer(target: str) -> Peer:
    """Unicorn's 32- or 64-bit CPU, in user mode as our reset state is."""
    import unicorn
    from unicorn import ppc_const as c

    wide = target != "ppc"
    width = 64 if wide else 32
    registers = [
        *files_of(c, "UC_PPC_REG_", "r", range(32), width),
        PeerRegister(c.UC_PPC_REG_CR, tuple(("crb", i, 31 - i, 1) for i in range(32))),
        PeerRegister(
            c.UC_PPC_REG_0,
            (("so", None, 31, 1), ("ov", None, 30, 1), ("ca", None, 29, 1), ("strlen", None, 0, 7)),
            write=MTXER,
            read=MFXER,
        ),
        *files_of(c, "UC_PPC_REG_FPR", "f", range(32), 64),
        PeerRegister(c.UC_PPC_REG_LR, (("lr", None, 0, width),)),
        PeerRegister(c.UC_PPC_REG_CTR, (("ctr", None, 0, width),)),
    ]
    mode = unicorn.UC_MODE_PPC64 if wide else unicorn.UC_MODE_PPC32
    msr = (1 << 63 if wide else 0) | 0x2000  # SF, FP
    return Peer(
        architecture=unicorn.UC_ARCH_PPC,
        mode=mode | unicorn.UC_MODE_BIG_ENDIAN,
        pc=c.UC_PPC_REG_PC,
        registers=tuple(registers),
        set_up=lambda uc: uc.reg_write(c.UC_PPC_REG_MSR, msr),  # type: ignore[attr-defined]
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(
        never=frozenset({"msr"}),
        float_files=frozenset({"f"}),
        settle=settle,
        peers=None if target == "ppc64le" else lambda: [peer(target)],
    )
