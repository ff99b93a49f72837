"""Pictures: elements to pieces, and what is known of every field that they place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from generator.ir.lower.body import Body
from generator.ir.lower.report import Mistake, plural
from generator.ir.lower.scope import Column, Number, Scope
from generator.language import syntax as s
from generator.language.source import Pos
from generator.model.target import Piece


@dataclass
class PlacedField:
    """A name in a picture. `width` is the field's own; `places`: (highest, lowest) bit of the field, from the
    top of the
    picture on, with the position behind the piece counted from the picture's start."""

    name: str
    at: Pos
    width: int
    reference: s.OperandRef | s.Expr | None
    places: list[tuple[int, int, int]] = field(default_factory=list)
    appended: bool = False


@dataclass
class Layout:
    """A picture's pieces before and behind `+`, and its fields in order."""

    pieces: list[Piece] = field(default_factory=list)
    appended: list[Piece] = field(default_factory=list)
    fields: dict[str, PlacedField] = field(default_factory=dict)
    no_prefix: bool = False
    prefixes: dict[str, int] = field(default_factory=dict)
    """Numbers of this row that are mandatory prefixes, by name: ``p:prefix``; 0 is none, as `NP`."""

    @property
    def width(self) -> int:
        return sum(p.width for p in self.pieces)


class WidthsOfFields(Protocol):
    """Finds how wide a field is that a picture names; `operands.OperandClasses` is it."""

    def reference_width(self, reference: s.OperandRef, scope: Scope) -> int:
        """The bits of an operand class. Raises Mistake if there is none of this name."""

    def known(self, name: str) -> bool:
        """Whether an operand class (or enum) of this name exists."""


def lay_out(
    picture: s.Picture,
    scope: Scope,
    classes: WidthsOfFields,
    body: Body,
    prefix: str,
    bare_width: int | None = None,
) -> Layout:
    """The layout of `picture`. Names of pieces get `prefix` (the operand's path and a dot).

    `bare_width`: a lone name without a reference takes up all of these bits (a case that is just a name).
    """
    layout = Layout()
    constants: dict[str, tuple[int, int | None]] = {}
    for element in picture.elements:
        if is_prefix(element):
            _prefix(element, layout, scope, body)
        elif isinstance(element, s.PicField):
            constant = _constant(element, scope, body)
            if constant is not None:
                constants[element.name] = constant
    for name, placed in _fields(picture, constants, scope, classes, body).items():
        layout.fields[name] = placed
    target = layout.pieces
    position = 0
    for element in picture.elements:
        match element:
            case s.PicNoPrefix():
                layout.no_prefix = True
                continue
            case s.PicField(name=name) if name in layout.prefixes:
                if not layout.prefixes[name]:
                    layout.no_prefix = True
                    continue
                target.append(Piece(kind="fixed", width=8, value=layout.prefixes[name]))
            case s.PicAppended():
                if target is layout.pieces:
                    target, position = layout.appended, 0
                continue
            case s.PicFixed(width=width, value=value):
                target.append(Piece(kind="fixed", width=width, value=value))
            case s.PicIgnored(width=width, value=value):
                if value and (prefix or target is layout.appended):
                    raise Mistake(element.at, "in operands ignored bits are written as 0", "write `-`")
                target.append(Piece(kind="ignored", width=width, value=value))
            case s.PicField(name=name) if name in constants:
                _fixed_field(element, constants[name], target, scope, body)
            case s.PicField(name=name):
                placed = layout.fields[name]
                placed.appended = placed.appended or target is layout.appended
                for high, low in _slices(element, placed.width):
                    target.append(
                        Piece(kind="field", width=high - low + 1, name=prefix + name, high=high, low=low)
                    )
                    position += high - low + 1
                    placed.places.append((high, low, position))
                continue
        position += target[-1].width
    _check_bits(layout)
    return layout


def is_prefix(element: s.PicElement) -> bool:
    """Whether a picture's element is a mandatory prefix that the row names: ``p:prefix``."""
    return (
        isinstance(element, s.PicField)
        and isinstance(element.reference, s.OperandRef)
        and element.reference.name == "prefix"
    )


def _prefix(element: s.PicElement, layout: Layout, scope: Scope, body: Body) -> None:
    assert isinstance(element, s.PicField)
    found = scope.find(element.name)
    value = body.constants.value(s.Name(element.at, element.name), scope) if found is not None else None
    if value is None or not 0 <= value <= 0xFF:
        raise Mistake(
            element.at, f"`{element.name}` is no prefix in this row", "a byte, or 0 where there is none"
        )
    layout.prefixes[element.name] = value


