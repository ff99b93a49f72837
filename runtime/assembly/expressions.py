"""Decode-time expressions of the syntax tables: evaluate them, and solve them for their fields.

An expression is a nested tuple ``(operator, width, operand, ...)``; leaves are ``("const", width, value)``
and
``("field", width, name)``, where a name is a field's, a context's, ``pc`` or ``next_pc``. Operators and
their meaning are
those of the generator's IR: unsigned integers below ``2**width``, shifts and division total.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Tree: TypeAlias = tuple[Any, ...]
Environment: TypeAlias = Mapping[str, int]

NOT_FIELDS = frozenset({"pc", "next_pc"})


def signed(value: int, width: int) -> int:
    """`value` (``width`` bits) as a two's complement number."""
    return value - (1 << width) if value >> (width - 1) & 1 else value


def evaluate(tree: Tree, environment: Environment) -> int:
    """The value of `tree`, below ``2**width``. Raises KeyError for a name that `environment` lacks."""
    operator: str = tree[0]
    width: int = tree[1]
    if operator == "const":
        return int(tree[2])
    if operator == "field":
        return environment[tree[2]] & ((1 << width) - 1)
    if operator == "slice":
        return evaluate(tree[2], environment) >> int(tree[3]) & ((1 << width) - 1)
    if operator == "select":
        return evaluate(tree[3] if evaluate(tree[2], environment) else tree[4], environment)
    if len(tree) == 3:
        return _unary(operator, width, evaluate(tree[2], environment), tree[2][1]) & ((1 << width) - 1)
    left, right = evaluate(tree[2], environment), evaluate(tree[3], environment)
    return _binary(operator, width, left, right, tree[2][1], tree[3][1]) & ((1 << width) - 1)


def may_hold(condition: Tree | None, environment: Environment) -> bool:
    """Whether `condition` holds, or depends on a name that `environment` lacks (state that only a running
    CPU has)."""
    if condition is None:
        return True
    try:
        return bool(evaluate(condition, environment))
    except KeyError:
        return True


