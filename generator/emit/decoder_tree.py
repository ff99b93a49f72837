"""Decision trees over the fixed bits of encodings: which programs to try for a given instruction.

Nodes look at a few bits of one unit that every encoding below them has; leaves list what is left, in the
order of preference. The shape only affects speed: programs check their fixed bits themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Final, TypeAlias

MAXIMUM_BITS: Final = 9
ENOUGH: Final = 2
"""Leaves with this many candidates aren't split."""
MAXIMUM_GROWTH: Final = 1.5
"""A split over bits that some candidates don't fix copies these; not if that makes more than this times as
many.
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoding: for each unit at a fixed place, the fixed bits' mask and value; and its program's
    position.
    """

    units: tuple[tuple[int, int], ...]
    program: int


@dataclass(frozen=True, slots=True)
class TreeLeaf:
    """Programs to try in turn."""

    programs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TreeNode:
    """Look at `bits` bits of unit `unit` from bit `shift` up; a child for each value."""

    unit: int
    shift: int
    bits: int
    children: tuple[Tree, ...]


Tree: TypeAlias = TreeLeaf | TreeNode


def build(candidates: Sequence[Candidate], unit_bits: int) -> Tree:
    """A tree for `candidates`, which are in the order of preference."""
    return _build(tuple(candidates), unit_bits, {})


def _build(candidates: tuple[Candidate, ...], unit_bits: int, seen: dict[int, int]) -> Tree:
    """`seen`: for each unit, the bits that were looked at on the way here."""
    if len(candidates) <= ENOUGH:
        return TreeLeaf(tuple(c.program for c in candidates))
    window = _choose(candidates, unit_bits, seen)
    if window is None:
        return TreeLeaf(tuple(c.program for c in candidates))
    unit, shift, bits = window
    children = []
    below = {**seen, unit: seen.get(unit, 0) | ((1 << bits) - 1) << shift}
    buckets = _split(candidates, unit, shift, bits)
    made: dict[tuple[Candidate, ...], Tree] = {}
    for bucket in buckets:
        key = tuple(bucket)
        if key not in made:
            made[key] = _build(key, unit_bits, below)
        children.append(made[key])
    return TreeNode(unit, shift, bits, tuple(children))


def _choose(
    candidates: tuple[Candidate, ...], unit_bits: int, seen: dict[int, int]
) -> tuple[int, int, int] | None:
    """The bits to look at, or None if nothing tells the candidates apart."""
    for common_only in (True, False):
        best = _cheapest(candidates, unit_bits, seen, common_only=common_only)
        if best is not None:
            return best
    return None


def _cheapest(
    candidates: tuple[Candidate, ...], unit_bits: int, seen: dict[int, int], *, common_only: bool
) -> tuple[int, int, int] | None:
    """The window that leaves the least work; `common_only`: over bits that all candidates fix."""
    best: tuple[float, tuple[int, int, int]] | None = None
    for unit in range(min(len(c.units) for c in candidates)):
        mask = ((1 << unit_bits) - 1) & ~seen.get(unit, 0)
        fixed = [candidate.units[unit][0] for candidate in candidates]
        mask &= reduce(and_, fixed) if common_only else reduce(or_, fixed)
        for shift, bits in _windows(mask, whole=common_only):
            sizes = _sizes(candidates, unit, shift, bits)
            total, largest = sum(sizes), max(sizes)
            if largest == len(candidates) or total > MAXIMUM_GROWTH * len(candidates) + 8:
                continue
            # The work left behind the node, with a little for the node's table.
            cost = sum(size * size for size in sizes) / total + (1 << bits) / 64
            if best is None or cost < best[0]:
                best = cost, (unit, shift, bits)
    return None if best is None else best[1]


def _windows(mask: int, *, whole: bool = True) -> list[tuple[int, int]]:
    """Runs of set bits as (shift, bits): whole runs (cut to the most that is looked at), or also parts of
    them.
    """
    windows = []
    position = 0
    while mask >> position:
        if not mask >> position & 1:
            position += 1
            continue
        end = position
        while mask >> end & 1:
            end += 1
        length = end - position
        if whole:
            low = position
            while low < end:
                windows.append((low, min(MAXIMUM_BITS, end - low)))
                low += MAXIMUM_BITS
        else:
            for bits in range(1, min(length, 6) + 1):
                windows += [(low, bits) for low in range(position, end - bits + 1)]
        position = end
    return windows


def _values(candidate: Candidate, unit: int, shift: int, bits: int) -> list[int]:
    """The values of these bits with which the candidate is possible."""
    mask, value = candidate.units[unit]
    mask, value = mask >> shift & (1 << bits) - 1, value >> shift & (1 << bits) - 1
    free = [1 << i for i in range(bits) if not mask >> i & 1]
    values = [value]
    for bit in free:
        values += [v | bit for v in values]
    return values


def _sizes(candidates: tuple[Candidate, ...], unit: int, shift: int, bits: int) -> list[int]:
    sizes = [0] * (1 << bits)
    for candidate in candidates:
        for value in _values(candidate, unit, shift, bits):
            sizes[value] += 1
    return sizes


def _split(candidates: tuple[Candidate, ...], unit: int, shift: int, bits: int) -> list[list[Candidate]]:
    buckets: list[list[Candidate]] = [[] for _ in range(1 << bits)]
    for candidate in candidates:
        for value in _values(candidate, unit, shift, bits):
            buckets[value].append(candidate)
    return buckets
