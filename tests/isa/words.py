"""Random instruction words of a form, and operand values that find mistakes: for tests against peers."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol, Self, TypeVar

from generator.ir.nodes import Block
from generator.model.target import Form

Places = dict[str, list[tuple[int, int]]]
"""Field or operand -> (bit in the word, bit in the field), for families of 32-bit words."""


class Comparable(Protocol):
    """A case of a peer, which can say how it differs from another."""

    word: int

    def compare(self, other: Self) -> list[str]: ...


C = TypeVar("C", bound=Comparable)


def sample(
    forms: Iterable[Form], each: int, attempt: Callable[[Form, bool, int], tuple[C, C] | None]
) -> list[tuple[str, C, C]]:
    """Up to `each` cases of each form: its name, a case, and the evaluator's result. `attempt` makes these
    two (None: try again) for a form, whether it goes to memory, and the case's number.
    """
    found: list[tuple[str, C, C]] = []
    for form in forms:
        kinds = set().union(*(statements(variant.body) for variant in form.variants))
        begin = len(found)
        for _ in range(each * 20):
            case = attempt(form, bool(kinds & {"Load", "Store"}), len(found))
            if case is not None:
                found.append((form.name, *case))
            if len(found) - begin == each:
                break
    return found


def disagreements(found: list[tuple[str, C, C]], answers: Iterable[C]) -> list[str]:
    """Where a peer's results differ."""
    return [
        f"{form} {mine.word:#010x}: {'; '.join(differences)}"
        for (form, _, mine), its in zip(found, answers, strict=True)
        if (differences := mine.compare(its))
    ]


def layout(form: Form) -> tuple[int, int, Places]:
    """The form's fixed bits, the mask of these and of the ignored ones, and where its fields lie."""
    position, pattern, mask = 32, 0, 0
    places: Places = defaultdict(list)
    for piece in form.picture:
        position -= piece.width
        if piece.kind == "field":
            places[piece.name] += [(position + k, piece.low + k) for k in range(piece.width)]
            continue
        mask |= (1 << piece.width) - 1 << position
        pattern |= piece.value << position
    return pattern, mask, places


def put(word: int, places: list[tuple[int, int]], value: int) -> int:
    """`word` with a field set to `value`."""
    for place, bit in places:
        word = word & ~(1 << place) | (value >> bit & 1) << place
    return word


def statements(block: Block) -> set[str]:
    """The names of the kinds of statement in a behaviour."""
    found: set[str] = set()
    for statement in block:
        found.add(type(statement).__name__)
        for part in ("then", "otherwise", "body"):
            found |= statements(getattr(statement, part, ()))
    return found


def corner(rng: random.Random, width: int) -> int:
    """A value of `width` bits: often at an edge, small, or sparse."""
    ones = (1 << width) - 1
    high = 1 << width - 1
    edges = [0, 1, 2, 31, 32, 63, 64, 0x7FFF_FFFF, 0x8000_0000, high - 1, high, ones - 1, ones]
    match rng.randrange(6):
        case 0 | 1:
            return rng.choice(edges) & ones
        case 2:
            return rng.getrandbits(width) & rng.getrandbits(width)
        case 3:
            return -rng.getrandbits(rng.randrange(1, width + 1)) & ones
        case 4:
            return rng.getrandbits(rng.randrange(1, width + 1))
        case _:
            return rng.getrandbits(width)
