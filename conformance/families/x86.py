"""x86: 16-, 32- and 64-bit code with flat segments; Unicorn in the three modes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from conformance.families.base import Family, Files, Part, Peer, PeerRegister, Registers
from generator.model.target import Target

NAMES = {
    64: [
        "RAX",
        "RCX",
        "RDX",
        "RBX",
        "RSP",
        "RBP",
        "RSI",
        "RDI",
        "R8",
        "R9",
        "R10",
        "R11",
        "R12",
        "R13",
        "R14",
        "R15",
    ],
    32: ["EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"],
    16: ["AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"],
}
# fmt: off
SYSTEM = frozenset((
    "seg_base", "selector", "seg_limit", "seg_rights", "xcr0", "cr0", "cr2", "cr3", "cr4", "cr8", "efer",
    "dr", "gdt_base", "gdt_limit", "idt_base", "idt_limit", "ldt_selector", "ldt_base", "ldt_limit",
    "ldt_rights", "task_selector", "task_base", "task_limit", "task_rights", "sysenter_cs", "sysenter_esp",
    "sysenter_eip", "star", "lstar", "cstar", "fmask", "kernel_gs_base", "pat", "apic_base", "misc_enable",
    "tsc_offset", "tsc_aux", "entropy", "shutdown", "interrupt_request", "interrupt_vector", "nmi_request",
    "delivering",
))
# fmt: on
"""What programs don't set: as after a reset mostly."""
FLAGS = (("cf", 0), ("pf", 2), ("af", 4), ("zf", 6), ("sf", 7), ("df", 10), ("of", 11))


def modes(model: Target, random: Random) -> Registers:
    """The mode of the code segment: any that the target has."""
    domain = next(context.domain for context in model.contexts if context.name == "mode")
    size = random.choice(domain)
    return {"code_size": size, "stack_size": size}


def settle(registers: Registers, files: Files, memory: bytes, random: Random) -> None:
    """Repeated string instructions: the count is small mostly. 8086 to 80386: there are eight registers. x87:
    no exception is pending mostly, and few registers are empty.
    """
    if "fpu_flags" in registers and random.random() < 0.9:
        registers["fpu_cw"] |= random.choice((0x3F, 0x3F, 0))
        registers["fpu_flags"] &= 0x40 | registers["fpu_cw"] & 0x3F
        registers["fpu_empty"] = random.choice((0x80, 0xC0, 0, registers["fpu_empty"]))
    gpr = files["gpr"]
    if random.random() < 0.5:
        gpr[1] = random.randrange(4)
    if max(gpr) >> 32 == 0:
        gpr[8:] = [0] * 8


def enable_sse(uc: Any) -> None:
    """CR4.OSFXSR, which Unicorn sets in 32- and 64-bit modes only (SDM volume 3, 2.5)."""
    from unicorn import x86_const as c

    uc.reg_write(c.UC_X86_REG_CR4, uc.reg_read(c.UC_X86_REG_CR4) | 1 << 9)


# MXCSR's bits, from the lowest: flags in the order IE DE ZE OE UE PE, then what controls (SDM volume 1,
# 10.2.3).
MXCSR = (
    *(Part("mxcsr_flags", None, low, 1, start) for low, start in enumerate((4, 5, 3, 2, 1, 0))),
    Part("mxcsr_control", None, 6, 10),
)
# The x87's status word but for ES and B, which follow from flags and masks (volume 1, 8.1.3).
FPU_STATUS = (
    Part("fpu_flags", None, 0, 7),
    *(Part(name, None, low, 1) for name, low in (("c0", 8), ("c1", 9), ("c2", 10), ("c3", 14))),
    Part("fpu_top", None, 11, 3),
)
HOST_NAMES = {
    "SSE3": "pni",
    "SSE41": "sse4_1",
    "SSE42": "sse4_2",
    "SHA": "sha_ni",
    "TZCNT": "bmi1",
    "LZCNT": "abm",
    "LAHF64": "lahf_lm",
    "PREFETCHW": "3dnowprefetch",
    **dict.fromkeys(("I186", "I286", "I386", "I486", "I586"), "fpu"),
}
"""Features that Linux calls otherwise in /proc/cpuinfo than by their names in small letters."""


