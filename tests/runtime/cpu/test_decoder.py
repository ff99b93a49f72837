"""Decode tables of all targets against the slow decoder: same legality, length, executor and slots."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from generator.emit.decoder import Tables, compile_tables
from generator.emit.layout import Layout, place
from generator.emit.program import Op as GeneratorOp
from generator.ir.decode import Decoded, Decoder, Illegal, Scope
from generator.ir.executor import Leaf, Node, NumberValue, Plan, RegisterValue, SkipValue, TargetValue, Tree
from generator.ir.expressions import evaluate
from generator.ir.specialise import specialise
from generator.ir.state import GuestFault, SparseMemory, State, closed_features, reset_state
from generator.load import families, family_targets, load_target
from generator.model.target import Form, Target
from isagen.steps import decoder_machine
from runtime.cpu import block, symbols
from runtime.cpu.engine import Cpu, TargetPackage
from runtime.memory.space import AddressSpace

ISA = Path(__file__).resolve().parents[3] / "isa"
TARGETS = [(family, name) for family in families(ISA) for name in family_targets(ISA, family)]
BASE = 0x10000
SAMPLES = 6
LONGEST = 15
"""Bytes of an x86 instruction (SDM volume 2, 2.3.11). The engine reads no more, the slow decoder does."""
STORED = {"u16": "<H", "i16": "<h", "i32": "<i", "i64": "<q"}


def test_generator_and_runtime_have_the_same_operations() -> None:
    """The generator knows the machine's operations by their names alone; a machine without one is refused."""
    machine = decoder_machine()
    assert {op.name for op in GeneratorOp} == set(machine.operations)
    fewer = {name: number for name, number in machine.operations.items() if name != "LOOKUP"}
    with pytest.raises(ValueError, match="LOOKUP"):
        replace(machine, operations=fewer)


class Foreign(TargetPackage):
    """Another target's tables with the toy's native code: the decoder is the same for all."""

    def __init__(self, toy: TargetPackage, target: Target, layout: Layout, made: Tables) -> None:
        from generator.emit.manifest import describe

        super().__init__(toy.directory, describe(target, layout, [], None), made.data)
        self._functions = toy._functions


def record_values(plan: Plan, record: int) -> tuple[int, list[int]]:
    """The executor's number and the slots of a record in host memory."""
    number = struct.unpack("<H", ctypes.string_at(record, 2))[0]
    executor = plan.executors[number - block.FIRST_EXECUTOR]
    values = []
    for slot in executor.slots:
        form = STORED[slot.storage]
        value = struct.unpack(form, ctypes.string_at(record + slot.offset, struct.calcsize(form)))[0]
        values.append(value)
    return number, values


def meta_size(record: int) -> int:
    """A record's size according to its metadata."""
    return 8 * ctypes.string_at(record + block.META_DISTANCE + 6, 1)[0]


class Expectation:
    """What the slow decoder and the decision trees say about an instruction."""

    def __init__(self, target: Target, layout: Layout, plan: Plan, state: State) -> None:
        self.target, self.layout, self.plan, self.state = target, layout, plan, state
        self.features = closed_features(target, target.default_features)
        self.decoder = Decoder(target)
        self.numbers = {id(form): n for n, form in enumerate(target.forms)}
        self.plans = {(p.form, p.variant): p for p in plan.variants}

    def read(self, register: str, index: int | None, width: int) -> int:
        if index is None:
            return self.state.registers[register] & (1 << width) - 1
        return self.state.files[register][index]

    def decode(self, pc: int) -> Decoded | Illegal:
        return self.decoder.decode(self.state.memory, pc, self.contexts(), self.features, self.read)

    def contexts(self) -> Mapping[str, int]:
        return {c.name: 0 for c in self.target.contexts if c.next is not None and c.name != "npc"}

    def scope(self, decoded: Decoded) -> Scope:
        scope = Scope(
            self.target,
            decoded.pc,
            decoded.contexts,
            self.read,
            self.features,
            fields=dict(decoded.fields),
            next_pc=decoded.next_pc & (1 << self.target.pc_width) - 1,
        )
        return scope

    def leaves(self, decoded: Decoded) -> Iterator[tuple[Leaf, Scope]]:
        """The leaves of the guard's and the body's trees."""
        scope = self.scope(decoded)
        plan = self.plans[self.numbers[id(decoded.form)], decoded.form.variants.index(decoded.variant)]
        for tree in (plan.guard, plan.body):
            if tree is not None:
                leaf = descend(tree, scope)
                if leaf.executor:
                    yield leaf, scope

    def check(self, leaf: Leaf, scope: Scope, record: int) -> None:
        number, found = record_values(self.plan, record)
        assert number == leaf.executor
        executor = self.plan.executors[number - block.FIRST_EXECUTOR]
        for slot, value, got in zip(executor.slots, leaf.values, found, strict=True):
            match value:
                case NumberValue(value=expr):
                    size = struct.calcsize(STORED[slot.storage]) * 8
                    assert (
                        got & (1 << min(slot.width, size)) - 1
                        == evaluate(expr, scope) & (1 << min(slot.width, size)) - 1
                    )
                    if slot.width > size:  # sign-extended when read
                        assert got & (1 << slot.width) - 1 == evaluate(expr, scope)
                case RegisterValue(register=register, index=index, write=write):
                    assert got == self.offset(register, evaluate(index, scope), write)
                case TargetValue(target=expr):
                    assert self.record_pc(got) == evaluate(expr, scope)
                case SkipValue():
                    assert got == meta_size(record + meta_size(record))

    def offset(self, register: str, index: int, write: bool) -> int:
        field = self.layout.field(register)
        zero = next(r.zero for r in self.target.registers if r.name == register)
        if write and index in (zero, field.count):
            return self.layout.sink
        return field.offset + field.stride * index

    def record_pc(self, record: int) -> int:
        if ctypes.string_at(record, 2) in (b"\0\0", b"\1\0"):
            return int(struct.unpack("<Q", ctypes.string_at(record + block.END_PC, 8))[0])
        offset: int = struct.unpack("<H", ctypes.string_at(record + block.META_DISTANCE + 4, 2))[0]
        return BASE + offset


