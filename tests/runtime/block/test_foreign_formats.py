"""VMDK, VDI, VHD, VHDX, QED and Parallels images: what we write QEMU reads, what it writes we read; sizes
change.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.errors import ImageChainError, ImageError, ImageOption
from runtime.block.image import Image
from tests.runtime.block.guest import Guest

MIB = 1 << 20
QEMU = {"vhd": "vpc"}
SUBFORMATS: list[tuple[str, dict[str, object]]] = [
    ("vdi", {}),
    ("vdi", {"static": True}),
    ("vhd", {}),
    ("vhd", {"subformat": "fixed"}),
    ("vhd", {"force_size": False}),
    ("vhdx", {}),
    ("vhdx", {"subformat": "fixed"}),
    ("vhdx", {"block_size": "1M", "log_size": "2M"}),
    ("vmdk", {}),
    ("vmdk", {"zeroed_grain": True, "adapter_type": "lsilogic"}),
    ("vmdk", {"subformat": "monolithicFlat"}),
    ("vmdk", {"subformat": "twoGbMaxExtentSparse"}),
    ("vmdk", {"subformat": "twoGbMaxExtentFlat"}),
    ("vmdk", {"subformat": "vmfs"}),
    ("qed", {"cluster_size": 4096, "table_size": 2}),
    ("parallels", {"cluster_size": 65536}),
]
IDS = [
    ",".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in SUBFORMATS
]


def qemu(tool: str, *arguments: str | Path, ok: tuple[int, ...] = (0,)) -> str:
    result = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode in ok, (arguments, result.stdout, result.stderr)
    return result.stdout


def act(image: Image, content: bytes, count: int, seed: str) -> bytes:
    """The disk's content after `count` random requests."""
    guest = Guest(image.node, None, random.Random(seed), content)
    for _ in range(count):
        guest.act()
    return bytes(guest.content)


def judged(tool: str, path: Path, form: str, content: bytes) -> None:
    """QEMU finds nothing wrong with the image, and the same content."""
    raw = path.with_name("expected.raw")
    raw.write_bytes(content)
    name = QEMU.get(form, form)
    if name != "vpc":  # whose images it can't check
        qemu(tool, "check", "-f", name, path, ok=(0, 3) if form == "qed" else (0,))
    qemu(tool, "compare", "-f", name, "-F", "raw", path, raw)


