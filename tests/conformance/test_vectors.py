"""Recorded results: right, wrong and undescribed rows are told apart (with rows of our own making)."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from conformance.results import Row
from conformance.setup import Setup
from conformance.suites import vectors as suite
from conformance.tasks import Options, Task
from runtime.errors import IsagenError

STATES = [
    {"id": "right", "asm": "add a0, a1, a2", "bytes": "3385c500", "in": {"a1": "0x2", "a2": "0x3"},
     "out": {"a0": "0x5"}},
    {"id": "wrong", "asm": "add a0, a1, a2", "bytes": "3385c500", "in": {"a1": "0x2", "a2": "0x3"},
     "out": {"a0": "0x6"}},
    {"id": "flags", "asm": "fdiv.s fa0, fa1, fa2", "bytes": "5385c518",
     "in": {"fa1": "0xffffffff3f800000", "fa2": "0xffffffff00000000"}, "out": {"fcsr": "0x8"}},
    {"id": "vector", "asm": "vadd.vv v1, v2, v3", "bytes": "d7802102", "in": {}, "out": {"a0": "0x0"}},
    {"id": "stored", "asm": "sb a1, 3(a0)", "bytes": "a301b500", "in": {"a0": "&area_mid", "a1": "0x1ff"},
     "notes": ["[3] ff"]},
]  # fmt: skip
DECODED = [
    {"id": "right", "mode": "rv64", "bytes": "3385c500", "asm": "add a0, a1, a2"},
    {"id": "spaced", "mode": "rv64", "bytes": "13858500", "asm": "addi\ta0,a1,8   # eight"},
    {"id": "otherwise", "mode": "rv64", "bytes": "13850500", "asm": "addi a0, a1, 0"},
    {"id": "wrong", "mode": "rv64", "bytes": "3385c500", "asm": "add a0, a1, a3"},
    {"id": "narrow", "mode": "rv32", "bytes": "3385c500", "asm": "add a0, a1, a2"},
    {"id": "vector", "mode": "rv64", "bytes": "d7802102", "asm": "vadd.vv v1, v2, v3"},
]


REGISTERS = {"ax": 0x1234, "bx": 0, "cx": 3, "dx": 0, "cs": 0x1000, "ss": 0x2000, "ds": 0xFFFF, "es": 0x4000,
             "sp": 0x100, "bp": 0, "si": 0x20, "di": 0x30, "ip": 0x10, "flags": 0xF002}  # fmt: skip
CODE = 0x10010


def real_mode(cpu: str, name: str, code: str, final: dict[str, int], **others: object) -> dict[str, object]:
    """A row of an 8086 or 80286; `ram` before and after, `exc` in `others`."""
    data = bytes.fromhex(code) + (b"\xf4" if cpu == "80286" else b"")
    ram = [*enumerate(data, CODE), *others.pop("before", ())]
    row = {"id": name, "cpu": cpu, "bytes": data.hex(), "init": {"regs": REGISTERS, "ram": ram}}
    return {**row, "final": {"regs": final, "ram": others.pop("after", [])}, **others}


PUSHED = 0x20000 + 0xFE
HARDWARE = {
    "8086": [
        real_mode("8086", "right", "04ff", {"ax": 0x1233, "ip": 0x12, "flags": 0xF017}),
        real_mode("8086", "flag", "04ff", {"ax": 0x1233, "ip": 0x12, "flags": 0xF007}),
        real_mode("8086", "masked", "04ff", {"ax": 0x1233, "ip": 0x12, "flags": 0xF007}, flags_mask=0xFFEF),
        real_mode("8086", "push sp", "54", {"sp": 0xFE, "ip": 0x11}, after=[[PUSHED, 0xFE], [PUSHED + 1, 0]]),
        # ds:si is 0xffff0 + 0x20: 20 address lines
        real_mode("8086", "wraps", "ac", {"ax": 0x1299, "si": 0x21, "ip": 0x11}, before=[[0x10, 0x99]]),
        real_mode("8086", "repeats", "f3aa", {"cx": 0, "di": 0x33, "ip": 0x12},
                  after=[[0x40030 + i, 0x34] for i in range(3)]),
        real_mode("8086", "stray", "f3aa", {"cx": 0, "di": 0x33, "ip": 0x12}, after=[[0x40030, 0x34]]),
        real_mode("8086", "divides", "f6f3", {"sp": 0xFA, "cs": 0, "ip": 0x400, "flags": 0xF002},
                  before=[[0, 0], [1, 4], [2, 0], [3, 0]]),
        real_mode("8086", "alias", "6a01", {"ip": 0x12}),
        real_mode("8086", "ports", "e410", {"ax": 0x12FF, "ip": 0x12}),
    ],
    "80286": [
        real_mode("80286", "push sp", "54", {"sp": 0xFE, "ip": 0x12}, after=[[PUSHED, 0], [PUSHED + 1, 1]]),
        real_mode("80286", "far", "ac", {"ax": 0x1299, "si": 0x21, "ip": 0x12}, before=[[0x100010, 0x99]]),
        real_mode("80286", "divides", "f6f3", {"sp": 0xFA, "cs": 0, "ip": 0x400}, exc={"n": 0}),
        real_mode("80286", "other trap", "f6f3", {"sp": 0xFA, "cs": 0, "ip": 0x400}, exc={"n": 5}),
        real_mode("80286", "newer", "6a01", {"sp": 0xFE, "ip": 0x13}, after=[[PUSHED, 1]]),
        real_mode("80286", "limits", "a1ffff", {"sp": 0xFA, "ip": 0x400}, exc={"n": 13}),
        real_mode("80286", "invalid", "0fff", {"sp": 0xFA, "ip": 0x400}, exc={"n": 6}),
        real_mode("80286", "long", "26" * 10 + "90", {"sp": 0xFA, "ip": 0x400}, exc={"n": 13}),
    ],
}  # fmt: skip


def arm7(name: str, opcode: int, r0: int, flags: int, tx: list[list[int]]) -> dict[str, object]:
    """A row of user mode in which r1 is 0x8000 and r2 2; it changes r0 and the flags alone."""
    before = [0, 0x8000, 2, *range(3, 15), 0x1008]
    after = [r0, *before[1:15], 0x100C]
    banks = {"fiq": [0] * 7, "svc": [0, 0], "abt": [0, 0], "irq": [0, 0], "und": [0, 0], "SPSR": [16] * 5}
    return {
        "id": f"arm7/{name}", "opcode": opcode, "base": 0x1000, "tx": tx,
        "init": {"R": before, "CPSR": 0x10, **banks}, "final": {"R": after, "CPSR": flags | 0x10, **banks},
    }  # fmt: skip


ARM7 = [
    arm7("right", 0xE0910002, 0x8002, 0, []),  # adds r0, r1, r2
    arm7("flags", 0xE0910002, 0x8002, 1 << 30, []),
    arm7("load", 0xE5910000, 0x11223344, 0, [[1, 4, 0x8000, 0x11223344]]),  # ldr r0, [r1]
    arm7("unaligned", 0xE5910001, 0x44112233, 0, [[1, 4, 0x8001, 0x44112233]]),
    arm7("mul", 0xE0100291, 0x10000, 1 << 29, []),  # muls r0, r1, r2, whose carry means nothing
    arm7("cdp", 0xEE000000, 0, 0, []),
]
PRINTED = [
    {"id": "right", "mode": "a32", "src": "x/v6intARM", "asm": "adcs r0, r1, r2", "bytes": "0200b1e0",
     "res": "rd 0x00000004 rm 0x00000001, rn 0x00000002, carryin 1, cpsr 0x00000000"},
    {"id": "wrong", "mode": "a32", "src": "x/v6intARM", "asm": "adcs r0, r1, r2", "bytes": "0200b1e0",
     "res": "rd 0x00000003 rm 0x00000001, rn 0x00000002, carryin 1, cpsr 0x00000000"},
    {"id": "thumb", "mode": "t32", "src": "x/v6intThumb", "asm": "adds r1, r2, r3", "bytes": "d118",
     "res": "rd 0x00000000 rm 0xffffffff, rn 0x00000001, c:v-in 1, cpsr 0x60000000 ZC"},
    {"id": "hidden", "mode": "t32", "src": "x/v6intThumb", "asm": "adcs r1, r2", "bytes": "5141",
     "res": "rd 0x00000000 rm 0x00000000, c:v-in 0, cpsr 0x40000000 Z"},
    {"id": "media", "mode": "a32", "src": "x/v6media", "asm": "uadd8 r0, r1, r2", "bytes": "920f51e6",
     "res": "rd 0x0 rm 0x0, rn 0x0, carryin 0, cpsr 0x0"},
]  # fmt: skip


def power(name: str, line: str, test: str = "jm-int", mode: str = "32be") -> dict[str, object]:
    """A row of valgrind's PowerPC tests."""
    return {"id": name, "mode": mode, "src": f"x/{test}", "line": line}