def _constant(element: s.PicField, scope: Scope, body: Body) -> tuple[int, int | None] | None:
    """A name that stands for a number in this row: (value, width of its digits)."""
    if isinstance(element.reference, s.OperandRef):
        return None
    found = scope.find(element.name)
    if isinstance(found, Number):
        return found.value, found.digits
    if isinstance(found, Column):
        value = body.constants.value(found.expression, scope)
        if value is None:
            raise Mistake(
                element.at,
                f"the column `{element.name}` is no number in this row",
                related=((found.expression.at, "its value"),),
            )
        return value, body.constants.digits(found.expression, scope)
    return None


def _named_by_column(reference: s.OperandRef, scope: Scope) -> s.OperandRef:
    """The class that a column of this row names, where `reference` is a column."""
    found = scope.find(reference.name)
    if isinstance(found, Column) and isinstance(found.expression, s.Name):
        generics = found.expression.generics or reference.generics
        return s.OperandRef(found.expression.at, found.expression.name, generics)
    return reference


def _fields(
    picture: s.Picture,
    constants: dict[str, tuple[int, int | None]],
    scope: Scope,
    classes: WidthsOfFields,
    body: Body,
) -> dict[str, PlacedField]:
    elements: dict[str, list[s.PicField]] = {}
    for element in picture.elements:
        if isinstance(element, s.PicField) and element.name not in constants and not is_prefix(element):
            elements.setdefault(element.name, []).append(element)
    result: dict[str, PlacedField] = {}
    for name, parts in elements.items():
        references = [p.reference for p in parts if p.reference is not None]
        if len(references) > 1 and not all(isinstance(r, s.Number) for r in references):
            raise Mistake(parts[-1].at, f"`{name}` has its class twice", "give it in one of the places")
        reference: s.OperandRef | s.Expr | None = references[0] if references else None
        if reference is None and classes.known(name):
            reference = s.OperandRef(parts[0].at, name, ())
        if isinstance(reference, s.OperandRef):
            reference = _named_by_column(reference, scope)
            width = classes.reference_width(reference, scope)
        elif reference is not None:
            width = body.widths.require_const(reference, scope, "a field's width")
            if width < 1:
                raise Mistake(reference.at, f"a field of {width} bits")
        else:
            slices = [b for p in parts for b in p.slices]
            if not slices:
                raise Mistake(
                    parts[0].at,
                    f"how many bits has `{name}`?",
                    f"{name}:5, or the name of an operand class: {name}:reg",
                )
            width = max(max(pair) for pair in slices) + 1
        result[name] = PlacedField(name, parts[0].at, width, reference)
    return result


def _slices(element: s.PicField, width: int) -> list[tuple[int, int]]:
    """(high, low) of each slice, numbered from the least significant bit."""
    if not element.slices:
        return [(width - 1, 0)]
    result: list[tuple[int, int]] = []
    for first, last in element.slices:
        high, low = (width - 1 - first, width - 1 - last) if element.at.source.msb0 else (first, last)
        if high < low:
            raise Mistake(element.at, f"the slice {first}:{last} is upside down", f"write {last}:{first}")
        if low < 0 or high >= width:
            raise Mistake(
                element.at, f"`{element.name}` has {plural(width, 'bit')}: {first}:{last} leaves it"
            )
        result.append((high, low))
    return result


def _fixed_field(
    element: s.PicField, constant: tuple[int, int | None], target: list[Piece], scope: Scope, body: Body
) -> None:
    """A number of the row, as fixed bits."""
    value, digits = constant
    assert not isinstance(element.reference, s.OperandRef)
    width = (
        body.widths.require_const(element.reference, scope, "a field's width")
        if element.reference is not None
        else None
    )
    if element.slices:
        whole = width or max(digits or 0, max(max(pair) for pair in element.slices) + 1)
        for high, low in _slices(element, whole):
            target.append(
                Piece(kind="fixed", width=high - low + 1, value=value >> low & ((1 << (high - low + 1)) - 1))
            )
        return
    if width is None:
        width = digits if digits is not None else 1
        if digits is None and value not in (0, 1):
            raise Mistake(element.at, f"how many bits has `{element.name}`?", f"{element.name}:5")
    if not 0 <= value < 1 << width:
        raise Mistake(
            element.at,
            f"`{element.name}` is {value} in this row, which does not fit in {plural(width, 'bit')}",
        )
    target.append(Piece(kind="fixed", width=width, value=value))


def _check_bits(layout: Layout) -> None:
    for placed in layout.fields.values():
        used = 0
        for high, low, _ in placed.places:
            bits = (1 << (high + 1)) - (1 << low)
            if used & bits:
                raise Mistake(
                    placed.at, f"a bit of `{placed.name}` is placed twice", "each bit has one place"
                )
            used |= bits
