"""Arm: A64 at EL0; Unicorn is QEMU's AArch64."""

from __future__ import annotations

from conformance.families.base import Family, Peer, PeerRegister, files_of


def a64() -> Peer:
    """Unicorn's AArch64."""
    import unicorn
    from unicorn import arm64_const as c

    registers = [
        *files_of(c, "UC_ARM64_REG_X", "x", range(31), 64),
        PeerRegister(c.UC_ARM64_REG_SP, (("sp", None, 0, 64),)),
        PeerRegister(
            c.UC_ARM64_REG_NZCV,
            (("n", None, 31, 1), ("z", None, 30, 1), ("c", None, 29, 1), ("v", None, 28, 1)),
        ),
        PeerRegister(c.UC_ARM64_REG_TPIDR_EL0, (("tpidr_el0", None, 0, 64),)),
    ]
    return Peer(
        architecture=unicorn.UC_ARCH_ARM64,
        mode=unicorn.UC_MODE_ARM,
        pc=c.UC_ARM64_REG_PC,
        registers=tuple(registers),
        rejects=(1,),
        illegal=("undefined_instruction",),
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(peers=(lambda: [a64()]) if target == "aarch64" else None)
