"""x86 in Intel's and AT&T's syntax, and in the modes that a target has."""

from __future__ import annotations

import re
from functools import partial

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation, always
from conformance.toolchains import Llvm, Objdump

MODES = {"x86_64": (64, 32, 16), "i386": (32, 16), "i8086": (16,)}
TRIPLES = {64: "x86_64", 32: "i686", 16: "i686-unknown-unknown-code16"}
MACHINES = {64: "i386:x86-64", 32: "i386", 16: "i8086"}
VZEROUPPER = bytes.fromhex("c5f877"), "vzeroupper"
"""LLVM writes some prefixes on a line of their own; no target has AVX."""
PREFIXES = frozenset(b"\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65")

MANDATORY = frozenset(
    (*range(0x10, 0x18), *range(0x28, 0x30), 0x38, 0x3A, *range(0x50, 0x80), 0xC2, *range(0xC4, 0xC7))
) | frozenset(range(0xD0, 0x100))
"""Opcodes behind 0F where 66 chooses the instruction (SDM volume 2, tables A-3 and A-4)."""

_RELATIVE = re.compile(r"^(j\w+|loop\w*|call\w*)((?:,p[nt])?) (-?(?:0x)?[0-9a-f]+)$")
_FAR = re.compile(r"^(ljmp\w*|lcall\w*|jmp|call) (\$?)(-?\w+)(?:, ?\$?|:)(-?\w+)$")
_ENTER = re.compile(r"^(enter\w* \$?)(-?\d+)(, \$?)(-?\d+)$")
_SYSTEM_RETURN = re.compile(r"^(sysret|sysexit)d$")
_TABLE = re.compile(r"^xlat (?:byte ptr )?[\[(]%?(\w+)[\])]$")
_ABSOLUTE = re.compile(r"\b([c-gs]s):(0x[0-9a-f]+)")
_NEEDLESS = re.compile(r"^((?:lock |rep\w* )*)(?:[c-gs]s )+")
_HEXADECIMAL = re.compile(r"\b0x[0-9a-f]+")
_ZERO = re.compile(r" \+ 0\]|(?<![\w.])0(?=\((?!,))")
_ADDRESS = re.compile(r"\[(0x[0-9a-f]+|\d+)\]")
_ATT_ADDRESS = re.compile(r"(?<![$\w.(-])(0x[0-9a-f]+|\d+)(?![\w(])")
_FAR_BELOW = re.compile(r"\+0x(f{8}[89a-f][0-9a-f]{7})\]")
_EXCHANGE = re.compile(r"^(xchg\w?) (%?\w+), (%?\w+)$")
_STRING = re.compile(r"^((?:rep\w* )?(?:outs|ins|movs|cmps|scas|lods|stos)[bwdlq]) (.*)$")
_INDEX = re.compile(r"[\[(]%?(\w+)[\])]")
_IMMEDIATE = re.compile(r"^(mov\w?) (?:(\w+), (-?\w+)|[$](-?\w+), %(\w+))$")
_DEFAULT = re.compile(r"%?\bds:")
_FLAT = re.compile(r"%?\b[c-es]s:(?=\[|-?\d|\()")
_DATA = re.compile(r"%?\bds:(?=\[(?!e?bp|esp)|-?\w*\((?!%e?bp|%esp)|0x)")


def prefixes(code: bytes) -> bytes:
    """The legacy prefixes of an encoding."""
    length = next((at for at, byte in enumerate(code) if byte not in PREFIXES), len(code))
    return code[:length]


def canonical(text: str, contexts: dict[str, int]) -> str:
    """Without segments that make no difference (SDM volume 1, 3.3.7.1 and 3.7.4), displacements of 0, and
    operands of string instructions that are the usual ones; what MOV loads unsigned; what XCHG exchanges in
    one order, ST(0) as ST, and all numbers decimal.
    """
    text = _HEXADECIMAL.sub(lambda match: str(int(match[0], 16)), text)
    text = _ZERO.sub(lambda match: "]" if match[0][-1] == "]" else "", text)
    text = (_FLAT if contexts["mode"] == 64 else _DATA).sub("", text)
    match = _STRING.match(text)
    if match:
        registers = {16: {"si", "di"}, 32: {"esi", "edi"}, 64: {"rsi", "rdi"}}[contexts["mode"]]
        elsewhere = re.sub(r"%?es:|\(?%?\bdx\)?", "", match[2])
        if ":" not in elsewhere and set(_INDEX.findall(elsewhere)) <= registers and "xmm" not in elsewhere:
            return match[1]
    match = _TABLE.match(text)
    if match and match[1] == {16: "bx", 32: "ebx", 64: "rbx"}[contexts["mode"]]:
        return "xlatb"
    match = _IMMEDIATE.match(text)
    number = match and (match[3] or match[4])
    if match and number and number.lstrip("-")[0].isdigit():
        register = match[2] or match[5]
        return f"{match[1]} {register}, {int(number, 0) % (1 << register_bits(register))}"
    match = _EXCHANGE.match(text)
    if match:
        return f"{match[1]} {', '.join(sorted(match.groups()[1:]))}"
    return re.sub(r"\bst\(0\)", "st", text)


