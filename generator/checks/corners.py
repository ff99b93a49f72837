"""Encodings of a form with fields at their corners or random, and the state that they need.

Examples are recognised with it, and tests sample every form. `encode` is the slow decoder's inverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from generator.checks.encodings import Encodings, conjunction
from generator.checks.solve import GaveUpError, Not, Solution, Solver
from generator.ir.arithmetic import mask
from generator.ir.decode import AmbiguousEncodingError, Decoded, Decoder, Illegal, picture_width, winners
from generator.ir.state import FEATURES, GuestFault, SparseMemory, State, reset_state
from generator.model.target import Form, Operand, Piece, PrefixRow, Target

BASE = 0x1000
ATTEMPTS = 30
"""Random encodings that are tried before the solver's own is used."""


@dataclass(frozen=True)
class Sample:
    """An instruction: its bytes, and the registers and contexts that must be as given for it to be that
    form.
    """

    data: bytes
    registers: Mapping[str, int] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)


class Sampler:
    """Makes encodings for the forms of a target."""

    def __init__(
        self, target: Target, encodings: Encodings | None = None, solver: Solver | None = None
    ) -> None:
        self.target = target
        self.encodings = encodings or Encodings(target)
        self.solver = solver or Solver(target)
        self.decoder = Decoder(target)
        self.features = frozenset(feature.name for feature in target.features)
        self._winners = winners(target)
        self._registers = {r.name for r in target.registers if r.count is None}
        self._contexts = {c.name for c in target.contexts}
        self._prefix_names = {n for r in target.prefixes for n in (r.variable, *(f[0] for f in r.fields))}

    def witness(self, form: Form) -> tuple[Sample, int] | None:
        """One encoding of `form`, and the bits of its word that matter; None where there is none to be
        found.
        """
        others = (Not(self.encodings.matches(winner)) for winner in self._winners.get(form.name, ()))
        try:
            solution = self.solver.solve(conjunction([self.encodings.matches(form), *others]))
        except GaveUpError:
            return None
        if solution is None:
            return None
        group = self.encodings.sets[form.set_name]
        width = max(picture_width(form.picture), solution.known.bit_length())
        count = -(-width // group.unit)
        prefixes = {n: v for n, v in solution.variables.items() if n in self._prefix_names}
        data = self._prefix_bytes(prefixes) + self._bytes(solution.word, count, group.unit)
        sample = self.placed(data, solution)
        decoded = self.decode(sample)
        if FEATURES in solution.variables and (decoded is None or decoded.form is not form):
            # A form of machines that lack something: only the features that it names.
            needed = sum(1 << n for n, f in enumerate(self.target.features) if f.name in form.needs)
            features = {FEATURES: solution.variables[FEATURES] | needed}
            sample = replace(sample, registers={**sample.registers, **features})
        return sample, solution.known

    def placed(self, data: bytes, solution: Solution) -> Sample:
        """`data` with the registers and contexts that the solution names."""
        registers = {n: v for n, v in solution.variables.items() if n in self._registers}
        contexts = {n: v for n, v in solution.variables.items() if n in self._contexts}
        registers[FEATURES] = mask(len(self.target.features))
        return Sample(data, registers, contexts)

    def samples(self, form: Form, count: int, rng: Random) -> Iterator[Sample]:
        """`count` encodings that decode to `form`; fewer only if there are none at all."""
        found = self.witness(form)
        if found is None:
            return
        base, _ = found
        base = self._trimmed(form, base)
        for _ in range(count):
            for _ in range(ATTEMPTS):
                data = self._random(form, rng)
                sample = Sample(data, base.registers, base.contexts)
                decoded = self.decode(sample)
                if decoded is not None and decoded.form is form:
                    yield self._exact(sample, decoded.length)
                    break
            else:
                yield base

    def state(self, sample: Sample) -> State:
        """A state at reset but for what the sample needs, its bytes at `BASE`."""
        memory = SparseMemory(self.target.pc_width)
        memory.map(BASE, 64)
        memory.poke(BASE, sample.data)
        state = reset_state(self.target, memory)
        state.registers[FEATURES] = mask(len(self.target.features))
        state.registers.update(sample.registers)
        state.contexts.update(sample.contexts)
        state.pc = BASE
        return state

    def decode(self, sample: Sample) -> Decoded | None:
        """What the slow decoder says: None for illegal, ambiguous and truncated instructions."""
        try:
            decoded = self.outcome(sample)
        except (GuestFault, AmbiguousEncodingError):
            return None
        return None if isinstance(decoded, Illegal) else decoded

    def outcome(self, sample: Sample) -> Decoded | Illegal:
        """The slow decoder's own answer, on a machine with the sample's features.

        Raises AmbiguousEncodingError where two forms match, and GuestFault where the bytes end too early.
        """
        state = self.state(sample)

        def read(name: str, index: int | None, width: int) -> int:
            value = state.registers.get(name, 0) if index is None else state.files[name][index]
            return value & mask(width)

        on = state.registers[FEATURES]
        features = frozenset(f.name for n, f in enumerate(self.target.features) if on >> n & 1)
        return self.decoder.decode(state.memory, BASE, sample.contexts, features, read)

    def prefixes(self, data: bytes, contexts: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        """How many bytes of `data` are prefixes, and the variables that they set."""
        return self.decoder.prefixes(data, contexts)

    def _trimmed(self, form: Form, sample: Sample) -> Sample:
        decoded = self.decode(sample)
        return sample if decoded is None or decoded.form is not form else self._exact(sample, decoded.length)

    def _exact(self, sample: Sample, length: int) -> Sample:
        """The sample with as many bytes as were decoded (what follows its own is 0)."""
        data = bytes(self.state(sample).memory.read(BASE, length, "fetch"))
        return Sample(data, sample.registers, sample.contexts)

    # --- bytes ----------------------------------------------------------------------------------------------

    def _bytes(self, word: int, count: int, unit: int) -> bytes:
        units = [word >> (i * unit) & mask(unit) for i in range(count)]
        return _joined(units, unit, self.target.big_endian)

    def _prefix_bytes(self, values: Mapping[str, int]) -> bytes:
        """Prefixes that set these variables, those that must stand last at the end."""
        chosen: list[tuple[PrefixRow, int]] = []
        for row in self.target.prefixes:
            fields = sum(values.get(name, 0) << low for name, _, low in row.fields)
            if (row.value and values.get(row.variable, 0) == row.value) or fields:
                chosen.append((row, row.pattern | fields))
        chosen.sort(key=lambda item: item[0].last)
        return bytes(dict.fromkeys(byte for _, byte in chosen))  # rows for several modes may share a byte

    def _random_prefixes(self, form: Form, rng: Random) -> bytes:
        """The mandatory prefixes, and now and then others."""
        result = b""
        for row in self.target.prefixes:
            if row.last or row.policy == "reject" or row.mandatory or rng.random() > 0.1:
                continue
            result += bytes([self._random_row(row, rng)])
        optional = [r for r in self.target.prefixes if r.mandatory and not form.mandatory_prefixes]
        if optional and not form.no_prefix and rng.random() < 0.25:
            result += bytes([self._random_row(rng.choice(optional), rng)])
        allowed = {name for name, _ in form.allow}
        for row in self.target.prefixes:
            if row.variable in allowed and rng.random() < 0.2:
                result += bytes([self._random_row(row, rng)])
        result += bytes(form.mandatory_prefixes)
        last = [row for row in self.target.prefixes if row.last]
        if last and rng.random() < 0.5:
            result += bytes([self._random_row(rng.choice(last), rng)])
        return result

    @staticmethod
    def _random_row(row: PrefixRow, rng: Random) -> int:
        return row.pattern | rng.getrandbits(8) & ~row.mask & 0xFF

    def _random(self, form: Form, rng: Random) -> bytes:
        group = self.encodings.sets[form.set_name]
        little = group.stream and group.unit == 8 and not self.target.big_endian
        bits = _Writer(group.unit, little)
        _write(form.picture, form.operands, bits, rng)
        units = bits.units()
        if not group.stream:
            units.reverse()
        prefixes = self._random_prefixes(form, rng) if self.target.prefixes else b""
        return prefixes + _joined(units, group.unit, self.target.big_endian)


class _Writer:
    """Pieces one after the other, top bit first; whole-unit fields of little-endian byte streams are turned
    round.
    """

    def __init__(self, unit: int, little: bool) -> None:
        self.unit = unit
        self.little = little
        self.value = 0
        self.width = 0

    def put(self, value: int, width: int, is_field: bool) -> None:
        if self.little and is_field and self.width % 8 == 0 and width % 8 == 0 and width:
            value = int.from_bytes(value.to_bytes(width // 8, "little"), "big")
        self.value = self.value << width | value
        self.width += width

    def units(self) -> list[int]:
        count = self.width // self.unit
        return [self.value >> (self.unit * (count - 1 - i)) & mask(self.unit) for i in range(count)]


def corner(width: int, rng: Random) -> int:
    """A value of `width` bits: a corner in two of five cases, else a random one."""
    if rng.random() < 0.4:
        top = 1 << (width - 1)
        return rng.choice((0, 1, mask(width), top, top - 1, mask(width) - 1)) & mask(width)
    return rng.getrandbits(width)


def _write(pieces: tuple[Piece, ...], operands: tuple[Operand, ...], bits: _Writer, rng: Random) -> None:
    """Random contents for `pieces`; what operands' cases append follows the unit in which the operand
    ends.
    """
    by_path = {operand.path: operand for operand in operands}
    values: dict[str, int] = {}
    appended: dict[str, list[tuple[tuple[Piece, ...], tuple[Operand, ...]]]] = {}
    widths: dict[str, int] = {}
    for piece in pieces:
        if piece.kind == "field":
            widths[piece.name] = max(widths.get(piece.name, 0), piece.high + 1, piece.low + piece.width)
    for name, width in widths.items():
        if name in by_path:
            values[name], appended[name] = _operand(by_path[name], rng)
        else:
            values[name] = corner(width, rng)
    pending: list[str] = []
    for number, piece in enumerate(pieces):
        if piece.kind == "field":
            bits.put(values[piece.name] >> piece.low & mask(piece.width), piece.width, True)
            if all(later.name != piece.name for later in pieces[number + 1 :]):
                pending.append(piece.name)
        else:
            value = piece.value if piece.kind == "fixed" else rng.getrandbits(piece.width)
            bits.put(value, piece.width, False)
        if bits.width % bits.unit == 0:
            for name in pending:
                for tail, inner in appended.get(name, ()):
                    _write(tail, inner, bits, rng)
            pending.clear()


def _operand(
    operand: Operand, rng: Random
) -> tuple[int, list[tuple[tuple[Piece, ...], tuple[Operand, ...]]]]:
    """The operand's bits for a random case, and what is appended for it."""
    case = rng.choice(operand.cases)
    by_path = {inner.path: inner for inner in case.operands}
    raw = 0
    tails: list[tuple[tuple[Piece, ...], tuple[Operand, ...]]] = []
    values: dict[str, int] = {}
    for piece in case.picture:
        if piece.kind == "field":
            if piece.name not in values:
                if piece.name in by_path:
                    values[piece.name], more = _operand(by_path[piece.name], rng)
                    tails += more
                else:
                    values[piece.name] = corner(
                        max(p.low + p.width for p in case.picture if p.name == piece.name), rng
                    )
            value = values[piece.name] >> piece.low & mask(piece.width)
        else:
            value = piece.value if piece.kind == "fixed" else rng.getrandbits(piece.width)
        raw = raw << piece.width | value
    if not case.picture and operand.width:
        raw = corner(operand.width, rng)
    if case.appended:
        tails.append((case.appended, case.operands))
    return raw, tails


def encode(decoded: Decoded, target: Target) -> bytes:
    """The bytes of a decoded instruction without its prefixes; ignored bits as they should be."""
    group = next(group for group in target.sets if group.name == decoded.form.set_name)
    bits = _Writer(group.unit, group.stream and group.unit == 8 and not target.big_endian)
    _rewrite(decoded.form.picture, decoded.form.operands, decoded, bits)
    for operand in decoded.form.operands:
        if operand.width == 0:
            _tails(operand, decoded, bits)
    units = bits.units()
    if not group.stream:
        units.reverse()
    return _joined(units, group.unit, target.big_endian)


def _joined(units: list[int], unit: int, big_endian: bool) -> bytes:
    return b"".join(value.to_bytes(unit // 8, "big" if big_endian else "little") for value in units)


def _rewrite(
    pieces: tuple[Piece, ...], operands: tuple[Operand, ...], decoded: Decoded, bits: _Writer
) -> None:
    by_path = {operand.path: operand for operand in operands}
    pending: list[str] = []
    for number, piece in enumerate(pieces):
        if piece.kind == "field":
            bits.put(decoded.fields[piece.name] >> piece.low & mask(piece.width), piece.width, True)
            if all(later.name != piece.name for later in pieces[number + 1 :]):
                pending.append(piece.name)
        else:
            bits.put(piece.value, piece.width, False)
        if bits.width % bits.unit == 0:
            for name in pending:
                if name in by_path:
                    _tails(by_path[name], decoded, bits)
            pending.clear()


def _tails(operand: Operand, decoded: Decoded, bits: _Writer) -> None:
    case = operand.cases[decoded.choices[operand.path]]
    placed = {piece.name for piece in case.picture}
    for inner in case.operands:
        if inner.path in placed:
            _tails(inner, decoded, bits)
    _rewrite(case.appended, case.operands, decoded, bits)
