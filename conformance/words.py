"""Encodings of a form, made from its pictures with fields at their extremes and at random.

A made encoding is only a candidate: conditions on fields, other forms that win and prefixes are the decoder's
business, so each candidate is decoded and kept if it is the form that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from conformance.corners import LONGEST, random_field
from generator.ir.decode import Decoded, Decoder, RegisterReader, no_registers
from generator.ir.state import GuestFault, SparseMemory
from generator.model.target import Form, InstructionSet, Piece, PrefixRow, Target


class WordMaker:
    """Makes encodings of `target`'s forms."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.ignored_bits = True
        """Whether ignored bits may be 1."""
        self._sets = {group.name: group for group in target.sets}

    def candidate(self, form: Form, random: Random) -> bytes:
        """`LONGEST` bytes or more that begin with what may be an encoding of `form`."""
        group = self._sets[form.set_name]
        widths = _field_widths(form.picture)
        fields = {name: random_field(random, width) for name, width in widths.items()}
        _alias_registers(form, fields, random)
        head = pieces_bytes(form.picture, fields, group, self.target.big_endian, random, self.ignored_bits)
        tail = _tail(random)
        prefixes = self._prefixes(form, random) if group.stream and group.unit == 8 else b""
        return prefixes + head + tail

    def _prefixes(self, form: Form, random: Random) -> bytes:
        rows = self.target.prefixes
        ordinary = [row for row in rows if not row.last]
        last = [row for row in rows if row.last]
        allowed = {name for name, _ in form.allow}
        out = bytearray(form.mandatory_prefixes)
        if random.random() < 0.5 and ordinary:
            for _ in range(random.choice((1, 1, 1, 2))):
                row = random.choice(ordinary)
                if row.policy != "reject" or row.variable in allowed:
                    out.append(_prefix_byte(row, random))
        random.shuffle(out)
        if last and random.random() < 0.5:
            out.append(_prefix_byte(random.choice(last), random))
        return bytes(out)


def _prefix_byte(row: PrefixRow, random: Random) -> int:
    return row.pattern | random.getrandbits(8) & ~row.mask & 0xFF


def _field_widths(pieces: tuple[Piece, ...]) -> dict[str, int]:
    widths: dict[str, int] = {}
    for piece in pieces:
        if piece.kind == "field":
            widths[piece.name] = max(widths.get(piece.name, 0), piece.high + 1)
    return widths


def _alias_registers(form: Form, fields: dict[str, int], random: Random) -> None:
    """Now and then let operands of one width be the same register, or register 0."""
    if random.random() < 0.3:
        small = [o for o in form.operands if o.path in fields and 3 <= o.width <= 5]
        for operand in small[1:]:
            if operand.width == small[0].width:
                fields[operand.path] = fields[small[0].path]


def _tail(random: Random) -> bytes:
    """What may be appended units: small numbers, all ones, or anything."""
    choice = random.random()
    if choice < 0.2:
        return bytes([random.randrange(256)]) + bytes(LONGEST)
    if choice < 0.3:
        return bytes([random.randrange(256)]) + b"\xff" * LONGEST
    if choice < 0.5:
        low = random.choice((0x4000, 0x4FF8, 0x5FFC, 0x10, 0x7FFF)).to_bytes(4, "little")
        return bytes([random.randrange(256)] * random.randrange(2)) + low + bytes(LONGEST)
    return random.randbytes(LONGEST)


def pieces_bytes(
    pieces: tuple[Piece, ...],
    fields: Mapping[str, int],
    group: InstructionSet,
    big_endian: bool,
    random: Random,
    ignored_bits: bool,
) -> bytes:
    """A picture as bytes in memory order; ignored bits are as they should be mostly, or always."""
    word = width = 0
    reorder: list[
        tuple[int, int]
    ] = []  # (bit offset from the top, bits) of little-endian fields of whole units
    for piece in pieces:
        if piece.kind == "fixed":
            value = piece.value
        elif piece.kind == "field":
            value = fields[piece.name] >> piece.low & ((1 << piece.width) - 1)
            if (
                group.stream
                and not big_endian
                and group.unit == 8
                and width % 8 == 0
                and piece.width % 8 == 0
            ):
                reorder.append((width, piece.width))
        else:
            value = random.getrandbits(piece.width) if ignored_bits and random.random() < 0.2 else piece.value
        word = word << piece.width | value
        width += piece.width
    size = group.unit // 8
    units = [
        word >> (width - (i + 1) * group.unit) & ((1 << group.unit) - 1) for i in range(width // group.unit)
    ]
    if not group.stream:
        units.reverse()  # one number: its lowest unit comes first in memory
    data = bytearray(b"".join(unit.to_bytes(size, "big" if big_endian else "little") for unit in units))
    for offset, bits in reorder:
        first, last = offset // 8, (offset + bits) // 8
        data[first:last] = data[first:last][::-1]
    return bytes(data)


def decode_as(
    decoder: Decoder,
    form: Form,
    data: bytes,
    pc: int,
    contexts: Mapping[str, int],
    features: frozenset[str],
    registers: RegisterReader = no_registers,
) -> Decoded | None:
    """`data` decoded at `pc`, if it is an instruction of `form`."""
    memory = SparseMemory()
    memory.map(pc, len(data))
    memory.poke(pc, data)
    try:
        decoded = decoder.decode(memory, pc, contexts, features, registers)
    except GuestFault:
        return None
    return decoded if isinstance(decoded, Decoded) and decoded.form is form else None
