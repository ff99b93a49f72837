"""Target descriptions: which registers gdb expects of an architecture, in which order, and what they are
here.

Features and names are those of the gdb manual, "Standard Target Features". A target whose spec names them
itself
(`debug` groups) has them in its ``target.xml``; for the others the lists are here.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from runtime.errors import IsagenError
from runtime.monitor.gdb.debuggee import RegisterSlot

STANDARD = "org.gnu.gdb."


@dataclass(frozen=True, slots=True)
class Row:
    """A register of a feature: gdb's name, bits, gdb's type, and our name (gdb's, unless given)."""

    name: str
    bits: int
    type: str = "int"
    ours: str | None = None


Feature = tuple[str, list[Row]]


def _rows(names: str, bits: int, kind: str = "int") -> list[Row]:
    return [Row(name, bits, kind) for name in names.split()]


def _span(prefix: str, count: int, bits: int, kind: str = "int", ours: str | None = None) -> list[Row]:
    return [Row(f"{prefix}{n}", bits, kind, f"{ours or prefix}{n}") for n in range(count)]


def _x86(bits: int) -> list[Feature]:
    general = (
        "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip"
        if bits == 64
        else "eax ecx edx ebx esp ebp esi edi eip"
    )
    kinds = {"rip": "code_ptr", "eip": "code_ptr", "rsp": "data_ptr", "esp": "data_ptr", "rbp": "data_ptr"}
    core = [Row(name, bits, kinds.get(name, "int")) for name in general.split()]
    core += [Row("eflags", 32, "i386_eflags"), *_rows("cs ss ds es fs gs", 32)]
    core += _span("st", 8, 80, "i387_ext")
    core += _rows("fctrl fstat ftag fiseg fioff foseg fooff fop", 32)
    sse = [*_span("xmm", 16 if bits == 64 else 8, 128, "uint128"), Row("mxcsr", 32)]
    return [("org.gnu.gdb.i386.core", core), ("org.gnu.gdb.i386.sse", sse)]


def _arm(bits: int) -> list[Feature]:
    if bits == 64:
        core = [*_span("x", 31, 64), Row("sp", 64, "data_ptr"), Row("pc", 64, "code_ptr")]
        core.append(Row("cpsr", 32, "cpsr_flags"))
        return [("org.gnu.gdb.aarch64.core", core)]
    core = [
        *_span("r", 13, 32, "uint32"),
        Row("sp", 32, "data_ptr"),
        Row("lr", 32),
        Row("pc", 32, "code_ptr"),
    ]
    return [("org.gnu.gdb.arm.core", [*core, Row("cpsr", 32)])]


def _ppc(bits: int) -> list[Feature]:
    core = [*_span("r", 32, bits), Row("pc", bits, "code_ptr"), Row("msr", bits), Row("cr", 32)]
    core += [Row("lr", bits, "code_ptr"), Row("ctr", bits), Row("xer", 32)]
    return [
        ("org.gnu.gdb.power.core", core),
        ("org.gnu.gdb.power.fpu", [*_span("f", 32, 64, "ieee_double"), Row("fpscr", 64)]),
    ]


def _sparc(bits: int) -> list[Feature]:
    windows = (
        "g0 g1 g2 g3 g4 g5 g6 g7 o0 o1 o2 o3 o4 o5 sp o7 l0 l1 l2 l3 l4 l5 l6 l7 i0 i1 i2 i3 i4 i5 fp i7"
    )
    cpu = _rows(windows, bits)
    if bits == 64:
        others = [*_rows("pc npc", 64, "code_ptr"), *_rows("state fsr fprs y", 64)]
        floats = _span("f", 32, 32, "ieee_single") + [
            Row(f"f{n}", 64, "ieee_double") for n in range(32, 64, 2)
        ]
    else:
        others = [*_rows("y psr wim tbr", 32), *_rows("pc npc", 32, "code_ptr"), *_rows("fsr csr", 32)]
        floats = _span("f", 32, 32, "ieee_single")
    return [
        ("org.gnu.gdb.sparc.cpu", cpu),
        ("org.gnu.gdb.sparc.cp0", others),
        ("org.gnu.gdb.sparc.fpu", floats),
    ]


_FLAGS: dict[str, dict[str, int]] = {
    "i386_eflags": {"CF": 0, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11},
    "cpsr_flags": {"V": 28, "C": 29, "Z": 30, "N": 31},
}
"""Types whose bits have names."""
_FAMILIES = {"x86": _x86, "arm": _arm, "ppc": _ppc, "sparc": _sparc}
_ARCHITECTURES = {
    "x86_64": "i386:x86-64",
    "i386": "i386",
    "aarch64": "aarch64",
    "arm": "arm",
    "ppc": "powerpc:common",
    "ppc64": "powerpc:common64",
    "ppc64le": "powerpc:common64",
    "sparc": "sparc",
    "sparc64": "sparc:v9",
}


def description_of(
    registers: Container[str],
    family: str,
    target: str,
    bits: int,
    folder: Path,
    *,
    absent: Container[str] = (),
    single: Container[str] = (),
) -> tuple[bytes, tuple[RegisterSlot, ...]]:
    """The description as XML, and its registers in order. `folder`: the built target's; `absent`: names that
    are left out; `single`: those that the debugger asks for one by one.
    """
    own = folder / "target.xml"
    if own.is_file():
        data = _without(own.read_bytes(), absent)
        found = _read(data, registers, single)
        if found:
            return data, found
    data, rows = standard_description(family, target, bits)
    return data, tuple(
        RegisterSlot(row.name, row.bits // 8, _name(row.ours or row.name, registers)) for row in rows
    )


def standard_description(family: str, target: str, bits: int) -> tuple[bytes, list[Row]]:
    """What gdb expects of a target of these families, and the registers in order. Raises IsagenError."""
    if family not in _FAMILIES:
        raise IsagenError(f"there is no description of {target} for debuggers")
    features = _FAMILIES[family](bits)
    return _write(features, _ARCHITECTURES.get(target, "")), [row for _, rows in features for row in rows]


def _without(data: bytes, absent: Container[str]) -> bytes:
    """A generated description without some registers, and without features that have none left."""
    root = ElementTree.fromstring(data)
    for feature in root.findall("feature"):
        for register in feature.findall("reg"):
            if register.get("name", "") in absent:
                feature.remove(register)
        if feature.find("reg") is None:
            root.remove(feature)
    head = b'<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n'
    return head + ElementTree.tostring(root) + b"\n"


def _name(name: str, registers: Container[str]) -> str | None:
    return name if name in registers else None


def _read(data: bytes, registers: Container[str], single: Container[str]) -> tuple[RegisterSlot, ...]:
    """The registers of a generated description, if its features are gdb's own; else none."""
    features = ElementTree.fromstring(data).findall("feature")
    if not all(feature.get("name", "").startswith(STANDARD) for feature in features):
        return ()
    return tuple(
        RegisterSlot(
            name, -(-int(register.get("bitsize", "0")) // 8), _name(name, registers), name not in single
        )
        for feature in features
        for register in feature.findall("reg")
        for name in [register.get("name", "")]
    )


def _write(features: list[Feature], architecture: str) -> bytes:
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', '<target version="1.0">']
    if architecture:
        lines.append(f"  <architecture>{architecture}</architecture>")
    for feature, rows in features:
        lines.append(f"  <feature name={quoteattr(feature)}>")
        for kind in dict.fromkeys(row.type for row in rows if row.type in _FLAGS):
            lines.append(f'    <flags id="{kind}" size="4">')
            lines += [
                f'      <field name="{flag}" start="{bit}" end="{bit}"/>'
                for flag, bit in _FLAGS[kind].items()
            ]
            lines.append("    </flags>")
        lines += [
            f'    <reg name={quoteattr(row.name)} bitsize="{row.bits}" type={quoteattr(row.type)}/>'
            for row in rows
        ]
        lines.append("  </feature>")
    return "\n".join([*lines, "</target>", ""]).encode()
