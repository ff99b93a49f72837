"""The assembler's arithmetic: numbers, symbols, operators and relocation functions such as
``%hi(symbol)``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import TypeAlias

from runtime.errors import IsagenError

_TOKEN = re.compile(
    r"\s*(?:(?P<local>\d+[bf])(?![\w])|(?P<number>0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)|(?P<char>'(?:\\.|[^'\\])')"
    r"|(?P<function>%[a-zA-Z_]\w*(?=\())|(?P<name>[A-Za-z_.$][\w.$]*)|(?P<operator><<|>>|[=!<>]=|[-+*/%&|^~()<>]))"
)
_ESCAPES = {"n": 10, "t": 9, "r": 13, "0": 0, "\\": 92, "'": 39, '"': 34}
_COMPARISONS = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_LEVELS = (tuple(_COMPARISONS), ("|",), ("^",), ("&",), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))
_PRECEDENCE = {operator: level for level, operators in enumerate(_LEVELS, 1) for operator in operators}
MAX_DEPTH = 64


def _signed(value: int, width: int) -> int:
    return ((value & (1 << width) - 1) ^ 1 << (width - 1)) - (1 << (width - 1))


def _signed64(value: int) -> int:
    if not -(1 << 63) <= value < 1 << 64:
        raise AssemblyError(f"{value} does not fit into 64 bits", remedy="change the operand")
    return _signed(value, 64)


def _trailing(value: int) -> int:
    return (value & -value).bit_length() - 1 if value else 64


RELOCATIONS: dict[str, Callable[[int, int], int]] = {
    # RISC-V psABI, "Absolute addresses" and "PC-relative": the low part is signed, so the high one is rounded
    "%hi": lambda value, pc: (value + 0x800) >> 12 & 0xFFFFF,
    "%lo": lambda value, pc: ((value & 0xFFF) ^ 0x800) - 0x800,
    "%pcrel_hi": lambda value, pc: (value - pc + 0x800) >> 12 & 0xFFFFF,
    # our macros put the low half directly behind the high one
    "%pcrel_lo": lambda value, pc: (((value - pc + 4) & 0xFFF) ^ 0x800) - 0x800,
    # SPARC: 22 and 10 bits; PowerPC and MIPS style halves
    "%hi22": lambda value, pc: value >> 10 & 0x3FFFFF,
    "%lo10": lambda value, pc: value & 0x3FF,
    "%ha16": lambda value, pc: (value + 0x8000) >> 16 & 0xFFFF,
    "%hi16": lambda value, pc: value >> 16 & 0xFFFF,
    "%lo16": lambda value, pc: value & 0xFFFF,
    # not relocations, but what macros are made with: low bits as a signed number; how many zeros are at the
    # bottom, and 64 bits without them
    "%sext32": lambda value, pc: _signed(value, 32),
    "%sext64": lambda value, pc: _signed64(value),
    "%ctz": lambda value, pc: _trailing(value),
    "%odd": lambda value, pc: _signed64(value) >> _trailing(value),
    # how many 16-bit parts of 64 bits aren't 0
    "%halves": lambda value, pc: sum(value >> low & 0xFFFF != 0 for low in range(0, 64, 16)),
}


class AssemblyError(IsagenError):
    """A source text that can't be assembled; `where` is file:line."""


@dataclass(frozen=True, slots=True)
class Number:
    value: int


