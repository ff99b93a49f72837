"""The slow decoder on small specs: prefixes, streams, cases, appended units, features, priorities."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from generator.ir.decode import AmbiguousEncodingError, Decoded, Decoder, Illegal, before_relation
from generator.ir.evaluate import Completed, Evaluator, Faulted, NotAnInstruction
from generator.ir.state import GuestFault, SparseMemory
from generator.language.source import Source
from generator.load import load_sources
from generator.model.target import Target

CISC = """isa toy le unit 8 stream
target toy { } elf 3 class 32
feature Extra "more"
regs r[16] : bits(32)
reg  pc : bits(32)
reg  wide : bits(1)
context mode : bits(7) = wide == 1 ? 64 : 32 in 32, 64
prefix legacy {
    0x66 => opsize mandatory ignore
    0xf0 => lock reject
    0xf2 => rep = 2 mandatory ignore
    0xf3 => rep = 3 mandatory ignore
    0100 x_w:1 x_r:1 x_x:1 x_b:1 => rex last ignore when mode == 64
}
operand g (n: 3) : bits(32) = r[x_r @ n]
operand ea (m: 5) : bits(32) {
    case 00 100 + s:sib       "[{s}]"        => s
    case 00 b:3               "[{b}]"        => r[x_b @ b]
    case 01 100 + s:sib d:8   "[{s} + {d}]"  => s + sext(d)
    case 01 b:3 + d:8         "[{b} + {d}]"  => r[x_b @ b] + sext(d)
    case 10 b:3 + d:32        "[{b} + {d}]"  => r[x_b @ b] + d
}
operand sib (z: 8) : bits(32) {
    case sc:2 100 b:3 when x_x == 0 "{b}"      => r[x_b @ b]
    case sc:2 i:3 b:3               "{i}, {b}" => (r[x_x @ i] << sc) + r[x_b @ b]
}
operand rm (m: 5) : bits(32) {
    case 11 n:3 "{n}" => r[x_b @ n]
    case a:ea   "{a}" => mem(32)[a]
}
insn add {
    bits  0x01 d[4:3] s:g d[2:0]:rm
    asm   "add {d}, {s}"
    allow lock when d.mem
    exec  d = d + s
}
insn move {
    bits  0xc7 d[4:3] 000 d[2:0]:rm i:32
    asm   "move {d}, {i}"
    exec  d = i
}
insn plain {
    bits  NP 0x0f 0x10
    asm   "plain"
    exec  r[0] = 0
}
insn packed {
    bits  0x66 0x0f 0x10
    asm   "packed"
    exec  r[0] = 1
}
insn scalar {
    bits  0xf3 0x0f 0x10
    asm   "scalar"
    exec  r[0] = 3
}
insn pause {
    before nop
    bits  0xf3 0x90
    asm   "pause"
    exec  r[0] = 4
}
insn nop {
    bits  0x90
    asm   "nop"
    exec  r[0] = r[0]
}
insn old {
    when  mode == 32
    bits  01000 n:3
    asm   "old {n}"
    exec  r[zext(n, 4)] += 1
}
insn extra {
    needs Extra
    bits  0xee
    asm   "extra"
    exec  r[0] = 5
}
"""


@pytest.fixture(scope="module")
def cisc() -> Target:
    return load_sources([Source("toy.isa", CISC)], "toy")


def decode(
    target: Target, data: str, contexts: Mapping[str, int] | None = None, features: str = ""
) -> Decoded | Illegal:
    memory = SparseMemory(32)
    memory.map(0x1000, 0x20)
    memory.poke(0x1000, bytes.fromhex(data))
    given = {"mode": 32, **(contexts or {})}
    return Decoder(target).decode(memory, 0x1000, given, frozenset(features.split()))


LONG = {"mode": 64}


@pytest.mark.parametrize(
    ("data", "contexts", "form", "length"),
    [
        ("01 c8", {}, "add", 2),
        ("01 08", {}, "add", 2),
        ("01 48 7f", {}, "add", 3),
        ("01 88 44 33 22 11", {}, "add", 6),
        ("01 0c 25", {}, "add", 3),
        ("01 4c 25 05", {}, "add", 4),
        ("c7 44 25 05 44 33 22 11", {}, "move", 8),
        ("66 66 f2 01 c8", {}, "add", 5),
        ("f0 01 08", {}, "add", 3),
        ("0f 10", {}, "plain", 2),
        ("66 0f 10", {}, "packed", 3),
        ("f3 0f 10", {}, "scalar", 3),
        ("66 f3 0f 10", {}, "scalar", 4),
        ("f3 66 0f 10", {}, "scalar", 4),
        ("f2 f3 0f 10", {}, "scalar", 4),
        ("90", {}, "nop", 1),
        ("f3 90", {}, "pause", 2),
        ("f2 90", {}, "nop", 2),
        ("47", {}, "old", 1),
        ("48 01 c8", LONG, "add", 3),
        ("48 66 01 c8", LONG, "add", 4),
    ],
)
def test_forms_and_lengths(cisc: Target, data: str, contexts: dict[str, int], form: str, length: int) -> None:
    decoded = decode(cisc, data, contexts)
    assert isinstance(decoded, Decoded)
    assert (decoded.form.name, decoded.length) == (form, length)


@pytest.mark.parametrize(
    ("data", "contexts"),
    [
        ("f0 01 c8", {}),  # lock, and the destination is a register
        ("f0 90", {}),  # lock where it isn't allowed
        ("f2 0f 10", {}),  # no form with this mandatory prefix
        ("f3 f2 0f 10", {}),  # the last of them counts
        ("66 f2 0f 10", {}),  # f2 beats 66
        ("48", LONG),  # a prefix in front of zeros: 00 is nothing
        ("ee", {}),  # its feature is absent
    ],
)
def test_illegal(cisc: Target, data: str, contexts: dict[str, int]) -> None:
    found = decode(cisc, data, contexts)
    assert isinstance(found, Illegal) or (found.form.name == "add" and data == "01 8c 00")


def test_a_last_prefix_counts_only_directly_before_the_opcode(cisc: Target) -> None:
    near, far = decode(cisc, "44 01 c8", LONG), decode(cisc, "44 66 01 c8", LONG)
    assert isinstance(near, Decoded) and isinstance(far, Decoded)
    assert near.contexts["x_r"] == 1
    assert "x_r" not in far.contexts


def test_whole_unit_fields_are_little_endian(cisc: Target) -> None:
    decoded = decode(cisc, "c7 c1 44 33 22 11")
    assert isinstance(decoded, Decoded)
    assert decoded.fields["i"] == 0x11223344


def test_features_add_forms(cisc: Target) -> None:
    decoded = decode(cisc, "ee", features="Extra")
    assert isinstance(decoded, Decoded) and decoded.form.name == "extra"


def test_the_first_case_that_matches_is_taken(cisc: Target) -> None:
    base, indexed = decode(cisc, "01 0c 25"), decode(cisc, "01 0c 0d")
    assert isinstance(base, Decoded) and isinstance(indexed, Decoded)
    path = next(path for path in base.choices if path.endswith(".s"))
    assert (base.choices[path], indexed.choices[path]) == (0, 1)


def run(target: Target, data: str, **registers: int) -> Evaluator:
    machine = Evaluator(target)
    memory = SparseMemory(32)
    memory.map(0, 0x10000)
    memory.poke(0x1000, bytes.fromhex(data))
    state = machine.reset(memory)
    state.pc = 0x1000
    for name, value in registers.items():
        state.files["r"][int(name[1:])] = value
    assert machine.step(state) == Completed()
    run.state = state  # type: ignore[attr-defined]
    return machine


def test_addresses_of_one_shape(cisc: Target) -> None:
    """base + (index << scale) + displacement, through the linear form's fields."""
    run(cisc, "01 4c 8d f8", r1=5, r5=0x2000 + 8)  # add [r5 + (r1 << 2) - 8], r1
    state = run.state  # type: ignore[attr-defined]
    assert state.memory.read(0x2000 + 20, 4) == (5).to_bytes(4, "little")
    assert state.pc == 0x1004
    run(cisc, "01 88 00 20 00 00", r1=7, r0=0x10)
    state = run.state  # type: ignore[attr-defined]
    assert state.memory.read(0x2010, 4) == (7).to_bytes(4, "little")


