"""Random instruction words of a form, and operand values that find mistakes: for tests against peers."""

from __future__ import annotations

import random
from collections import defaultdict

from generator.ir.nodes import Block
from generator.model.target import Form

Places = dict[str, list[tuple[int, int]]]
"""Field or operand -> (bit in the word, bit in the field), for families of 32-bit words."""


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
