"""RISC-V: cases run in machine mode with floating point on; Unicorn is QEMU 5's hart."""

from __future__ import annotations

from random import Random

from conformance.families.base import Family, Files, Part, Peer, PeerRegister, Registers, files_of, reserve

SYSTEM = frozenset(
    [
        "priv",
        "mstatus",
        "mtvec",
        "mscratch",
        "mepc",
        "mcause",
        "mtval",
        "medeleg",
        "mideleg",
        "mie",
        "mip",
        "interrupt_lines",
        "mcounteren",
        "menvcfg",
        "mhartid",
        "pmpcfg",
        "pmpaddr",
        "stvec",
        "sscratch",
        "sepc",
        "scause",
        "stval",
        "satp",
        "scounteren",
        "senvcfg",
        "mcountinhibit",
        "mtime",
        "mcycle_base",
        "minstret_base",
        "fs_state",
    ]
)
NEVER = frozenset(["features", "instret", "waiting", "translations", "csr_instruction"])


def settle(registers: Registers, files: Files, memory: bytes, random: Random) -> None:
    """Reservations fit."""
    reserve(registers, files["x"], memory, "little", random)


def peer(target: str) -> Peer:
    """Unicorn's RV32 or RV64 hart."""
    import unicorn
    from unicorn import riscv_const as c

    wide = target == "riscv64"
    registers = files_of(c, "UC_RISCV_REG_X", "x", range(1, 32), 64 if wide else 32)
    registers += files_of(c, "UC_RISCV_REG_F", "f", range(32), 64)
    registers += [
        PeerRegister(c.UC_RISCV_REG_FFLAGS, (Part("fflags", None, 0, 5),)),
        PeerRegister(c.UC_RISCV_REG_FRM, (Part("frm", None, 0, 3),)),
    ]
    return Peer(
        architecture=unicorn.UC_ARCH_RISCV,
        mode=unicorn.UC_MODE_RISCV64 if wide else unicorn.UC_MODE_RISCV32,
        pc=c.UC_RISCV_REG_PC,
        registers=tuple(registers),
        rejects=(2,),
        numbers={"ecall_machine": 8},  # told before QEMU looks at the privilege
        set_up=lambda uc: uc.reg_write(c.UC_RISCV_REG_MSTATUS, 3 << 13),
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    return Family(
        fixed={"fs_on": 1},
        system=SYSTEM,
        never=NEVER,
        float_files=frozenset({"f"}),
        wild=0.15,
        step=2,
        contexts=("fp",),
        settle=settle,
        peers=lambda: [peer(target)],
    )