RISC = """isa toy le unit 16
target toy { } elf 3 class 32
regs r[32] : bits(32)
reg  pc : bits(32)
insn short {
    bits  000 n:5 00000001
    asm   "short {n}"
    exec  r[n] += 1
}
insn long {
    bits  k:16 000 n:5 00000011
    asm   "long {n}, {k}"
    exec  r[n] = zext(opcode_bits)
}
"""


@pytest.fixture(scope="module")
def risc() -> Target:
    return load_sources([Source("toy.isa", RISC)], "toy")


def test_the_lowest_unit_comes_first(risc: Target) -> None:
    decoded = decode(risc, "03 02 cd ab")
    assert isinstance(decoded, Decoded)
    assert (decoded.form.name, decoded.fields["n"], decoded.fields["k"]) == ("long", 2, 0xABCD)
    assert decoded.fields["opcode_bits"] == 0xABCD0203


def test_no_more_is_fetched_than_needed(risc: Target) -> None:
    """At a page's end a short instruction works, a long one faults, and nonsense is illegal."""
    machine = Evaluator(risc)
    memory = SparseMemory(32)
    memory.map(0x1000, 0x1000)
    state = machine.reset(memory)
    state.pc = 0x1FFE
    memory.poke(0x1FFE, bytes.fromhex("0102"))
    assert machine.step(state.copy()) == Completed()
    memory.poke(0x1FFE, bytes.fromhex("0302"))
    assert machine.step(state.copy()) == Faulted(0x2000, "fetch")
    memory.poke(0x1FFE, bytes.fromhex("ff02"))
    assert machine.step(state.copy()) == NotAnInstruction(bytes.fromhex("ff02"))
    state.pc = 0x2000
    with pytest.raises(GuestFault):
        machine.decode(state)


