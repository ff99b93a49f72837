"""Folders of targets that can't be used give one error each."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cpu.engine import TargetPackage, load_target
from runtime.errors import IsagenError


@pytest.fixture
def folder(toy: TargetPackage, tmp_path: Path) -> Path:
    """A copy of the toy's folder, with the record that a build makes."""
    copy = tmp_path / "toy"
    shutil.copytree(toy.directory, copy)
    files = {
        path.name: zlib.crc32(path.read_bytes()) for path in copy.iterdir() if path.is_file()
    }
    (copy / "build.json").write_text(json.dumps({"checks": files}))
    return copy


def test_a_whole_folder_loads(folder: Path) -> None:
    assert load_target(folder).name == "toy"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("code.image", lambda data: data[:5000]),
        ("code.image", lambda data: b""),
        ("decoder.bin", lambda data: data[:100]),
        ("decoder.bin", lambda data: b"\0" * 8 + data[8:]),
        ("engine.json", lambda data: b"{"),
        ("engine.json", lambda data: b"[]"),
        ("engine.json", lambda data: b"{}"),
        ("build.json", lambda data: b"{}"),
    ],
)
def test_damaged_files(folder: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IsagenError, match="isagen build"):
        load_target(folder)


@pytest.mark.parametrize("name", ["code.image", "decoder.bin", "engine.json"])
def test_missing_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(IsagenError, match="isagen build"):
        load_target(folder)
