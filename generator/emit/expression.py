"""IR expressions as Python text over the primitives of `runtime.cpu.primitives`.

A value of up to 64 bits is a Python (numba int64) integer, zero-extended from its width; wider ones are
tuples of 64-bit parts (`runtime.cpu.wide`). Text is *loose* where only the low bits, as many as the width,
are right: arithmetic is done loosely and cut where it matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from generator.emit.layout import Layout
from generator.ir import nodes
from generator.ir.arithmetic import lane_op
from generator.ir.effects import FEATURES, RETIRED
from generator.ir.executor import Slot
from generator.ir.nodes import Const, Expr

LINE = 110
"""Longest line of generated Python."""
LONG = 52
"""Longer operands get a variable of their own."""
LONG_CALL = 80
"""The arguments of longer calls do, the longest first."""

# Precedences of Python's operators.
_COMPARE, _OR, _XOR, _AND, _SHIFT, _SUM, _PRODUCT, _UNARY, _ATOM = range(1, 10)

_ARITHMETIC = {"add": ("+", _SUM), "sub": ("-", _SUM), "mul": ("*", _PRODUCT)}
_BITWISE = {"and": ("&", _AND), "or": ("|", _OR), "xor": ("^", _XOR)}
_RELATIONS = {"eq": "==", "ne": "!=", "ult": "<", "ule": "<=", "slt": "<", "sle": "<="}


class NotYetError(Exception):
    """An operation that executors cannot do yet; the message says which."""


class Text(NamedTuple):
    """Python text, the precedence of its outermost operator, and whether all its bits are right."""

    text: str
    precedence: int = _ATOM
    tight: bool = True


def size_of(width: int) -> int:
    """The size of the values that hold `width` bits: 64, 128, 256 or 512."""
    for size in (64, 128, 256, 512):
        if width <= size:
            return size
    raise NotYetError(f"a value of {width} bits (512 is the most)")


def mask(width: int) -> int:
    """The largest number of `width` bits."""
    return (1 << width) - 1


def number(value: int) -> str:
    """A 64-bit constant: masks and addresses in hexadecimal; the top half as negative numbers."""
    if value >= 1 << 63:
        value -= 1 << 64
    if abs(value) < 1024:
        return str(value)
    return f"-0x{-value:X}" if value < 0 else f"0x{value:X}"


class Writer:
    """Writes expressions of one function; `spill` adds a line that names an intermediate value."""

    def __init__(
        self,
        layout: Layout,
        slots: tuple[Slot, ...],
        constants: dict[str, int],
        names: Callable[[str], str],
        widths: dict[str, int],
    ) -> None:
        self._layout = layout
        self._slots = slots
        self._constants = constants  # of the module: filled with the registers' offsets as they are used
        self._names = names
        self._widths = widths  # of registers, as stored
        self.primitives: set[str] = set()
        self.lines: list[str] = []
        self.indent = 1
        self._spilled = 0

    # --- lines ----------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Add a line at the present indentation."""
        self.lines.append("    " * self.indent + text if text else "")

    def call(self, name: str, *arguments: str) -> str:
        """A call of a primitive."""
        self.primitives.add(name)
        return f"{name}({', '.join(self.fit(name, list(arguments)))})"

    def _spill(self, text: str) -> str:
        self._spilled += 1
        name = f"t{self._spilled}"
        self.line(f"{name} = {bare(text)}")
        return name

    def _short(self, text: Text) -> Text:
        if len(text.text) <= LONG:
            return text
        return Text(self._spill(text.text), _ATOM, text.tight)

    def within(self, text: str, limit: int) -> str:
        """`text`, or a variable that holds it if it is longer than `limit`."""
        return text if len(text) <= limit else self._spill(text)

    # --- values of up to 64 bits ----------------------------------------------------------------------------

    def value(self, expr: Expr) -> str:
        """Text of the value, zero-extended; a tuple of parts where it is wider than 64 bits."""
        return self.wide(expr) if expr.width > 64 else self._tight(expr).text

    def argument(self, expr: Expr) -> str:
        """Text of the value, short enough to stand among other arguments."""
        if expr.width > 64:
            return self._short(Text(self.wide(expr))).text
        return self._short(self._tight(expr)).text

    def _tight(self, expr: Expr) -> Text:
        text = self.loose(expr)
        if text.tight or expr.width >= 64:
            return text
        # Parentheses that Python doesn't need, but readers do.
        return Text(f"{self._operand(text, _UNARY)} & {number(mask(expr.width))}", _AND)

    def _operand(self, text: Text, precedence: int) -> str:
        """`text` as an operand of an operator that binds as tightly as `precedence`."""
        text = self._short(text)
        return text.text if text.precedence >= precedence else f"({text.text})"

    def _infix(self, left: Text, sign: str, right: Text, precedence: int, *, tight: bool) -> Text:
        plain = _UNARY if precedence in (_OR, _XOR, _AND, _SHIFT) else precedence
        first, second = self._operand(left, plain), self._operand(right, max(plain, precedence + 1))
        if len(first) + len(second) > LONG_CALL:
            first = self._spill(first)
        return Text(f"{first} {sign} {second}", precedence, tight)

    def _called(self, name: str, *arguments: Text | str, tight: bool = True) -> Text:
        texts = [a if isinstance(a, str) else self._short(a).text for a in arguments]
        return Text(self.call(name, *texts), _ATOM, tight)

    def fit(self, name: str, texts: list[str]) -> list[str]:
        """Arguments that fit into one line with `name`."""
        while len(name) + sum(len(text) + 2 for text in texts) > LONG_CALL:
            longest = max(range(len(texts)), key=lambda position: len(texts[position]))
            if len(texts[longest]) < 8:
                break
            texts[longest] = self._spill(texts[longest])
        return texts

    def loose(self, expr: Expr) -> Text:
        """Text whose low bits are those of the value."""
        if expr.width > 64:
            raise AssertionError("a wide value where a 64-bit one is expected")
        match expr:
            case Const(value=value):
                return Text(number(value))
            case nodes.Field(width=width, name=name):
                return self._slot(int(name), width)
            case nodes.Context(name=name):
                raise NotYetError(f"the context {name} where the instruction runs")
            case nodes.Local(name=name):
                return Text(self._names(name))
            case nodes.ReadReg():
                return Text(self._register(expr))
            case nodes.Unary():
                return self._unary(expr)
            case nodes.Slice(width=width, operand=operand, low=low):
                return self._slice(width, operand, low)
            case nodes.Binary(op=op, left=left, right=right):
                lanewise = self._lanewise(expr)
                if lanewise is not None:
                    return Text(lanewise)
                if op in _RELATIONS or self._is_logic(expr):
                    return self._called("bit", self.condition(expr))
                return self._binary(op, left, right)
            case nodes.Select(condition=condition, then=then, otherwise=otherwise):
                test, first, second = self.condition(condition), self.loose(then), self.loose(otherwise)
                return self._called("pick", test, first, second, tight=first.tight and second.tight)
        raise NotYetError(f"{type(expr).__name__} in an executor")

    def _slot(self, position: int, width: int) -> Text:
        slot = self._slots[position]
        if slot.kind == "register":
            return self._called("register_offset", "record", str(slot.offset))
        return self._called(slot.storage, "record", str(slot.offset), tight=width == 64)

    def _lanewise(self, expr: nodes.Unary | nodes.Binary) -> str | None:
        """The call for an operator that works lane by lane (`runtime.cpu.lanes`); None for others."""
        op, lane = lane_op(expr.op)
        if not lane:
            return None
        if op == "permute" and isinstance(expr, nodes.Binary):
            name = f"permute{lane}of{expr.left.width // lane}x{expr.width // lane}"
            return self.call(name, self.argument(expr.left), self.argument(expr.right))
        if isinstance(expr, nodes.Binary):
            count = expr.left.width // lane
            other = expr.right.width // count
            name = f"{op}{lane}with{other}x{count}" if op == "concat" else f"{op}{lane}x{count}"
            return self.call(name, self.argument(expr.left), self.argument(expr.right))
        if op == "splat":
            name = f"splat{lane}x{expr.width // lane}"
        else:
            count = expr.operand.width // lane
            name = f"{op}{lane}to{expr.width // count}x{count}"
        return self.call(name, self.argument(expr.operand))

    def _unary(self, expr: nodes.Unary) -> Text:
        operand, width = expr.operand, expr.operand.width
        lanewise = self._lanewise(expr)
        if lanewise is not None:
            return Text(lanewise)
        if width > 64:
            return self._wide_unary(expr)
        match expr.op:
            case "zext":
                return self._tight(operand)
            case "sext":
                return self._called("sext", self.loose(operand), str(width), tight=False)
            case "not" if width == 1:
                if isinstance(operand, nodes.Binary) and operand.op in _RELATIONS:
                    return self._called("bit", self.condition(expr))
                return self._infix(self._tight(operand), "^", Text("1"), _XOR, tight=True)
            case "not":
                return Text(f"~{self._operand(self.loose(operand), _UNARY)}", _UNARY, False)
            case "neg":
                return Text(f"-{self._operand(self.loose(operand), _UNARY)}", _UNARY, False)
            case "clz":
                return self._less(self._called("clz", self._tight(operand)), 64 - width)
            case "ctz" if width == 64:
                return self._called("ctz", self.loose(operand))
            case "ctz":
                guard = Text(number(1 << width))
                return self._called("ctz", self._infix(self.loose(operand), "|", guard, _OR, tight=True))
            case "popcount":
                return self._called("popcount", self._tight(operand))
            case "bitreverse" | "byteswap" as name:
                turned = self._called(name, self.loose(operand))
                return turned if width == 64 else self._called("shr", turned, str(64 - width))
        raise NotYetError(f"the operator {expr.op}")

    def _less(self, text: Text, amount: int) -> Text:
        return text if amount == 0 else self._infix(text, "-", Text(str(amount)), _SUM, tight=True)

    def _slice(self, width: int, operand: Expr, low: int) -> Text:
        if operand.width > 64:
            whole = self._short(Text(self.wide(operand))).text
            size = size_of(operand.width)
            if low:
                whole = self.call(f"shr{size}", whole, str(low))
            return self._called(f"low{size}", whole, tight=low + width == operand.width)
        if low == 0:
            inner = self.loose(operand)
            return Text(inner.text, inner.precedence, inner.tight and operand.width == width)
        return self._right(operand, Text(str(low)), tight=low + width == operand.width)

    def _right(self, value: Expr, amount: Text, *, tight: bool) -> Text:
        """A logical shift by less than 64."""
        if value.width == 64:
            return self._called("shr", self.loose(value), amount, tight=tight)
        return self._infix(self._tight(value), ">>", amount, _SHIFT, tight=tight)

    def _binary(self, op: str, left: Expr, right: Expr) -> Text:
        width = left.width
        if op in _ARITHMETIC:
            sign, precedence = _ARITHMETIC[op]
            return self._infix(self.loose(left), sign, self.loose(right), precedence, tight=False)
        if op in _BITWISE:
            sign, precedence = _BITWISE[op]
            first, second = self.loose(left), self.loose(right)
            either = first.tight or second.tight
            tight = either if op == "and" else first.tight and second.tight
            return self._infix(first, sign, second, precedence, tight=tight)
        match op:
            case "concat":
                upper = self.loose(left)
                shifted = self._infix(upper, "<<", Text(str(right.width)), _SHIFT, tight=upper.tight)
                return self._infix(shifted, "|", self._tight(right), _OR, tight=upper.tight)
            case "shl" | "lshr" | "ashr":
                return self._shift(op, left, right)
            case "rotl" | "rotr":
                amount = self.argument(right)
                if width in (8, 16, 32, 64):
                    return self._called(f"{op}{width}", self.loose(left), amount)
                return self._called(f"{op}_any", self._tight(left), amount, str(width), tight=False)
            case "udiv":
                return self._called("udiv", self._tight(left), self._tight(right), tight=False)
            case "urem":
                return self._called("urem", self._tight(left), self._tight(right))
            case "sdiv" | "srem":
                return self._called(op, self._signed(left), self._signed(right), tight=False)
        raise NotYetError(f"the operator {op}")

    def _shift(self, op: str, left: Expr, right: Expr) -> Text:
        if right.width > 64:
            raise NotYetError("a shift by an amount of more than 64 bits")
        small = _largest(right) < 64
        amount = self._tight(right)
        if op == "shl":
            if small:
                return self._infix(self.loose(left), "<<", amount, _SHIFT, tight=False)
            return self._called("shl", self.loose(left), amount, tight=False)
        if op == "lshr":
            if small:
                return self._right(left, amount, tight=True)
            return self._called("shr", self._tight(left), amount)
        value = self._signed(left)
        if small:
            return self._infix(value, ">>", amount, _SHIFT, tight=False)
        return self._called("sar", value, amount, tight=False)

    def _signed(self, expr: Expr) -> Text:
        """The value as a signed 64-bit number."""
        if expr.width == 64:
            return self.loose(expr)
        if isinstance(expr, Const):
            value = expr.value
            return Text(str(value - (1 << expr.width) if value >> (expr.width - 1) else value))
        return self._called("sext", self.loose(expr), str(expr.width))

    # --- registers ------------------------------------------------------------------------------------------

    def place(self, name: str, index: Expr | None) -> str:
        """The byte offset of a register, or of a file's entry."""
        field = self._layout.field(name)
        constant = re_name(name)
        self._constants[constant] = field.offset
        if index is None:
            return constant
        if isinstance(index, Const):
            return constant if index.value == 0 else f"{constant} + {field.stride * index.value}"
        entry = self._operand(self._tight(index), _SHIFT)
        return f"{constant} + ({entry} << {3 if field.stride == 8 else 4})"

    def _register(self, expr: nodes.ReadReg) -> str:
        wide = "wide_" if expr.width > 64 else ""
        if expr.register == "pc":
            return self.call("program_counter", "cpu")
        if expr.register == RETIRED:
            return self.call("retired", "cpu")
        if expr.register == FEATURES:
            return self.call("features", "cpu")
        if expr.register == "":
            assert isinstance(expr.index, nodes.Field)
            slot = self._slots[int(expr.index.name)]
            return self.call(f"{wide}register", "cpu", "record", str(slot.offset))
        return self.call(f"{wide}state", "cpu", self.place(expr.register, expr.index))

    # --- conditions -----------------------------------------------------------------------------------------

    @staticmethod
    def _is_logic(expr: Expr) -> bool:
        """Whether a 1-bit expression is best computed from truth values."""
        return (
            isinstance(expr, nodes.Binary)
            and expr.width == 1
            and expr.op in ("and", "or")
            and any(Writer._is_truth(part) for part in (expr.left, expr.right))
        )

    @staticmethod
    def _is_truth(expr: Expr) -> bool:
        match expr:
            case nodes.Unary(op="not", width=1, operand=operand):
                return Writer._is_truth(operand)
            case nodes.Binary(op=op):
                return op in _RELATIONS or Writer._is_logic(expr)
        return False

    def condition(self, expr: Expr) -> str:
        """Text of a truth value, for `if` and `pick`."""
        return self._short(self._truth(expr)).text

    def _truth(self, expr: Expr) -> Text:
        match expr:
            case Const(value=value):
                return Text("True" if value else "False")
            case nodes.Unary(op="not", width=1, operand=operand):
                if self._is_truth(operand):
                    return Text(f"not {self._operand(self._truth(operand), _COMPARE)}", 0)
                return self._zero(operand, "==")
            case nodes.Binary(op=op, left=left, right=right) if op in _RELATIONS:
                return self._relation(op, left, right)
            case nodes.Binary(op=op, left=left, right=right) if self._is_logic(expr):
                sign, precedence = _BITWISE[op]
                first, second = self._truth(left), self._truth(right)
                return self._infix(first, sign, second, precedence, tight=True)
        return self._zero(expr, "!=")

    def _zero(self, expr: Expr, sign: str) -> Text:
        return Text(f"{self._operand(self._tight(expr), _SUM)} {sign} 0", _COMPARE)

    def _relation(self, op: str, left: Expr, right: Expr) -> Text:
        if left.width > 64:
            return self._wide_relation(op, left, right)
        if op in ("ult", "ule") and left.width == 64:
            return self._called(op, self.loose(left), self.loose(right))
        if op in ("slt", "sle"):
            first, second = self._signed(left), self._signed(right)
        else:
            first, second = self._tight(left), self._tight(right)
        # Comparisons chain in Python, so operands of one bind tighter.
        left_text, right_text = self._operand(first, _SUM), self._operand(second, _SUM)
        return Text(f"{left_text} {_RELATIONS[op]} {right_text}", _COMPARE)

    # --- wide values ----------------------------------------------------------------------------------------

    def wide(self, expr: Expr) -> str:
        """Text of a value of more than 64 bits: a tuple of two, four or eight parts."""
        width, size = expr.width, size_of(expr.width)
        if isinstance(expr, nodes.Unary | nodes.Binary):
            lanewise = self._lanewise(expr)
            if lanewise is not None:
                return lanewise
        match expr:
            case Const(value=value):
                return self._wide_constant(value, size)
            case nodes.Local(name=name):
                return self._names(name)
            case nodes.ReadReg():
                return self._register(expr)
            case nodes.Unary(op="zext", operand=operand):
                return self._widened(operand, size)
            case nodes.Unary(op="sext", operand=operand):
                extended = self.call(f"sext{size}", self._widened(operand, size), str(operand.width))
                return self._cut(extended, width)
            case nodes.Unary(op="not", operand=operand):
                ones = self._wide_constant(mask(width), size)
                return self.call(f"xor{size}", self._part(operand), ones)
            case nodes.Unary(op="neg", operand=operand):
                zero = self._wide_constant(0, size)
                return self._cut(self.call(f"sub{size}", zero, self._part(operand)), width)
            case nodes.Unary(op="clz" | "ctz" | "popcount"):
                return self.call(f"widen{size}", self._short(self._wide_unary(expr)).text)
            case nodes.Slice(operand=operand, low=low):
                whole, have = self._part(operand), size_of(operand.width)
                if low:
                    whole = self.call(f"shr{have}", whole, str(low))
                while have > size:
                    whole = self.call(f"half{have}", whole)
                    have //= 2
                return whole if low + width == operand.width else self._cut(whole, width)
            case nodes.Binary(op=op, left=left, right=right):
                return self._wide_binary(op, left, right, width)
            case nodes.Select(condition=condition, then=then, otherwise=otherwise):
                test = self.condition(condition)
                return self.call(f"pick{size}", test, self._part(then), self._part(otherwise))
        raise NotYetError(f"{width} bits of {type(expr).__name__} {getattr(expr, 'op', '')}".rstrip())

    def _wide_binary(self, op: str, left: Expr, right: Expr, width: int) -> str:
        size = size_of(width)
        if op in ("add", "sub", "mul"):
            return self._cut(self.call(f"{op}{size}", self._part(left), self._part(right)), width)
        if op in ("and", "or", "xor"):
            return self.call(f"{op}{size}", self._part(left), self._part(right))
        if op == "concat":
            low = self._short(Text(self._widened(right, size))).text
            high = self._short(Text(self._widened(left, size))).text
            return self.call(f"or{size}", self.call(f"shl{size}", high, str(right.width)), low)
        if op in ("shl", "lshr", "ashr"):
            value, amount = self._part(left), self.argument(right)
            if op == "lshr":
                return self.call(f"shr{size}", value, amount)
            if op == "ashr":
                signed = value if width == size else self.call(f"sext{size}", value, str(width))
                return self._cut(self.call(f"sar{size}", signed, amount), width)
            return self._cut(self.call(f"shl{size}", value, amount), width)
        if op in ("rotl", "rotr"):
            value, amount = self._part(left), self.argument(right)
            return self.call(f"{op}{size}", value, amount, str(width))
        if op in ("udiv", "urem", "sdiv", "srem") and size == 128:
            first, second = self._part(left), self._part(right)
            if op[0] == "s" and width < size:
                first = self.call(f"sext{size}", first, str(width))
                second = self.call(f"sext{size}", second, str(width))
            return self._cut(self.call(f"{op}{size}", first, second), width)
        raise NotYetError(f"{op} of {width} bits")

    def _part(self, expr: Expr) -> str:
        return self._short(Text(self.wide(expr))).text

    def _cut(self, text: str, width: int) -> str:
        size = size_of(width)
        return text if width == size else self.call(f"cut{size}", text, str(width))

    def _widened(self, expr: Expr, size: int) -> str:
        """A value of any smaller width, zero-extended to `size`."""
        if expr.width <= 64:
            return self.call(f"widen{size}", self.argument(expr))
        text, have = self._part(expr), size_of(expr.width)
        while have < size:
            text = self.call("huge" if have == 128 else "giant", text, self._wide_constant(0, have))
            have *= 2
        return text

    def _wide_constant(self, value: int, size: int) -> str:
        parts = [number(value >> position & mask(64)) for position in range(0, size, 64)]
        for name in ("wide", "huge", "giant"):
            parts = [self.call(name, *parts[position : position + 2]) for position in range(0, len(parts), 2)]
            if len(parts) == 1:
                break
        return parts[0]

    def _wide_unary(self, expr: nodes.Unary) -> Text:
        """Operators with a narrow result on a wide operand."""
        operand, width = expr.operand, expr.operand.width
        size = size_of(width)
        match expr.op:
            case "clz":
                return self._less(self._called(f"clz{size}", self._part(operand)), size - width)
            case "ctz" if width < size:
                guard = self._wide_constant(1 << width, size)
                return self._called(f"ctz{size}", self.call(f"or{size}", self._part(operand), guard))
            case "ctz" | "popcount":
                return self._called(f"{expr.op}{size}", self._part(operand))
        raise NotYetError(f"{expr.op} from {width} to {expr.width} bits")

    def _wide_relation(self, op: str, left: Expr, right: Expr) -> Text:
        width = left.width
        size = size_of(width)
        first, second = self._part(left), self._part(right)
        if op == "ne":
            return Text(f"not {self.call(f'eq{size}', first, second)}", 0)
        if op in ("slt", "sle") and width < size:
            first = self.call(f"sext{size}", first, str(width))
            second = self.call(f"sext{size}", second, str(width))
        return Text(self.call(f"{op}{size}", first, second))


def bare(text: str) -> str:
    """`text` without parentheses around all of it."""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and position < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") else text


def re_name(register: str) -> str:
    """The name of the constant that holds a register's offset."""
    return register.upper()


def _largest(expr: Expr) -> int:
    """A bound of the value."""
    match expr:
        case Const(value=value):
            return value
        case nodes.Unary(op="zext", operand=operand):
            return _largest(operand)
        case nodes.Binary(op="and", left=left, right=right):
            return min(_largest(left), _largest(right))
        case nodes.Binary(op="urem", right=Const(value=value)) if value:
            return value - 1
    return mask(expr.width)