POWER = [
    power("right", "addo. 7fffffff, 00000001 => 80000000 (90000000 c0000000)"),
    power("wrong", "addo. 7fffffff, 00000001 => 80000000 (80000000 c0000000)"),
    power("carry", "adde 00000001, 00000001 => 00000003 (00000000 00000000)"),
    power("signed", "addi 00000001, 0000ffff => 00000000 (00000000 00000000)"),
    power("by 0", "divw. 00000001, 00000000 => 12345678 (40000000 00000000)"),
    power("rotate", "rlwinm 80000001, 1, 0, 30 => 00000002 (00000000 00000000)", "jm-int_other"),
    power("compare", "cmpw 00000000, 00000001 => 00000000 (00800000 00000000)", "jm-int_other"),
    power("hidden", "rlwimi 00000000, 0, 0, 0 => 00000000 (00000000 00000000)", "jm-int_other"),
    power("wide", "add 0, 0 => 0 (00000000 00000000)", mode="64be"),
]  # fmt: skip


def opcode(name: str, code: str, mnemonic: str, mode: str = "32", detail: str = "") -> dict[str, object]:
    """A row of iced's decoder tests."""
    code_name = "INVALID" if mnemonic == "INVALID" else f"{mnemonic}_r32_rm32"
    return {
        "id": name,
        "mode": mode,
        "bytes": code,
        "code": code_name,
        "mnemonic": mnemonic,
        "detail": detail,
    }