@pytest.mark.parametrize(("form", "options"), SUBFORMATS, ids=IDS)
def test_round_trip(
    form: str, options: dict[str, object], tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    tool = require_tool("qemu-img")
    path = tmp_path / f"disk.{form}"
    with Image.create(path, form, 5 * MIB + 512, **options) as image:
        content = act(image, bytes(image.size), 30, form)
        assert image.pread(0, image.size) == content
    judged(tool, path, form, content)
    with Image.open(path, writable=True) as image:
        assert image.format == form and image.pread(0, image.size) == content
        assert sum(extent.length for extent in image.map()) == image.size
        for extent in image.map():
            assert not extent.reads_zero or not any(content[extent.offset : extent.end])
        assert image.check().exit_code == 0, image.check().problems
        for size in (9 * MIB, 3 * MIB + 512, 40 * MIB):
            image.resize(size, shrink=True)
            content = content[: image.size] + bytes(max(0, image.size - len(content)))
            assert image.size == size and image.pread(0, size) == content
            content = act(image, content, 6, f"{form}{size}")
            assert image.check().exit_code == 0, image.check().problems
    judged(tool, path, form, content)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("vdi", ""),
        ("vdi", "static=on"),
        ("vpc", ""),
        ("vpc", "force_size=on"),
        ("vpc", "subformat=fixed,force_size=on"),
        ("vhdx", ""),
        ("vhdx", "subformat=fixed,block_size=2M"),
        ("vmdk", ""),
        ("vmdk", "zeroed_grain=on"),
        ("vmdk", "subformat=monolithicFlat"),
        ("vmdk", "subformat=twoGbMaxExtentSparse"),
        ("vmdk", "subformat=twoGbMaxExtentFlat"),
        ("vmdk", "subformat=streamOptimized"),
        ("qed", ""),
        ("qed", "cluster_size=4096"),
        ("parallels", ""),
        ("parallels", "cluster_size=65536"),
    ],
)
def test_qemus_images(form: str, options: str, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    tool = require_tool("qemu-img")
    rng = random.Random(1)
    content = bytearray(6 * MIB)
    for at in (0, 3 * MIB - 700, 6 * MIB - 4096):
        content[at : at + 4096] = rng.randbytes(4096)
    raw, path = tmp_path / "disk.raw", tmp_path / f"disk.{'vhd' if form == 'vpc' else form}"
    raw.write_bytes(content)
    extra = ["-o", options] if options else []
    qemu(tool, "convert", "-f", "raw", "-O", form, *extra, raw, path)
    with Image.open(path) as image:
        size = json.loads(qemu(tool, "info", "-f", form, "--output=json", path))["virtual-size"]
        assert image.size == size
        assert image.pread(0, image.size) == bytes(content).ljust(size, b"\0")
        assert image.check().exit_code == 0, image.check().problems
    if "stream" in options:
        return
    with Image.open(path, writable=True) as image:
        content[5 * MIB : 5 * MIB + 3000] = written = rng.randbytes(3000)
        image.pwrite(5 * MIB, written)
    judged(tool, path, {"vpc": "vhd"}.get(form, form), bytes(content).ljust(size, b"\0"))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("vdi", {}),
        ("vhd", {"block_size": 65536}),
        ("vhdx", {"block_size": MIB}),
        ("vhdx", {"block_size": MIB, "logical_sector_size": 4096}),
        ("vmdk", {}),
        ("vmdk", {"subformat": "twoGbMaxExtentSparse"}),
    ],
)
def test_differencing(form: str, options: dict[str, object], tmp_path: Path) -> None:
    """A chain of three; each reads as it was, whatever is done above it."""
    paths = [tmp_path / f"{name}.{form}" for name in ("base", "middle", "top")]
    contents: list[bytes] = []
    content = b""
    for number, path in enumerate(paths):
        if number:
            image = Image.create(path, form, backing_file=paths[number - 1].name)
        else:
            image = Image.create(path, form, 3 * MIB, **options)
            content = bytes(image.size)
        with image:
            assert image.pread(0, image.size) == content
            content = act(image, content, 25, f"{form}{number}")
        with Image.open(path, writable=True) as image:
            assert image.pread(0, image.size) == content
            content = act(image, content, 10, f"{form}{number} again")
            assert image.check().exit_code == 0, image.check().problems
        contents.append(content)
    for path, expected in zip(paths, contents, strict=True):
        with Image.open(path) as image:
            assert image.pread(0, image.size) == expected
    with Image.open(paths[2], writable=True) as image:
        image.resize(5 * MIB)
        assert image.pread(0, image.size) == content + bytes(2 * MIB)
        image.resize(3 * MIB, shrink=True)
        image.node.make_empty()
        assert image.pread(0, image.size) == contents[1]
        image.node.set_backing(paths[0].name, form)
        assert image.pread(0, image.size) == contents[0]
        assert image.check().exit_code == 0, image.check().problems
    if form == "vhd":  # which has no way to tell
        return
    with Image.open(paths[0], writable=True) as image:
        image.pwrite(0, b"changed below")
    with pytest.raises(ImageChainError, match="changed"):
        Image.open(paths[2])