@dataclass(frozen=True, slots=True)
class Symbol:
    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`operator` over one or two operands, or a relocation function over one."""

    operator: str
    operands: tuple[Value, ...]


Value: TypeAlias = Number | Symbol | Operation


def parse(text: str, position: int, depth: int = 0, minimum: int = 1) -> tuple[Value, int] | None:
    """The longest expression at `position`: its tree and the position behind it; None if there is none."""
    if depth > MAX_DEPTH:
        return None
    parsed = _primary(text, position, depth)
    if parsed is None:
        return None
    left, position = parsed
    while True:
        match = _TOKEN.match(text, position)
        operator = match.group("operator") if match else None
        if match is None or operator not in _PRECEDENCE or _PRECEDENCE[operator] < minimum:
            return left, position
        right = parse(text, match.end(), depth + 1, _PRECEDENCE[operator] + 1)
        if right is None:
            return left, position
        left, position = Operation(operator, (left, right[0])), right[1]


def _primary(text: str, position: int, depth: int) -> tuple[Value, int] | None:
    match = _TOKEN.match(text, position)
    if match is None:
        return None
    end = match.end()
    if match.group("number"):
        digits = match.group("number")
        return Number(
            int(digits, 0) if digits[:2].lower() in ("0x", "0b") else _decimal_or_octal(digits)
        ), end
    if match.group("char"):
        body = match.group("char")[1:-1]
        return Number(_ESCAPES.get(body[1], ord(body[1])) if body[0] == "\\" else ord(body)), end
    if match.group("local") or match.group("name"):
        return Symbol(match.group("local") or match.group("name")), end
    if match.group("function"):
        inner = parse(text, end + 1, depth + 1)
        if inner is None or not text[inner[1] :].lstrip().startswith(")"):
            return None
        return Operation(match.group("function"), (inner[0],)), text.index(")", inner[1]) + 1
    operator = match.group("operator")
    if operator == "(":
        inner = parse(text, end, depth + 1)
        if inner is None or not text[inner[1] :].lstrip().startswith(")"):
            return None
        return inner[0], text.index(")", inner[1]) + 1
    if operator in ("-", "~", "+"):
        operand = _primary(text, end, depth + 1) if depth < MAX_DEPTH else None
        return (Operation(f"unary{operator}", (operand[0],)), operand[1]) if operand else None
    return None


def _decimal_or_octal(digits: str) -> int:
    if len(digits) > 1 and digits[0] == "0" and all(d in "01234567" for d in digits):
        return int(digits, 8)
    return int(digits)


class Undefined(Exception):
    """A symbol without a value (yet)."""


def evaluate(value: Value, symbols: Mapping[str, int], pc: int) -> int:
    """The number that `value` stands for. Raises Undefined for an unknown symbol, AssemblyError for a bad
    operation."""
    match value:
        case Number(value=number):
            return number
        case Symbol(name="."):
            return pc
        case Symbol(name=name):
            if name not in symbols:
                raise Undefined(name)
            return symbols[name]
        case Operation(operator="%pcrel_lo", operands=(Symbol(name=name),)) if (
            f"%pcrel@{symbols.get(name)}" in symbols
        ):
            # the symbol labels the instruction with the matching %pcrel_hi (RISC-V psABI, "PC-Relative
            # Symbol Addresses")
            return RELOCATIONS["%lo"](symbols[f"%pcrel@{symbols[name]}"], pc)
        case Operation(operator=operator, operands=operands):
            return _operate(operator, [evaluate(operand, symbols, pc) for operand in operands], pc)


def _operate(operator: str, operands: list[int], pc: int) -> int:
    first = operands[0]
    if operator in ("signed", "unsigned"):  # says how a field takes it: see the encoder
        return first
    if operator.startswith("unary"):
        return {"-": -first, "~": ~first, "+": first}[operator[5:]]
    if operator.startswith("%") and len(operands) == 1:
        if operator not in RELOCATIONS:
            raise AssemblyError(
                f"unknown relocation function {operator}", remedy=f"use one of {', '.join(RELOCATIONS)}"
            )
        return RELOCATIONS[operator](first, pc)
    second = operands[1]
    if operator in _COMPARISONS:
        return -1 if _COMPARISONS[operator](first, second) else 0  # all ones is true, as in GNU as
    match operator:
        case "+":
            return first + second
        case "-":
            return first - second
        case "*":
            return first * second
        case "&":
            return first & second
        case "|":
            return first | second
        case "^":
            return first ^ second
        case "<<" | ">>":
            if not 0 <= second <= 128:
                raise AssemblyError(f"shift by {second}", remedy="shift by 0 to 128 bits")
            return first << second if operator == "<<" else first >> second
    if second == 0:
        raise AssemblyError("division by zero", remedy="check the divisor's value")
    quotient = abs(first) // abs(second) * (1 if (first < 0) == (second < 0) else -1)
    return quotient if operator == "/" else first - quotient * second
