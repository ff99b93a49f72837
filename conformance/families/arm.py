"""Arm: A64 at EL0, with Unicorn's AArch64; A32 and T32 in user mode, with its Cortex-A15."""

from __future__ import annotations

from random import Random
from typing import Any

from conformance.families.base import Family, Part, Peer, PeerRegister, Registers, files_of
from generator.ir.decode import Decoded
from generator.model.target import Target

EXCEPTIONS = {"supervisor_call": 2, "breakpoint": 7}
"""QEMU's numbers of exceptions."""


def a64() -> Peer:
    """Unicorn's AArch64."""
    import unicorn
    from unicorn import arm64_const as c

    registers = [
        *files_of(c, "UC_ARM64_REG_X", "x", range(31), 64),
        PeerRegister(c.UC_ARM64_REG_SP, (Part("sp", None, 0, 64),)),
        PeerRegister(
            c.UC_ARM64_REG_NZCV,
            (Part("n", None, 31, 1), Part("z", None, 30, 1), Part("c", None, 29, 1), Part("v", None, 28, 1)),
        ),
        PeerRegister(c.UC_ARM64_REG_TPIDR_EL0, (Part("tpidr_el0", None, 0, 64),)),
    ]
    return Peer(
        architecture=unicorn.UC_ARCH_ARM64,
        mode=unicorn.UC_MODE_ARM,
        pc=c.UC_ARM64_REG_PC,
        registers=tuple(registers),
        rejects=(1,),
        illegal=("undefined_instruction",),
        numbers=EXCEPTIONS,
    )


USER = 0x10
"""CPSR: user mode, little-endian, interrupts on (DDI 0406, B1.3.3)."""

CPSR = (
    Part("n", None, 31, 1),
    Part("z", None, 30, 1),
    Part("c", None, 29, 1),
    Part("v", None, 28, 1),
    Part("q", None, 27, 1),
    Part("it", None, 25, 2),
    Part("ge", None, 16, 4),
    Part("it", None, 10, 6, 2),
    Part("t", None, 5, 1),
)


def word_aligned(registers: Registers) -> int:
    """Branches to A32 code that isn't aligned may be aligned (what we do) or not (Unicorn): DDI 0406, A2.3.2,
    "UNPREDICTABLE".
    """
    return -1 if registers["t"] else ~2


def aarch32() -> Peer:
    """Unicorn's Cortex-A15 in user mode."""
    import unicorn
    from unicorn import arm_const as c

    def enter_user_mode(uc: Any) -> None:
        uc.reg_write(c.UC_ARM_REG_CPSR, USER)

    def entry(pc: int, registers: Registers) -> int:
        return pc | registers["t"]  # as in an interworking branch

    return Peer(
        architecture=unicorn.UC_ARCH_ARM,
        mode=unicorn.UC_MODE_ARM,
        model=c.UC_CPU_ARM_CORTEX_A15,
        pc=c.UC_ARM_REG_PC,
        registers=(
            PeerRegister(c.UC_ARM_REG_CPSR, CPSR, fixed=USER),
            *files_of(c, "UC_ARM_REG_R", "r", range(15), 32),
            PeerRegister(c.UC_ARM_REG_C13_C0_3, (Part("tpidruro", None, 0, 32),)),
        ),
        rejects=(1,),
        illegal=("undefined_instruction",),
        numbers=EXCEPTIONS,
        set_up=enter_user_mode,
        entry=entry,
        behind=True,  # Unicorn's count doesn't stop it inside IT blocks
        pc_mask=word_aligned,
    )


def instruction_sets(model: Target, random: Random) -> Registers:
    """A32 or T32; any ITSTATE, though A32 has none (DDI 0406, A2.5.2: 0)."""
    t = random.randrange(2)
    return {"t": t, "it": random.getrandbits(8) if random.random() < (0.6 if t else 0.2) else 0}


def unpredictable_aarch32(decoded: Decoded) -> bool:
    """ITSTATE that no IT leaves."""
    it, thumb = decoded.contexts.get("it", 0), decoded.contexts.get("thumb", 0)
    return it != 0 and (thumb == 0 or it & 15 == 0)


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
    return Family(
        modes=instruction_sets,
        contexts=("thumb", "it"),
        unpredictable=unpredictable_aarch32,
        peers=lambda: [aarch32()],
    )
