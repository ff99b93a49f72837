"""Repairs of images whose block tables are wrong: what can be read before can be read afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from runtime.block.errors import ImageError
from runtime.block.image import Image

MIB = 1 << 20


def entries_of(image: Image, path: Path, form: str) -> tuple[list[int], int, Literal["little", "big"]]:
    """Where the table has the first six blocks, as offsets in the file; bytes of an entry; byte order."""
    if form == "vmdk":  # the offsets of the redundant grain directory and the other: sparse extent header
        header = path.read_bytes()[:512]
        directory = int.from_bytes(header[56:64], "little") * 512
        table = int.from_bytes(path.read_bytes()[directory : directory + 4], "little") * 512
        return [table + 4 * number for number in range(6)], 4, "little"
    width = 8 if form in ("vhdx", "qed") else 4
    places = [image.node.entry_offset(number) for number in range(6)]  # type: ignore[attr-defined]
    return places, width, "big" if form == "vhd" else "little"


def with_six_blocks(path: Path, form: str, size: int, block: int, **options: Any) -> None:
    with Image.create(path, form, size, **options) as image:
        for number in range(6):
            image.pwrite(number * block, bytes([number + 1]) * block)


@pytest.mark.parametrize(
    ("form", "block", "options"),
    [
        ("vhd", 4096, {"block_size": 4096}),
        ("vhd", 2 * MIB, {}),
        ("vhdx", MIB, {"block_size": MIB}),
        ("parallels", 4096, {"cluster_size": 4096}),
        ("vdi", MIB, {}),
        ("qed", 65536, {}),
        ("vmdk", 65536, {}),
    ],
)
def test_repaired_blocks_that_shared_storage_keep_their_data(
    tmp_path: Path, form: str, block: int, options: dict[str, Any]
) -> None:
    path = tmp_path / f"disk.{form}"
    with_six_blocks(path, form, 64 * MIB, block, **options)
    with Image.open(path) as image:
        places, width, _ = entries_of(image, path, form)
    raw = bytearray(path.read_bytes())
    for number in (4, 5):
        raw[places[number] : places[number] + width] = raw[places[1] : places[1] + width]
    path.write_bytes(raw)
    with Image.open(path, check=True) as image:
        assert image.check().corruptions == 2
    with Image.open(path, writable=True, check=True) as image:
        report = image.check("all")
        assert (report.corruptions, report.corruptions_fixed, report.exit_code) == (0, 2, 0)
    with Image.open(path, writable=True) as image:
        assert image.check().exit_code == 0
        assert [set(image.pread(number * block, block)) for number in range(7)] == [
            {1}, {2}, {3}, {4}, {2}, {2}, {0}
        ]  # fmt: skip
        image.pwrite(5 * block, b"\7" * block)
        image.pwrite(6 * block, b"\x08" * block)
    with Image.open(path) as image:
        assert image.check().exit_code == 0
        assert [image.pread(number * block, 1)[0] for number in range(7)] == [1, 2, 3, 4, 2, 7, 8]


def test_repaired_blocks_that_lay_across_others_keep_what_they_read_as(tmp_path: Path) -> None:
    path = tmp_path / "disk.vhd"
    with_six_blocks(path, "vhd", MIB, 4096, block_size=4096)
    with Image.open(path) as image:
        places, width, order = entries_of(image, path, "vhd")
    raw = bytearray(path.read_bytes())
    second = int.from_bytes(raw[places[1] : places[1] + width], order)
    for number in (4, 5):
        raw[places[number] : places[number] + width] = (second + 2).to_bytes(width, order)
    path.write_bytes(raw)
    with Image.open(path, check=True) as image:
        assert image.check().corruptions == 2
        expected = image.pread(0, MIB)
    with Image.open(path, writable=True, check=True) as image:
        assert image.check("all").exit_code == 0
    with Image.open(path) as image:
        assert image.check().exit_code == 0
        assert image.pread(0, MIB) == expected


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    ("form", "options"), [("vhd", {"block_size": 4096}), ("parallels", {"cluster_size": 4096})]
)
def test_repair_of_very_many_entries(tmp_path: Path, form: str, options: dict[str, Any], every: int) -> None:
    """Most of a long table leads out of the file."""
    path = tmp_path / f"disk.{form}"
    with_six_blocks(path, form, 256 * MIB, 4096, **options)
    with Image.open(path) as image:
        places, width, order = entries_of(image, path, form)
    raw = bytearray(path.read_bytes())
    bad = (1 << 30).to_bytes(width, order)
    wrong = range(6, 65536, every)
    for number in wrong:
        at = places[0] + number * width
        raw[at : at + width] = bad
    path.write_bytes(raw)
    with Image.open(path, check=True) as image:
        assert image.check().exit_code == 2
    with Image.open(path, writable=True, check=True) as image:
        report = image.check("all")
        assert (report.exit_code, report.corruptions_fixed, len(report.problems)) == (0, len(wrong), 1000)
    assert path.stat().st_size == len(raw)
    with Image.open(path) as image:
        assert image.check().exit_code == 0
        assert image.pread(0, 8 * 4096) == b"".join(bytes([n + 1]) * 4096 for n in range(6)) + bytes(8192)


def test_repair_gives_up_where_most_storage_is_shared(tmp_path: Path) -> None:
    path = tmp_path / "disk.vdi"
    with Image.create(path, "vdi", 64 << 30) as image:
        image.pwrite(0, b"x")
        table = image.node.entry_offset(0)  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        file.seek(table)
        file.write(bytes(4 * 65536))
        file.truncate(64 << 30)  # so there would be room
    with Image.open(path, writable=True, check=True) as image, pytest.raises(ImageError, match="share"):
        image.check("all")


def test_an_entry_out_of_the_file_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    """New blocks go behind what the file has, not behind what such an entry says."""
    path = tmp_path / "disk.vhd"
    with_six_blocks(path, "vhd", 64 * MIB, 2 * MIB)
    with Image.open(path) as image:
        places, width, order = entries_of(image, path, "vhd")
    length = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(places[5])
        file.write((1 << 30).to_bytes(width, order))
    with Image.open(path, writable=True) as image:
        image.pwrite(14 * MIB, b"new")
    assert path.stat().st_size <= length + 3 * MIB
    with Image.open(path) as image:
        assert image.pread(14 * MIB, 3) == b"new"
        assert image.pread(8 * MIB, 1) == b"\5"


@pytest.mark.parametrize(
    ("form", "block", "options"),
    [("vhd", 2 * MIB, {}), ("vhdx", MIB, {"block_size": MIB}), ("vmdk", 65536, {})],
)
def test_repaired_blocks_of_overlays_keep_what_is_below(
    tmp_path: Path, form: str, block: int, options: dict[str, Any]
) -> None:
    """Blocks of which only some sectors are stored share their storage with another."""
    below, path = tmp_path / f"below.{form}", tmp_path / f"disk.{form}"
    with_six_blocks(below, form, 64 * MIB, block, **options)
    with Image.create(path, form, 64 * MIB, backing_file=str(below), **options) as image:
        for number in range(6):
            image.pwrite(number * block + 512 * number, bytes([number + 16]) * 1024)
        image.pwrite(5 * block, b"\x20" * block)
    with Image.open(path) as image:
        places, width, _ = entries_of(image, path, form)
    raw = bytearray(path.read_bytes())
    for number in (3, 5):
        raw[places[number] : places[number] + width] = raw[places[1] : places[1] + width]
    path.write_bytes(raw)
    with Image.open(path) as image:
        expected = image.pread(0, 8 * block)
    with Image.open(path, writable=True, check=True) as image:
        report = image.check("all")
        assert (report.exit_code, report.corruptions_fixed) == (0, 2)
    with Image.open(path) as image:
        assert image.check().exit_code == 0
        assert image.pread(0, 8 * block) == expected