OPCODES = [
    opcode("right", "03c1", "Add"),
    opcode("sized", "669d", "Popf"),
    opcode("prefixed", "f0830001", "Add"),
    opcode("wrong", "03c1", "Or"),
    opcode("longer", "03c190", "Add"),
    opcode("no instruction", "f003c1", "INVALID"),
    opcode("accepted", "03c1", "INVALID"),
    opcode("real mode", "67038001020304", "Add", mode="16"),
    opcode("wide", "4803c1", "Add", mode="64"),
    opcode("hint", "0f1c00", "Cldemote"),
    opcode("unknown", "0f37", "Getsec"),
    opcode("told", "0f1018", "Umov", detail="decopt=Umov"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "riscv/state-valgrind", STATES)
    put(tmp_path, "riscv/decode", DECODED)
    return tmp_path


def run(setup: Setup, folder: Path) -> dict[str, Row]:
    options = Options(vectors=str(folder))
    names = suite.items(setup, options)
    return {row.name: row for row in suite.run(Task("vectors", setup, options, tuple(names)))}


def test_rows_are_told_apart(setup_of: Callable[[str], Setup], folder: Path) -> None:
    rows = run(setup_of("riscv64"), folder)
    states, decoded = rows["riscv/state-valgrind:0"], rows["riscv/decode:0"]
    assert (states.cases, states.failed, states.counts) == (4, 1, {"not described": 1})
    assert states.failures[0].text.startswith("wrong")
    assert any("recorded 0x6, evaluator 0x5" in line for line in states.failures[0].details)
    assert any("recorded 0x6, engine 0x5" in line for line in states.failures[0].details)
    assert (decoded.cases, decoded.failed, decoded.counts) == (4, 1, {"other mode": 1, "not described": 1})
    assert decoded.failures[0].text.startswith("wrong")


def put(folder: Path, name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a file of vectors."""
    path = folder / f"{name}.jsonl.xz"
    path.parent.mkdir(exist_ok=True)
    with lzma.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("target", "name", "rows", "cases", "failed", "counts"),
    [
        ("i8086", "x86/state-8086-real16", HARDWARE["8086"], 10, ["flag", "stray"], {}),
        ("i8086", "x86/state-80286-real16", HARDWARE["80286"], 7, ["other trap"],
         {"instructions of more than 10 bytes": 1}),
        ("arm", "arm/state-arm7tdmi-early", ARM7, 4, ["arm7/flags"],
         {"unaligned addresses, which ARMv4 rotates or ignores": 1, "not described": 1}),
        ("arm", "arm/state-valgrind", PRINTED, 3, ["wrong"], {"hidden inputs": 1, "not described": 1}),
        ("ppc", "ppc/state-valgrind", POWER, 7, ["wrong"], {"hidden inputs": 1, "other mode": 1}),
        ("i386", "x86/decode-iced-ops", OPCODES, 8, ["wrong 03c1", "longer 03c190", "accepted 03c1"],
         {"other mode": 1, "shared with an extension not described": 1, "not described": 1,
          "with options of a decoder": 1}),
    ],
)  # fmt: skip
def test_state_files(
    setup_of: Callable[[str], Setup],
    tmp_path: Path,
    target: str,
    name: str,
    rows: list[dict[str, object]],
    cases: int,
    failed: list[str],
    counts: dict[str, int],
) -> None:
    """What agrees passes, what doesn't is told, and what can't be compared is counted apart."""
    put(tmp_path, name, rows)
    (row,) = run(setup_of(target), tmp_path).values()
    assert [failure.text.split(":")[0] for failure in row.failures] == failed, row.failures
    assert (row.cases, row.counts) == (cases, counts)


def test_the_open_rows_pass(setup_of: Callable[[str], Setup], vectors: Path) -> None:
    rows = run(setup_of("riscv64"), vectors)
    assert not [(row.name, failure) for row in rows.values() for failure in row.failures]
    assert rows["riscv/state-valgrind:0"].cases > 800
    assert rows["riscv/decode:0"].cases > 800


def test_absent_and_damaged_folders(setup_of: Callable[[str], Setup], tmp_path: Path) -> None:
    setup = setup_of("riscv64")
    with pytest.raises(IsagenError, match="no vectors"):
        suite.items(setup, Options(vectors=str(tmp_path)))
    (tmp_path / "riscv").mkdir()
    (tmp_path / "riscv" / "decode.jsonl.xz").write_bytes(b"no xz at all")
    with pytest.raises(IsagenError, match="can't be read"):
        suite.items(setup, Options(vectors=str(tmp_path)))
