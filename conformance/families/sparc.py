"""SPARC V8 and V9 in user mode.

Unicorn tells no npc: only its pc is compared, and only from outside delay slots. V8's condition codes can't
be reached in it (%psr is privileged); V9's can, by %ccr.
"""

from __future__ import annotations

from random import Random

from conformance.families.base import Family, Files, Part, Peer, PeerRegister, Registers

GROUPS = ("G", "O", "L", "I")

WRITE_Y, READ_Y = bytes.fromhex("81804000"), bytes.fromhex("83400000")  # wr %g1, %y; rd %y, %g1
WRITE_CCR, READ_CCR = bytes.fromhex("85804000"), bytes.fromhex("83408000")  # %ccr
WRITE_ASI, READ_ASI = bytes.fromhex("87804000"), bytes.fromhex("8340c000")  # %asi

Parts = tuple[Part, ...]


def copied(via: int, parts: Parts, write: bytes, read: bytes) -> PeerRegister:
    """A register that only instructions reach."""
    return PeerRegister(via, parts, write=write, read=read)


def peer(target: str) -> Peer:
    """Unicorn's SPARC."""
    import unicorn
    from unicorn import sparc_const as c

    wide = target == "sparc64"
    width = 64 if wide else 32
    registers = [
        PeerRegister(getattr(c, f"UC_SPARC_REG_{GROUPS[i // 8]}{i % 8}"), (Part("r", i, 0, width),))
        for i in range(1, 32)
    ]
    g1 = c.UC_SPARC_REG_G1
    registers.append(copied(g1, (Part("y", None, 0, 32),), WRITE_Y, READ_Y))
    icc = (Part("n", None, 3, 1), Part("z", None, 2, 1), Part("v", None, 1, 1), Part("c", None, 0, 1))
    if wide:
        xcc = (Part("xn", None, 7, 1), Part("xz", None, 6, 1), Part("xv", None, 5, 1), Part("xc", None, 4, 1))
        registers.append(copied(g1, icc + xcc, WRITE_CCR, READ_CCR))
        registers.append(copied(g1, (Part("asi", None, 0, 8),), WRITE_ASI, READ_ASI))
    return Peer(
        architecture=unicorn.UC_ARCH_SPARC,
        mode=(unicorn.UC_MODE_SPARC64 if wide else unicorn.UC_MODE_SPARC32) | unicorn.UC_MODE_BIG_ENDIAN,
        pc=c.UC_SPARC_REG_PC,
        registers=tuple(registers),
        address_bits=40 if wide else 64,  # QEMU's UltraSPARC drops the bits above its physical addresses'
    )


def settle(registers: Registers, files: Files, memory: bytes, random: Random) -> None:
    """%asi often names the primary address space (V9 6.3.1.3)."""
    if "asi" in registers and random.random() < 0.6:
        registers["asi"] = random.choice((0x80, 0x80, 0x82))


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(settle=settle, peers=lambda: [peer(target)])
