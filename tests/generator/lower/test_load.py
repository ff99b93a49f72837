"""Files on disk to targets: families, a user's own file, and what is said of missing or unreadable files."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator.errors import IsagenError, SpecErrors
from generator.load import families, family_targets, load_target
from tests.generator.lower.specs import HEADER, insn

MINE = """# rd = rs1 with its bytes in the order that rs2's low bits say
insn mine {
    bits  0000000 rs2 rs1 000 rd 0001011
    asm   "mine {rd}, {rs1}, {rs2}"
    exec  rd = rs2[0] == 1 ? byteswap(rs1) : rs1
}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "isa" / "toy"
    folder.mkdir(parents=True)
    (folder / "b.isa").write_text(insn("rd = rs1"), encoding="utf-8")
    (folder / "toy.isa").write_text(HEADER, encoding="utf-8")
    return tmp_path / "isa"


def test_a_family_is_a_folder_of_files_in_any_order(root: Path) -> None:
    assert families(root) == ["toy"]
    assert family_targets(root, "toy") == ["toy"]
    target = load_target(root, "toy", "toy")
    assert [f.mnemonic for f in target.forms] == ["t"]
    assert [name for name, _ in target.sources] == ["isa/toy/b.isa", "isa/toy/toy.isa"]


def test_a_users_file_adds_instructions(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.isa"
    mine.write_text(MINE, encoding="utf-8")
    target = load_target(root, "toy", "toy", extra=[mine])
    assert [f.mnemonic for f in target.forms] == ["t", "mine"]
    assert target.forms[-1].span.file == str(mine)


def test_missing_and_unreadable_specs_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(IsagenError, match="there is no family `z80`"):
        load_target(root, "z80", "z80")
    with pytest.raises(IsagenError, match="cannot read the spec"):
        load_target(root, "toy", "toy", extra=[tmp_path / "absent.isa"])
    binary = tmp_path / "binary.isa"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IsagenError, match="not UTF-8"):
        load_target(root, "toy", "toy", extra=[binary])


def test_an_unknown_target_names_the_nearest(root: Path) -> None:
    with pytest.raises(SpecErrors, match="did you mean `toy`"):
        load_target(root, "toy", "toi")