def _unary(operator: str, width: int, value: int, operand_width: int) -> int:
    match operator:
        case "not":
            return ~value
        case "neg":
            return -value
        case "zext":
            return value
        case "sext":
            return signed(value, operand_width)
        case "clz":
            return operand_width - value.bit_length()
        case "ctz":
            return (value & -value).bit_length() - 1 if value else operand_width
        case "popcount":
            return value.bit_count()
        case "bitreverse":
            return int(format(value, f"0{width}b")[::-1], 2)
        case "byteswap":
            return int.from_bytes(value.to_bytes(width // 8, "little"), "big")
    raise ValueError(f"unknown operator {operator!r}")


def _binary(operator: str, width: int, left: int, right: int, left_width: int, right_width: int) -> int:
    match operator:
        case "add":
            return left + right
        case "sub":
            return left - right
        case "mul":
            return left * right
        case "and":
            return left & right
        case "or":
            return left | right
        case "xor":
            return left ^ right
        case "concat":
            return left << right_width | right
        case "shl":
            return left << right if right < width else 0
        case "lshr":
            return left >> right
        case "ashr":
            return signed(left, width) >> min(right, width)
        case "rotl" | "rotr":
            amount = right % width if operator == "rotl" else -right % width
            return left << amount | left >> (width - amount)
        case "eq":
            return left == right
        case "ne":
            return left != right
        case "ult":
            return left < right
        case "ule":
            return left <= right
        case "slt":
            return signed(left, left_width) < signed(right, right_width)
        case "sle":
            return signed(left, left_width) <= signed(right, right_width)
        case "udiv":
            return left // right if right else -1
        case "urem":
            return left % right if right else left
        case "sdiv" | "srem":
            return _signed_division(operator, signed(left, width), signed(right, width))
    raise ValueError(f"unknown operator {operator!r}")


def _signed_division(operator: str, left: int, right: int) -> int:
    if right == 0:
        return -1 if operator == "sdiv" else left
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if operator == "sdiv" else left - quotient * right


def names(tree: Tree) -> set[str]:
    """The names of all leaves of `tree`."""
    if tree[0] == "field":
        return {tree[2]}
    found: set[str] = set()
    for operand in tree[2:]:
        if isinstance(operand, tuple):
            found |= names(operand)
    return found


def invert(tree: Tree, value: int, known: Environment) -> dict[str, int] | None:
    """Fields that give `tree` the value `value`; None if there are none or the algebra does not reach them.

    `known` holds what is not to be solved for: contexts, pc and next_pc. A field solved twice must agree, bit
    by bit; bits that nothing depends on are 0.
    """
    solution: Solution = {}
    if not _solve(tree, value, known, solution):
        return None
    return {name: bits for name, (bits, _) in solution.items()}


Solution: TypeAlias = dict[str, tuple[int, int]]
"""What is known of fields: bits, and a mask of those that are known."""


def _settle(name: str, value: int, low: int, width: int, solution: Solution) -> bool:
    """Note that `width` bits of a field from `low` on are `value`; False if others are known already."""
    bits, mask = solution.get(name, (0, 0))
    new = (1 << width) - 1 << low
    if (bits ^ value << low) & mask & new:
        return False
    solution[name] = bits | value << low, mask | new
    return True


def _solve(tree: Tree, value: int, known: Environment, solution: Solution) -> bool:
    operator: str = tree[0]
    width: int = tree[1]
    if not 0 <= value < 1 << width:
        return False
    if operator == "field" and tree[2] not in known:
        return _settle(tree[2], value, 0, width, solution)
    if operator == "slice" and tree[2][0] == "field" and tree[2][2] not in known:
        return _settle(tree[2][2], value, int(tree[3]), width, solution)
    if not names(tree) - known.keys():
        return evaluate(tree, known) == value
    if operator == "zext":
        return _solve(tree[2], value, known, solution)
    if operator == "sext":
        narrow = value & ((1 << tree[2][1]) - 1)
        return signed(narrow, tree[2][1]) & ((1 << width) - 1) == value and _solve(
            tree[2], narrow, known, solution
        )
    if operator == "concat":
        low = tree[3][1]
        return _solve(tree[2], value >> low, known, solution) and _solve(
            tree[3], value & ((1 << low) - 1), known, solution
        )
    if operator in ("not", "neg"):
        return _solve(
            tree[2], (~value if operator == "not" else -value) & ((1 << width) - 1), known, solution
        )
    if operator == "slice" and tree[3] == 0:
        # the bits above are free: zeros first
        return _solve(tree[2], value, known, solution)
    if operator == "select":
        return _solve_select(tree, value, known, solution)
    if operator == "and" and not names(tree[3]) - known.keys():
        return _solve_masked(tree, value, known, solution)
    if operator == "eq" and value and not names(tree[3]) - known.keys():
        return _solve(tree[2], evaluate(tree[3], known), known, solution)
    if operator in ("add", "sub", "xor", "shl"):
        return _solve_binary(tree, value, known, solution)
    return False


def _solve_select(tree: Tree, value: int, known: Environment, solution: Solution) -> bool:
    for wanted, arm in ((1, tree[3]), (0, tree[4])):
        attempt = dict(solution)
        if not _solve(arm, value, known, attempt):
            continue
        try:
            settled = {name: bits for name, (bits, _) in attempt.items()}
            holds = evaluate(tree[2], {**known, **settled}) == wanted
        except KeyError:
            holds = _solve(tree[2], wanted, known, attempt)
        if holds:
            solution.update(attempt)
            return True
    return False


def _solve_masked(tree: Tree, value: int, known: Environment, solution: Solution) -> bool:
    """Arithmetic that wraps at a number of low bits: what it was before is the value itself, or negative."""
    width, mask = tree[1], evaluate(tree[3], known)
    if mask & (mask + 1) or value & ~mask:
        return False
    for candidate in (value, (value - mask - 1) & ((1 << width) - 1), value + mask + 1):
        attempt = dict(solution)
        if _solve(tree[2], candidate, known, attempt):
            solution.update(attempt)
            return True
    return False


def _solve_binary(tree: Tree, value: int, known: Environment, solution: Solution) -> bool:
    operator, width, left, right = tree
    mask = (1 << width) - 1
    right_known = not names(right) - known.keys()
    if operator == "shl":
        if not right_known:
            return False
        amount = evaluate(right, known)
        return value >> amount << amount == value and _solve(left, value >> amount, known, solution)
    if not right_known:
        if names(left) - known.keys():
            return False
        fixed = evaluate(left, known)
        rest = {"add": value - fixed, "sub": fixed - value, "xor": value ^ fixed}[operator]
        return _solve(right, rest & mask, known, solution)
    fixed = evaluate(right, known)
    rest = {"add": value - fixed, "sub": value + fixed, "xor": value ^ fixed}[operator]
    return _solve(left, rest & mask, known, solution)
