"""SPARC V8 and V9 in user mode. Unicorn tells no npc: only its pc is compared, and only from outside delay slots."""

from __future__ import annotations

from conformance.families.base import Family, Peer, PeerRegister

GROUPS = ("G", "O", "L", "I")


def peer(target: str) -> Peer:
    """Unicorn's SPARC."""
    import unicorn
    from unicorn import sparc_const as c

    wide = target == "sparc64"
    width = 64 if wide else 32
    registers = [
        PeerRegister(getattr(c, f"UC_SPARC_REG_{GROUPS[i // 8]}{i % 8}"), (("r", i, 0, width),)) for i in range(1, 32)
    ]
    registers.append(PeerRegister(c.UC_SPARC_REG_Y, (("y", None, 0, 32),)))
    return Peer(
        architecture=unicorn.UC_ARCH_SPARC,
        mode=(unicorn.UC_MODE_SPARC64 if wide else unicorn.UC_MODE_SPARC32) | unicorn.UC_MODE_BIG_ENDIAN,
        pc=c.UC_SPARC_REG_PC,
        registers=tuple(registers),
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(peers=lambda: [peer(target)])
