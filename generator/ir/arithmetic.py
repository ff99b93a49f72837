"""What the IR's operators compute, on Python integers: the definition that folding and the evaluator share.

Every value is an unsigned integer below ``2**width``; widths are in bits. Everything is total
(docs/language.md, "Behaviour"): nothing here raises for values in range.
"""

from __future__ import annotations

from functools import cache


def mask(width: int) -> int:
    """The largest value of `width` bits."""
    return (1 << width) - 1


def signed(width: int, value: int) -> int:
    """`value` as a two's complement number of `width` bits."""
    return value - (1 << width) if value >> (width - 1) else value


def divide_unsigned(width: int, dividend: int, divisor: int) -> tuple[int, int]:
    """Quotient and remainder; by 0 all ones and the dividend."""
    if divisor == 0:
        return mask(width), dividend
    return divmod(dividend, divisor)


def divide_signed(width: int, dividend: int, divisor: int) -> tuple[int, int]:
    """Quotient rounded to zero and the remainder, which has the dividend's sign; by 0: -1 and the dividend.

    The most negative number by -1 wraps to itself, with remainder 0.
    """
    if divisor == 0:
        return mask(width), dividend
    a, b = signed(width, dividend), signed(width, divisor)
    quotient = abs(a) // abs(b)
    if (a < 0) != (b < 0):
        quotient = -quotient
    return quotient & mask(width), (a - quotient * b) & mask(width)


COMPARISONS = frozenset(("eq", "ne", "ult", "ule", "slt", "sle"))


@cache
def lane_op(op: str) -> tuple[str, int]:
    """An operator and the width of its lanes, e.g. ``("add", 8)`` for ``add.8``; 0: it has none."""
    base, dot, lane = op.partition(".")
    return base, int(lane) if dot else 0


def lanes(width: int, value: int, count: int) -> list[int]:
    """The `count` equal parts of a value of `width` bits, the lowest first."""
    lane = width // count
    return [value >> position * lane & mask(lane) for position in range(count)]


def joined(width: int, parts: list[int]) -> int:
    """The concatenation of parts of `width` bits each, the lowest first."""
    return sum(part << position * width for position, part in enumerate(parts))


def index_width(width: int, lane: int) -> int:
    """The bits of a number of a lane, where `width` bits are a power of two of lanes."""
    return (width // lane).bit_length() - 1


def binary_width(op: str, left: int, right: int) -> int:
    """The width of the result of `op` of `nodes.Binary` on operands of these widths."""
    base, lane = lane_op(op)
    if base == "concat":
        return left + right
    if base == "permute":
        return right // index_width(left, lane) * lane
    if base in COMPARISONS:
        return left // lane if lane else 1
    return left


def unary(op: str, width: int, operand_width: int, value: int) -> int:
    """`op` of `nodes.Unary` on an operand of `operand_width` bits, as a result of `width` bits."""
    base, lane = lane_op(op)
    if base == "splat":
        return joined(lane, [value] * (width // lane))
    if lane:
        count = operand_width // lane
        inner = width // count
        parts = [unary(base, inner, lane, part) for part in lanes(operand_width, value, count)]
        return joined(inner, parts)
    match op:
        case "not":
            return value ^ mask(width)
        case "neg":
            return -value & mask(width)
        case "zext":
            return value
        case "sext":
            return signed(operand_width, value) & mask(width)
        case "trunc":
            return value & mask(width)
        case "clz":
            return operand_width - value.bit_length()
        case "ctz":
            return operand_width if value == 0 else (value & -value).bit_length() - 1
        case "popcount":
            return value.bit_count()
        case "bitreverse":
            return int(f"{value:0{operand_width}b}"[::-1], 2)
        case "byteswap":
            return int.from_bytes(value.to_bytes(operand_width // 8, "little"), "big")
    raise ValueError(f"unary operator {op!r}")


def binary(op: str, width: int, left: int, right: int, right_width: int) -> int:
    """`op` of `nodes.Binary`; `width` is the left operand's.

    That is the result's width, too, but for comparisons, which give 0 or 1, and `concat`.
    """
    base, lane = lane_op(op)
    if base == "permute":
        bits = index_width(width, lane)
        choices = lanes(right_width, right, right_width // bits)
        return joined(lane, [left >> choice * lane & mask(lane) for choice in choices])
    if lane:
        count = width // lane
        other = right_width // count
        pairs = zip(lanes(width, left, count), lanes(right_width, right, count), strict=True)
        parts = [binary(base, lane, one, two, other) for one, two in pairs]
        return joined(binary_width(base, lane, other), parts)
    match op:
        case "add":
            return (left + right) & mask(width)
        case "sub":
            return (left - right) & mask(width)
        case "mul":
            return (left * right) & mask(width)
        case "and":
            return left & right
        case "or":
            return left | right
        case "xor":
            return left ^ right
        case "udiv":
            return divide_unsigned(width, left, right)[0]
        case "urem":
            return divide_unsigned(width, left, right)[1]
        case "sdiv":
            return divide_signed(width, left, right)[0]
        case "srem":
            return divide_signed(width, left, right)[1]
        case "shl":
            return (left << right) & mask(width) if right < width else 0
        case "lshr":
            return left >> right if right < width else 0
        case "ashr":
            return (signed(width, left) >> min(right, width)) & mask(width)
        case "rotl":
            amount = right % width
            return (left << amount | left >> (width - amount)) & mask(width)
        case "rotr":
            amount = right % width
            return (left >> amount | left << (width - amount)) & mask(width)
        case "eq":
            return int(left == right)
        case "ne":
            return int(left != right)
        case "ult":
            return int(left < right)
        case "ule":
            return int(left <= right)
        case "slt":
            return int(signed(width, left) < signed(width, right))
        case "sle":
            return int(signed(width, left) <= signed(width, right))
        case "concat":
            return left << right_width | right
    raise ValueError(f"binary operator {op!r}")
