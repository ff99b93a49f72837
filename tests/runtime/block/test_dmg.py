"""DMG files, written here as hdiutil lays them out; QEMU, 7z and dmg2img judge the writer."""

from __future__ import annotations

import bz2
import lzma
import plistlib
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.errors import ImageCorrupt, ImageError, ImageUnsupported
from runtime.block.image import Image
from runtime.errors import NotYetError

SECTOR = 512
PACKERS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "raw": (1, bytes),
    "zlib": (0x80000005, zlib.compress),
    "bzip2": (0x80000006, bz2.compress),
    "xz": (0x80000008, lzma.compress),
    "adc": (0x80000004, lambda data: adc(data)),
}


def adc(data: bytes) -> bytes:
    """Runs of plain bytes; 64 equal bytes at a multiple of 64 become copies."""
    out = b""
    for at in range(0, len(data), 64):
        part = data[at : at + 64]
        if part == part[:1] * 64:
            out += bytes([0x80]) + part[:1] + bytes([0x40 | (60 - 4), 0, 0]) + bytes([0 << 2, 0])
        else:
            out += bytes([0x80 | (len(part) - 1)]) + part
    return out


def make(content: bytes, kind: str, size: int = 64 * 1024) -> bytes:
    """A DMG file of the disk `content` in chunks of `size`."""
    code, pack = PACKERS[kind]
    body, chunks = b"", []
    for at in range(0, len(content), size):
        part = content[at : at + size]
        sectors = len(part) // SECTOR
        if any(part):
            packed = pack(part)
            chunks.append((code, at // SECTOR, sectors, len(body), len(packed)))
            body += packed
        else:
            chunks.append((0, at // SECTOR, sectors, len(body), 0))
    chunks.append((0xFFFFFFFF, len(content) // SECTOR, 0, len(body), 0))
    mish = struct.pack(">4sIQQQII24x", b"mish", 1, 0, len(content) // SECTOR, 0, 0x208, 0)
    mish += struct.pack(">III124x", 2, 32, zlib.crc32(content)) + struct.pack(">I", len(chunks))
    mish += b"".join(struct.pack(">IIQQQQ", one[0], 0, *one[1:]) for one in chunks)
    entry = {"Attributes": "0x0050", "CFName": "disk", "Data": mish, "ID": "0", "Name": "whole disk"}
    plist = plistlib.dumps({"resource-fork": {"blkx": [entry], "plst": []}})
    koly = bytearray(SECTOR)
    struct.pack_into(">4sIIIQQQQQII16s", koly, 0, b"koly", 4, 512, 1, 0, 0, len(body), 0, 0, 1, 1, bytes(16))
    struct.pack_into(">QQ", koly, 216, len(body), len(plist))
    struct.pack_into(">IQ", koly, 488, 1, len(content) // SECTOR)
    return body + plist + bytes(koly)


@pytest.fixture
def content() -> bytes:
    rng = random.Random(5)
    data = bytearray(700 * 1024)
    data[:100_000] = rng.randbytes(100_000)
    data[300_000:400_000] = b"some text. " * 9090 + bytes(10)
    return bytes(data)


@pytest.mark.parametrize("kind", PACKERS)
def test_read(kind: str, content: bytes, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    path = tmp_path / "disk.dmg"
    path.write_bytes(make(content, kind))
    (tmp_path / "raw").write_bytes(content)
    if kind in ("raw", "zlib", "bzip2"):  # what QEMU unpacks without further modules
        command = [require_tool("qemu-img"), "compare", "-f", "dmg", "-F", "raw", path, tmp_path / "raw"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if "bzip2" not in result.stderr:
            assert result.returncode == 0, result.stdout + result.stderr
    result = subprocess.run([require_tool("7z"), "t", path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    with Image.open(path) as image:
        assert image.format == "dmg" and image.pread(0, image.size) == content
        assert image.pread(299_999, 70_001) == content[299_999:370_000]
        assert sum(extent.length for extent in image.map()) == len(content)
        for extent in image.map():
            assert not extent.reads_zero or not any(content[extent.offset : extent.end])
    with pytest.raises(ImageUnsupported):
        Image.open(path, writable=True)


def test_lzfse_is_not_yet(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKERS, "lzfse", (0x80000007, bytes))
    path = tmp_path / "disk.dmg"
    path.write_bytes(make(content, "lzfse"))
    with Image.open(path) as image, pytest.raises(NotYetError):
        image.pread(0, 10)


def test_damage(content: bytes, tmp_path: Path) -> None:
    """Every damaged byte of trailer and tables gives a clear error, or the disk."""
    path = tmp_path / "disk.dmg"
    whole = make(content, "zlib")
    rng = random.Random(3)
    table = whole.index(b"<?xml")
    for _ in range(300):
        data = bytearray(whole)
        at = rng.randrange(table, len(data))
        data[at] = rng.randrange(256)
        path.write_bytes(data)
        try:
            with Image.open(path, "dmg") as image:
                image.pread(0, min(image.size, 1 << 20))
                assert sum(extent.length for extent in image.extents(0, min(image.size, 1 << 20))) >= 0
        except ImageError:
            pass
    path.write_bytes(
        whole.replace(zlib.compress(content[:65536]), bytes(len(zlib.compress(content[:65536]))))
    )
    with Image.open(path) as image, pytest.raises(ImageCorrupt, match="can't be unpacked"):
        image.pread(0, 10)