@pytest.mark.parametrize("form", ["vdi", "vhd", "vhdx", "vmdk", "qed"])
@pytest.mark.parametrize("keep", [False, True])
def test_commit(form: str, keep: bool, tmp_path: Path) -> None:
    """The overlay still fits the image below, whose content it has changed itself."""
    from isagen.cli import main

    base, overlay = tmp_path / f"base.{form}", tmp_path / f"overlay.{form}"
    with Image.create(base, form, 3 * MIB) as image:
        image.pwrite(0, b"base" * (MIB // 4))
    with Image.create(overlay, form, backing_file=base.name) as image:
        image.pwrite(70_001, b"overlay")
        expected = image.pread(0, image.size)
    assert main(["image", "commit", "-q", *(["-d"] if keep else []), str(overlay)]) == 0
    for path in (base, overlay):
        with Image.open(path) as image:
            assert image.pread(0, image.size) == expected


def test_libvhdi_reads_children(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    tool = require_tool("vhdiinfo")
    for form in ("vhd", "vhdx"):
        Image.create(tmp_path / f"base.{form}", form, 3 * MIB).close()
        with Image.create(tmp_path / f"child.{form}", form, backing_file=f"base.{form}") as image:
            image.pwrite(5000, b"x" * 5000)
        result = subprocess.run(
            [tool, tmp_path / f"child.{form}"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "Differential" in result.stdout and "3145728 bytes" in result.stdout
        assert "Parent identifier" in result.stdout and (form == "vhdx" or "base.vhd" in result.stdout)


def test_parents_are_of_the_same_format(tmp_path: Path) -> None:
    Image.create(tmp_path / "base.raw", "raw", MIB).close()
    for form in ("vdi", "vhd", "vhdx", "vmdk"):
        with pytest.raises(ImageError):
            Image.create(tmp_path / f"child.{form}", form, backing_file="base.raw", backing_fmt="raw")
        with pytest.raises(ImageOption):
            Image.create(tmp_path / f"child.{form}", form, MIB, subformat="nonsense")
    assert [path.name for path in tmp_path.iterdir()] == ["base.raw"]


def test_stream_optimized(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    tool = require_tool("qemu-img")
    path = tmp_path / "disk.vmdk"
    rng = random.Random(2)
    content = bytearray(40 * MIB + 512)  # more than one grain table's 32 MiB
    with Image.create(path, "vmdk", len(content), subformat="streamOptimized") as image:
        compression = image.node.compression
        assert compression is not None
        size = compression.cluster_size
        for at in range(0, len(content), 7 * size):
            content[at : at + size] = (b"text %d " % at * size)[: min(size, len(content) - at)]
            packed = compression.compress(bytes(content[at : at + size]))
            assert packed is not None and len(packed) < size // 4
            compression.write([(at, packed)])
        for _ in range(20):  # and in any order, in any pieces
            at, length = rng.randrange(len(content) - 9000), rng.randrange(1, 9000)
            content[at : at + length] = data = rng.randbytes(length)
            image.pwrite(at, data)
        assert image.pread(0, image.size) == content
    judged(tool, path, "vmdk", bytes(content))
    qemu(require_tool("7z"), "t", path)
    assert "Stream optimized" in qemu(require_tool("vmdkinfo"), path)
    with Image.open(path) as image:
        assert image.pread(0, image.size) == content and image.check().exit_code == 0
    with Image.open(path, writable=True) as image, pytest.raises(ImageError, match="written once"):
        image.pwrite(0, b"x")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1200])  # its writer died
    with pytest.raises(ImageError, match="footer is missing"):
        Image.open(path)
    with Image.open(path, writable=True, check=True) as image:
        assert image.check("all").exit_code == 0
    with Image.open(path) as image:
        assert image.pread(0, image.size) == content


@pytest.mark.parametrize("form", ["vdi", "vhd", "vhdx", "vmdk", "qed", "parallels"])
def test_large_sparse_images(form: str, tmp_path: Path) -> None:
    """10 TiB (what VHD can hold): a few blocks in a small file, found at once."""
    size = 2000 << 30 if form == "vhd" else 10 << 40
    path = tmp_path / f"disk.{form}"
    with Image.create(path, form, size) as image:
        image.pwrite(size // 2 + 77, b"middle")
        image.pwrite(size - 3, b"end")
    with Image.open(path) as image:
        assert image.pread(size // 2 + 77, 6) == b"middle" and image.pread(size - 3, 3) == b"end"
        extents = list(image.extents())
        assert sum(extent.length for extent in extents) == size and len(extents) < 10_000
        assert image.check().exit_code == 0
    assert path.stat().st_blocks * 512 < 64 * MIB


def test_repair(tmp_path: Path) -> None:
    """Two blocks in one place, a block nowhere, storage of nobody: found, and mended without losing the
    rest.
    """
    path = tmp_path / "disk.vdi"
    with Image.create(path, "vdi", 6 * MIB) as image:
        for number in range(4):
            image.pwrite(number * MIB, bytes([number + 1]) * MIB)
        entry = image.node.entry_offset(0)  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        file.seek(entry + 4)
        file.write((0).to_bytes(4, "little") + (999_999).to_bytes(4, "little"))
    with Image.open(path, check=True) as image:
        report = image.check()
        assert report.corruptions == 2 and report.exit_code == 2
        assert any(problem.offset == entry + 8 for problem in report.problems)
    with Image.open(path) as image, pytest.raises(ImageError, match="block 2"):
        image.pread(0, image.size)
    with Image.open(path, writable=True, check=True) as image:
        assert image.check("all").exit_code == 0
    with Image.open(path) as image:
        assert image.check().exit_code == 0
        expected = b"\1" * MIB + b"\1" * MIB + bytes(MIB) + b"\4" * MIB + bytes(2 * MIB)
        assert image.pread(0, image.size) == expected