TWO = """isa toy le unit 16
target toy { } elf 3 class 32
regs r[8] : bits(32)
reg  pc : bits(32)
insn any {
    bits  k:13 001
    asm   "any {k}"
    exec  r[0] = zext(k)
}
insn one {
    bits  0000000000001 001
    asm   "one"
    exec  r[0] = 1
}
"""


def test_before_decides_and_without_it_nothing_does() -> None:
    with pytest.raises(AmbiguousEncodingError, match="`any`, `one` match"):
        decode(load_sources([Source("toy.isa", TWO)], "toy"), "09 00")
    ordered = load_sources(
        [Source("toy.isa", TWO.replace("insn one {", "insn one {\n    before any"))], "toy"
    )
    decoded = decode(ordered, "09 00")
    assert isinstance(decoded, Decoded) and decoded.form.name == "one"
    assert before_relation(ordered.forms) == {("one", "any")}


MODAL = """isa toy le unit 8 stream
target toy { } elf 3 class 32
regs r[8] : bits(32)
reg  pc : bits(32)
reg  wide : bits(1)
prefix legacy {
    0x66 => opsize ignore
}
context v : bits(7) = (opsize ^ wide) == 1 ? 32 : 16 in 16, 32
insn flip {
    bits  00000001
    asm   "flip"
    exec {
        wide = ~wide
        r[0] = pick(v == 32, 1, 2)
        if v == 32 { r[1] = 3 }
    }
}
"""


@pytest.mark.parametrize(
    ("data", "wide", "expected"),
    [("01", 0, [2, 0]), ("01", 1, [1, 3]), ("66 01", 0, [1, 3]), ("66 01", 1, [2, 0])],
)
def test_contexts_are_those_of_the_time_of_decoding(data: str, wide: int, expected: list[int]) -> None:
    """The behaviour changes the register that `v` is derived from; `v` also depends on a prefix."""
    machine = Evaluator(load_sources([Source("toy.isa", MODAL)], "toy"))
    memory = SparseMemory(32)
    memory.map(0, 0x1000)
    memory.poke(0x100, bytes.fromhex(data))
    state = machine.reset(memory)
    state.pc = 0x100
    state.registers["wide"] = wide
    assert machine.step(state) == Completed()
    assert state.files["r"][:2] == expected
