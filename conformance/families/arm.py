"""Arm: A64 at EL0, with Unicorn's AArch64; A32 and T32 in user mode, without a peer yet."""

from __future__ import annotations

from random import Random

from conformance.families.base import Family, Peer, PeerRegister, Registers, files_of
from generator.ir.decode import Decoded
from generator.model.target import Target


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


def instruction_sets(model: Target, random: Random) -> Registers:
    """A32, or T32 outside IT blocks (random programs in the engine's tests go through those)."""
    return {"t": random.randrange(2), "it": random.getrandbits(8)}


def unpredictable(decoded: Decoded) -> bool:
    """A64: write-back to a register that is transferred, and loads of one register twice (K1.2, "CONSTRAINED
    UNPREDICTABLE").
    """
    word = decoded.fields.get("opcode_bits", 0)
    n, t, second = word >> 5 & 31, word & 31, word >> 10 & 31
    if word >> 27 & 7 == 5 and word >> 25 & 1 == 0:  # load or store pair
        writes_back, loads = bool(word >> 23 & 1), bool(word >> 22 & 1)
        return (writes_back and n != 31 and n in (t, second)) or (loads and t == second)
    if (
        word >> 27 & 7 == 7 and word >> 24 & 3 == 0 and word >> 21 & 1 == 0 and word >> 10 & 1
    ):  # pre- or post-index
        return n == t and n != 31
    return False


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    if target == "aarch64":
        return Family(unpredictable=unpredictable, peers=lambda: [a64()])
    return Family(modes=instruction_sets, contexts=("thumb",))
