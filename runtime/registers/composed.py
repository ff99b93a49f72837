"""Registers that a spec keeps in parts, or that are parts of a wider one, by family.

A `Piece` says where bits of such a register lie. Sources: Intel SDM vol. 1, 3.4 (registers, EFLAGS); Arm
DDI 0487, B1.2 and C5.2 (W registers, NZCV), E1.2 (CPSR); Power ISA 3.0B book I, 2.3 and 3.2 (CR, XER); SPARC
V8 manual, 4.2 (PSR); V9 manual, 5.2 (CCR); RISC-V unprivileged manual, chapter "F" (fcsr).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """`width` bits of the spec's register `source` from bit `low` up, at bit `at` of the composed one."""

    source: str
    width: int
    at: int = 0
    low: int = 0


@dataclass(frozen=True, slots=True)
class Composed:
    """A register put together from `pieces`; `fixed` are bits that read as ones and aren't stored."""

    width: int
    pieces: tuple[Piece, ...]
    fixed: int = 0


def _bits(width: int, fixed: int = 0, **places: int) -> Composed:
    """A register of single bits: name to position."""
    return Composed(width, tuple(Piece(name, 1, at) for name, at in places.items()), fixed)


def _part(source: str, width: int, low: int = 0) -> Composed:
    return Composed(width, (Piece(source, width, 0, low),))


# --- x86 ----------------------------------------------------------------------------------------------------


def _x86_names(pc_width: int) -> dict[str, Composed]:
    classic = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
    letter = "r" if pc_width == 64 else "e"
    found: dict[str, Composed] = {}
    for number, name in enumerate(classic):
        wide = f"{letter}{name}"
        if pc_width == 64:
            found[f"e{name}"] = _part(wide, 32)
        found[name] = _part(wide, 16)
        if number < 4:
            found[f"{name[0]}l"] = _part(wide, 8)
            found[f"{name[0]}h"] = _part(wide, 8, 8)
        elif pc_width == 64:
            found[f"{name}l"] = _part(wide, 8)
    if pc_width == 64:
        for number in range(8, 16):
            for suffix, width in (("d", 32), ("w", 16), ("b", 8)):
                found[f"r{number}{suffix}"] = _part(f"r{number}", width)
    flags = _bits(pc_width, 2, cf=0, pf=2, af=4, zf=6, sf=7, df=10, of=11)
    found.update({"eflags": flags, "flags": flags})
    if pc_width == 64:
        found["rflags"] = flags
    # the x87's status word but for what follows from the rest (ES, B); MXCSR, whose flags have another order
    # in the spec
    found["fpu_sw"] = Composed(
        16, (Piece("fpu_flags", 7), *_bits(16, c0=8, c1=9, c2=10, c3=14).pieces, Piece("fpu_top", 3, 11))
    )
    orders = zip(range(6), (4, 5, 3, 2, 1, 0), strict=True)
    exceptions = tuple(Piece("mxcsr_flags", 1, at, low) for at, low in orders)
    found["mxcsr"] = Composed(32, (*exceptions, Piece("mxcsr_control", 10, 6)))
    return found


# Flags that x86's spec keeps as a result to derive them from: reading, and a stored value for 0 and for 1.
LAZY_FLAGS: dict[str, tuple[Callable[[int], int], int, int]] = {
    "zf": (lambda stored: int(stored == 0), 1, 0),
    "sf": (lambda stored: stored >> 63 & 1, 0, 1 << 63),
    "af": (lambda stored: stored >> 4 & 1, 0, 1 << 4),
    "pf": (lambda stored: 1 - (stored & 255).bit_count() % 2, 1, 0),
}

# --- ARM ----------------------------------------------------------------------------------------------------


def _aarch64_names() -> dict[str, Composed]:
    flags = _bits(64, n=31, z=30, c=29, v=28)
    found = {"nzcv": flags, "cpsr": flags, "pstate": flags, "wsp": _part("sp", 32)}
    found.update({f"w{n}": _part(f"x{n}", 32) for n in range(31)})
    found.update({"fp": _part("x29", 64), "lr": _part("x30", 64)})
    return found


def _arm_names() -> dict[str, Composed]:
    flags = _bits(32, n=31, z=30, c=29, v=28, q=27)
    more = (Piece("it", 2, 25), Piece("ge", 4, 16), Piece("it", 6, 10, 2), Piece("t", 1, 5))
    return {
        "cpsr": Composed(32, flags.pieces + more, 0x10),  # user mode
        "apsr": Composed(32, (*flags.pieces, Piece("ge", 4, 16))),
        "sb": _part("r9", 32),
        "sl": _part("r10", 32),
        "fp": _part("r11", 32),
        "ip": _part("r12", 32),
        "r13": _part("sp", 32),
        "r14": _part("lr", 32),
    }


# --- Power, SPARC, RISC-V ---


def _ppc_names(pc_width: int) -> dict[str, Composed]:
    found = {"cr": Composed(32, tuple(Piece(f"crb{n}", 1, 31 - n) for n in range(32)))}
    for field in range(8):
        found[f"cr{field}"] = Composed(4, tuple(Piece(f"crb{4 * field + n}", 1, 3 - n) for n in range(4)))
    xer = (Piece("so", 1, 31), Piece("ov", 1, 30), Piece("ca", 1, 29), Piece("strlen", 7))
    found["xer"] = Composed(pc_width, xer)
    found.update({f"gpr{n}": _part(f"r{n}", pc_width) for n in range(32)})
    found.update({f"fpr{n}": _part(f"f{n}", 64) for n in range(32)})
    return found


def _sparc_names(pc_width: int) -> dict[str, Composed]:
    banks = "goli"
    found = {f"{banks[n // 8]}{n % 8}": _part(f"r{n}", pc_width) for n in range(32)}
    if pc_width == 64:
        found["ccr"] = _bits(8, xn=7, xz=6, xv=5, xc=4, n=3, z=2, v=1, c=0)
    else:
        found["psr"] = _bits(32, 0, n=23, z=22, v=21, c=20)
    return found


def composed_registers(family: str, name: str, pc_width: int) -> dict[str, Composed]:
    """What the target `name` of `family` has beside its spec's registers."""
    if family == "x86":
        return _x86_names(pc_width)
    if family == "arm":
        return _aarch64_names() if pc_width == 64 else _arm_names()
    if family == "ppc":
        return _ppc_names(pc_width)
    if family == "sparc":
        return _sparc_names(pc_width)
    if family == "riscv":
        return {
            "fp": _part("x8", pc_width),
            "fcsr": Composed(32, (Piece("frm", 3, 5), Piece("fflags", 5))),
        }
    return {}


PROGRAM_COUNTERS = {"x86": ("rip", "eip", "ip"), "arm": ("r15",)}
"""Other names of ``pc``, by family."""