def host(target: str, features: Sequence[str]) -> list[Peer]:
    """The host's processor in 64-bit mode, if it is x86-64; `features` are those that the target knows."""
    from conformance.oracles import native

    if target != "x86_64" or not native.supported():
        return []
    has = native.flags()
    registers = [
        PeerRegister(native.number(n.lower()), (Part("gpr", i, 0, 64),)) for i, n in enumerate(NAMES[64])
    ]
    flags = tuple(Part(name, None, bit, 1) for name, bit in FLAGS)
    registers.append(PeerRegister(native.number("eflags"), flags, fixed=0x202))
    registers.append(PeerRegister(native.MXCSR, MXCSR))
    registers += [PeerRegister(native.XMM + 16 * i, (Part("xmm", i, 0, 128),)) for i in range(16)]
    registers += [PeerRegister(native.ST + 16 * i, (Part("st", i, 0, 80),)) for i in range(8)]
    control = Part("fpu_cw", None, 0, 6), Part("fpu_cw", None, 8, 5, 8)
    registers.append(PeerRegister(native.FCW, control, fixed=0x40))
    registers.append(PeerRegister(native.FSW, FPU_STATUS))
    registers.append(PeerRegister(native.FTW, (), fixed=0xFF))  # no register is empty; not compared
    return [
        Peer(
            architecture=0,
            mode=0,
            pc=0,
            registers=tuple(registers),
            illegal=("invalid_opcode",),
            when=(("code_size", 64),),
            address_bits=47,
            missing=frozenset(f for f in features if HOST_NAMES.get(f, f.lower()) not in has),
        )
    ]


def peer(target: str, mode: int) -> Peer:
    """Unicorn in a mode."""
    import unicorn
    from unicorn import x86_const as c

    width = {"x86_64": 64, "i386": 32, "i8086": 16}[target]
    bits = 64 if mode == 64 else min(width, 32)  # above: 64-bit registers' upper halves (volume 1, 3.4.1.1)
    names = NAMES[bits]
    registers = [
        PeerRegister(getattr(c, f"UC_X86_REG_{n}"), (Part("gpr", i, 0, bits),)) for i, n in enumerate(names)
    ]
    if width > 16:
        registers += [
            PeerRegister(getattr(c, f"UC_X86_REG_XMM{i}"), (Part("xmm", i, 0, 128),))
            for i in range(16 if mode == 64 else 8)
        ]
        registers.append(PeerRegister(c.UC_X86_REG_MXCSR, MXCSR))
    registers.append(
        PeerRegister(c.UC_X86_REG_EFLAGS, tuple(Part(name, None, bit, 1) for name, bit in FLAGS), fixed=0x202)
    )
    return Peer(
        architecture=unicorn.UC_ARCH_X86,
        mode={64: unicorn.UC_MODE_64, 32: unicorn.UC_MODE_32, 16: unicorn.UC_MODE_16}[mode],
        pc={64: c.UC_X86_REG_RIP, 32: c.UC_X86_REG_EIP, 16: c.UC_X86_REG_EIP}[mode],
        registers=tuple(registers),
        rejects=(6,),
        illegal=("invalid_opcode",),
        when=(("code_size", mode),),
        code_bits=8,
        set_up=enable_sse,
        address_bits=52,  # what QEMU's memory tables hold; no check that addresses are canonical
    )


def describe(target: str) -> Family:
    """The family as `target` sees it."""
    ours = {"x86_64": (64, 32, 16), "i386": (32, 16), "i8086": (16,)}[target]
    return Family(
        system=SYSTEM,
        never=frozenset({"features", "flag_bits", "cpl", "held_at", "instret", "translations", "waiting"}),
        wild=0.15,
        step=1,
        contexts=("mode",),
        modes=modes,
        settle=settle,
        float_files=frozenset({"xmm"}),
        peers=lambda: [peer(target, mode) for mode in ours],
        hosts=lambda features: host(target, features),
    )