def descend(tree: Tree, scope: Scope) -> Leaf:
    while isinstance(tree, Node):
        tree = tree.then if evaluate(tree.condition, scope) else tree.otherwise
    return tree


def sample(form: Form, target: Target, choose: random.Random) -> bytes:
    """Bytes that are likely to be of `form`: its fixed bits, random others."""
    group = next(s for s in target.sets if s.name == form.set_name)
    value = width = 0
    for piece in form.picture:
        bits = piece.value if piece.kind == "fixed" else choose.getrandbits(piece.width) if piece.width else 0
        value, width = value << piece.width | bits, width + piece.width
    units = [value >> at & (1 << group.unit) - 1 for at in range(0, width, group.unit)]
    if group.stream:
        units.reverse()
    order = "big" if target.big_endian else "little"
    data = b"".join(unit.to_bytes(group.unit // 8, order) for unit in units)  # type: ignore[arg-type]
    if target.prefixes:
        rows = [row for row in target.prefixes if choose.random() < 0.15]
        prefixes = [row.pattern | choose.getrandbits(8) & ~row.mask & 255 for row in rows]
        choose.shuffle(prefixes)
        data = bytes(prefixes) + bytes(form.mandatory_prefixes) + data
    return data + choose.randbytes(16)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), TARGETS)
def test_tables_decode_as_the_slow_decoder(toy: TargetPackage, family: str, name: str) -> None:
    target = load_target(ISA, family, name)
    layout, plan = place(target), specialise(target)
    package = Foreign(toy, target, layout, compile_tables(target, layout, plan, decoder_machine()))
    memory = AddressSpace()
    memory.map(BASE, 0x1000)
    slow = SparseMemory(64)
    slow.map(BASE, 0x1000)
    state = reset_state(target, slow)
    expectation = Expectation(target, layout, plan, state)
    cpu = Cpu(package, memory)
    decode = package.function(symbols.DECODE)
    choose = random.Random(name)
    legal = 0
    for form in target.forms:
        for _ in range(SAMPLES):
            data = sample(form, target, choose) if choose.random() < 0.9 else choose.randbytes(32)
            memory.write(BASE, data)
            slow.bytes = dict(enumerate(data, BASE))
            cpu.flush()
            record = decode(cpu.address, BASE)
            try:
                expected = expectation.decode(BASE)
            except GuestFault:
                continue
            where = f"{form.name}: {data[:16].hex()}"
            if isinstance(expected, Illegal):
                assert not record, f"{where} is illegal"
                continue
            if expected.length > LONGEST:
                continue
            legal += 1
            assert record, f"{where} is {expected.form.name}"
            place_ = record
            for leaf, scope in expectation.leaves(expected):
                try:
                    expectation.check(leaf, scope, place_)
                except AssertionError as error:
                    raise AssertionError(f"{where} as {expected.form.name}: {error}") from error
                place_ += meta_size(place_)
            # What follows belongs to the instruction behind it.
            following = expectation.record_pc(place_)
            if following != BASE:
                assert following == BASE + expected.length, where
    assert legal > len(target.forms)
