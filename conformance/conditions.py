"""Conditions in the lists of known differences: Python's expressions over integers, and nothing else of it.

Names are the instruction's fields (``rs1``, ``to.b``), its decode contexts and prefixes (``rex``), and single
registers before it (``xer``); ``f[rs1]`` is an entry of a file. ``signalling(value, width)`` tells whether a
number is a signalling NaN, ``prefixes(byte)`` whether one of the instruction's prefixes is that byte.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, Final

from generator.ir.decode import Decoded
from generator.model.target import Form, Target
from runtime.errors import IsagenError

_BINARY: Final[Mapping[type, Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Mod: operator.mod,
}
_COMPARE: Final[Mapping[type, Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_FRACTION: Final = {16: 10, 32: 23, 64: 52}


def signalling(value: int, width: int) -> bool:
    """Whether the low `width` bits of `value` (16, 32 or 64) are a signalling NaN (IEEE 754, 6.2.1): all bits
    of the exponent 1, the fraction's top bit 0, the fraction not 0.
    """
    fraction = _FRACTION[width]
    exponent = (1 << width - 1 - fraction) - 1
    rest = value & ((1 << fraction) - 1)
    return value >> fraction & exponent == exponent and rest != 0 and rest >> fraction - 1 == 0


_FUNCTIONS: Final[Mapping[str, Callable[..., int]]] = {"signalling": signalling}


@dataclass(frozen=True)
class Case:
    """What a condition is about: an instruction and the registers before it; `absent`: see `absent_names`;
    `prefixes`: those before the opcode.
    """

    absent: frozenset[str]
    prefixes: bytes
    decoded: Decoded
    registers: Mapping[str, int]
    files: Mapping[str, list[int]]


def holds(text: str, case: Case) -> bool:
    """Whether the condition `text` holds; an empty one always does. Raises `IsagenError` if it makes no
    sense.
    """
    if not text:
        return True
    try:
        return bool(_value(_parsed(text), case))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        what = f"{case.decoded.form.name}: the condition `{text}` can't be evaluated ({error})"
        raise IsagenError(what, remedy="it may name fields, contexts and registers") from None


@lru_cache(maxsize=256)
def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise IsagenError(f"`{text}` is no condition ({error.msg})") from None


def _value(node: ast.expr, case: Case) -> Any:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name() | ast.Attribute():
            return _named(_path(node), case)
        case ast.Subscript(value=ast.Name(id=name), slice=index):
            return case.files[name][_value(index, case)]
        case ast.IfExp(test=test, body=body, orelse=otherwise):
            return _value(body if _value(test, case) else otherwise, case)
        case ast.Tuple(elts=members):
            return tuple(_value(member, case) for member in members)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, case)
        case ast.BoolOp(op=op, values=values):
            results = (bool(_value(value, case)) for value in values)
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, case), _value(right, case))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE[type(op)](_value(left, case), _value(right, case))
        case ast.Call(func=ast.Name(id="prefixes"), args=[byte], keywords=[]):
            return int(_value(byte, case) in case.prefixes)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _FUNCTIONS[name](*(_value(argument, case) for argument in arguments))
    raise ValueError(ast.unparse(node))


def _path(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_path(value)}.{name}"
    raise ValueError(ast.unparse(node))


def _named(name: str, case: Case) -> int:
    for values in (case.decoded.fields, case.decoded.contexts, case.registers):
        if name in values:
            return values[name]
    if name in case.absent:
        return 0
    raise KeyError(name)


def leading_prefixes(target: Target, code: bytes) -> bytes:
    """The prefixes before the opcode of an instruction."""
    rows = target.prefixes

    def is_prefix(byte: int) -> bool:
        return any(byte & row.mask == row.pattern for row in rows)

    return bytes([*takewhile(is_prefix, code)])


def absent_names(target: Target, form: Form) -> frozenset[str]:
    """What may be absent from a decoded instruction of `form`, which then counts as 0: fields of operands'
    cases that weren't chosen, and prefixes.
    """
    names = {name for row in target.prefixes for name in (row.variable, *(f[0] for f in row.fields))}
    todo = list(form.operands)
    while todo:
        operand = todo.pop()
        names |= {operand.path, *(path for path, _, _ in operand.fields)}
        for case in operand.cases:
            names |= {piece.name for piece in (*case.picture, *case.appended) if piece.kind == "field"}
            todo += case.operands
    return frozenset(names)