def register_bits(name: str) -> int:
    """The width of a general register."""
    if name[0] == "r":
        return {"b": 8, "w": 16, "d": 32}.get(name[-1], 64)
    return 32 if name[0] == "e" and name != "es" else 8 if name[-1] in "hl" else 16


def outward(mode: int, intel: bool, text: str, code: bytes) -> str | None:
    """Our text for llvm-mc, which leaves the targets of branches to the linker, and in 16-bit code cuts
    addresses without registers to 16 bits.
    """
    if _RELATIVE.match(text):
        return None
    addresses = (_ADDRESS if intel else _ATT_ADDRESS).findall(text)
    if mode == 16 and any(int(address, 0) >> 16 for address in addresses):
        return None
    match = _FAR.match(text)
    if match and intel:
        return f"{match[1]} {match[3]}, {match[4]}"
    return _SYSTEM_RETURN.sub(r"\1", text) if intel else text


def operand_size(mode: int, code: bytes) -> int:
    """The size of branches' targets."""
    return 64 if mode == 64 else 16 if (mode == 16) != (0x66 in prefixes(code)) else 32


def from_llvm(mode: int, intel: bool, text: str, code: bytes) -> str:
    """LLVM's text for our assembler: branches have targets, not displacements."""
    match = _RELATIVE.match(text)
    if match:
        width = operand_size(mode, code)
        return f"{match[1]}{match[2]} {(int(match[3], 0) + len(code)) % (1 << width):#x}"
    match = _FAR.match(text)
    if match and intel:
        return f"{match[1]} {match[3]}:{match[4]}"
    match = _ENTER.match(text)
    if match:  # it takes both numbers for signed
        return f"{match[1]}{int(match[2]) % (1 << 16)}{match[3]}{int(match[4]) % (1 << 8)}"
    return text


def from_objdump(mode: int, intel: bool, text: str, code: bytes) -> str:
    """GNU's text for our assembler: it writes needless segments in front, and absolute addresses bare."""
    text = _NEEDLESS.sub(r"\1", text).replace("OWORD PTR", "XMMWORD PTR")
    text = _FAR_BELOW.sub(lambda match: f"-{(1 << 64) - int(match[1], 16):#x}]", text)
    match = _RELATIVE.match(text)
    if match:  # below 0 it forgets to wrap
        return f"{match[1]}{match[2]} {int(match[3], 0) % (1 << operand_size(mode, code)):#x}"
    match = _FAR.match(text)
    if match and intel:
        return f"l{match[1].lstrip('l')} {match[3]}:{match[4]}"
    if intel:
        text = _ABSOLUTE.sub(r"\1:[\2]", text)
    return text if 0x3E in prefixes(code) else _DEFAULT.sub("", text)


def chosen_by_size(code: bytes) -> bool:
    """Whether 66 is a size and no part of the opcode, which LLVM never takes it for in 16-bit code."""
    head = prefixes(code)
    opcode = code[len(head) : len(head) + 2]
    return not (0x66 in head and opcode[0] == 0x0F and opcode[1] in MANDATORY)


def plain(code: bytes) -> bool:
    """An 8086 has no 32-bit operands or addresses, which peers take these prefixes for."""
    return not {0x66, 0x67} & set(prefixes(code))


def notation(target: str, dialect: str) -> Notation:
    """The peers of a target in our `dialect`, "" (Intel's) or "att"."""
    intel = not dialect
    options, directives = (("--output-asm-variant=1",), (".intel_syntax noprefix",)) if intel else ((), ())
    fits = plain if target == "i8086" else always
    assemblers, disassemblers = [], []
    for mode in MODES[target]:
        contexts = (("mode", mode),)
        sixteen = mode == 16 and target != "i8086"
        llvm = Llvm(TRIPLES[mode], options, directives, VZEROUPPER)
        objdump = Objdump(MACHINES[mode], ("-M", "intel" if intel else "att"), padding=b"\x90")
        assemblers.append(AssemblerPeer(llvm, partial(outward, mode, intel), fits, contexts))
        disassemblers += [
            DisassemblerPeer(
                llvm, partial(from_llvm, mode, intel), chosen_by_size if sixteen else fits, contexts
            ),
            DisassemblerPeer(objdump, partial(from_objdump, mode, intel), fits, contexts),
        ]
    return Notation(tuple(assemblers), tuple(disassemblers), dialect, canonical=canonical)


def describe(target: str) -> Notation:
    """The peers of a target."""
    intel, att = notation(target, ""), notation(target, "att")
    return Notation(intel.assemblers, intel.disassemblers, others=(att,), canonical=canonical)
