"""Listings of machine code: address, bytes, text, with labels."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.assembly.tables import Syntax

LONGEST = 16
"""No instruction has more bytes."""


class Labels:
    """Names addresses: a label, or the label before it and a distance of at most 64 KiB."""

    REACH = 0x10000

    def __init__(self, labels: Mapping[int, str]) -> None:
        self._labels = labels
        self._addresses = sorted(labels)

    def __call__(self, address: int) -> str | None:
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] > self.REACH:
            return None
        base = self._addresses[index]
        distance = address - base
        return self._labels[base] + (f"+{distance:#x}" if distance else "")


def lines(
    syntax: Syntax, data: bytes, address: int, labels: Mapping[int, str], dialect: str = ""
) -> Iterator[str]:
    """Disassemble `data`, which lies at `address`."""
    from runtime.assembly.disassembler import Disassembler

    disassembler = Disassembler(syntax, dialect)
    known = Labels(labels)
    unit = syntax.sets[0].unit // 8
    offset = 0
    while offset < len(data):
        at = address + offset
        if at in labels:
            yield f"{labels[at]}:"
        line = disassembler.line(data[offset : offset + LONGEST], at, symbolize=known)
        length = max(line.length, 1)
        raw = data[offset : offset + length]
        shown = " ".join(units(raw, unit, syntax.big_endian))
        yield f"{at:8x}:  {shown:<22}  {line.text}"
        offset += length


def units(raw: bytes, unit: int, big_endian: bool) -> Iterator[str]:
    """Code bytes as numbers of a unit (bytes where units are bytes), as objdump prints them."""
    if len(raw) % unit:
        unit = 1
    step = len(raw) if unit > 1 and len(raw) <= 4 else unit
    for i in range(0, len(raw), step):
        piece = raw[i : i + step]
        yield (piece if big_endian else piece[::-1]).hex()
