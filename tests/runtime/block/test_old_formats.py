"""Formats that are only read: QCOW version 1 (made by QEMU), cloop (made here, judged by QEMU), Parallels
bundles,
ESX extents (made here, judged by QEMU).
"""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.errors import ImageCorrupt, ImageError, ImageUnsupported
from runtime.block.image import Image

KIB = 1 << 10


@pytest.fixture
def content() -> bytes:
    rng = random.Random(4)
    data = bytearray(2048 * KIB)
    data[:70_000] = rng.randbytes(70_000)
    data[1_000_000:1_200_000] = b"some text " * 20_000
    data[-512:] = rng.randbytes(512)
    return bytes(data)


def compare(tool: str, form: str, path: Path, content: bytes) -> None:
    raw = path.with_name("expected")
    raw.write_bytes(content)
    command = [tool, "compare", "-f", form, "-F", "raw", path, raw]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def reads(path: Path, form: str, content: bytes) -> None:
    with Image.open(path) as image:
        assert image.format == form and image.pread(0, image.size) == content
        assert image.pread(69_000, 2000) == content[69_000:71_000]
        assert sum(extent.length for extent in image.map()) == len(content)
        for extent in image.map():
            assert not extent.reads_zero or not any(content[extent.offset : extent.end])


@pytest.mark.parametrize("options", [[], ["-c"]])
def test_qcow1(options: list[str], content: bytes, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    raw, path = tmp_path / "raw", tmp_path / "disk.qcow"
    if options:
        content = b"".join(b"line %d of some text\n" % number for number in range(90_000))[: len(content)]
        content = content[: 600 * KIB] + bytes(900 * KIB) + content[1500 * KIB :]
        content = content.ljust(2048 * KIB, b"\0")
    raw.write_bytes(content)
    tool = require_tool("qemu-img")
    # QEMU 7.2 ends "-c" with status 1 and no message; `compare` tells that the image is whole.
    subprocess.run([tool, "convert", "-f", "raw", "-O", "qcow", *options, raw, path], check=not options)
    compare(tool, "qcow", path, content)
    reads(path, "qcow", content)
    with pytest.raises(ImageUnsupported):
        Image.open(path, writable=True)
    whole = path.read_bytes()
    rng = random.Random(6)
    for _ in range(200):
        data = bytearray(whole)
        data[rng.randrange(48)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        path.write_bytes(data)
        try:
            with Image.open(path, "qcow") as image:
                image.pread(0, min(image.size, 1 << 20))
        except ImageError:
            pass


def test_qcow1_backing(content: bytes, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    (tmp_path / "base.raw").write_bytes(content)
    command = [require_tool("qemu-img"), "create", "-f", "qcow", "-b", "base.raw", "-F", "raw", "top.qcow"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    reads(tmp_path / "top.qcow", "qcow", content)


def test_cloop(content: bytes, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    size = 64 * KIB
    head = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
    blocks = [zlib.compress(content[at : at + size]) for at in range(0, len(content), size)]
    offset = 136 + 8 * (len(blocks) + 1)
    table = [offset]
    for block in blocks:
        table.append(table[-1] + len(block))
    path = tmp_path / "disk.cloop"
    fields = struct.pack(f">II{len(table)}Q", size, len(blocks), *table)
    path.write_bytes(head.ljust(128, b"\0") + fields + b"".join(blocks))
    compare(require_tool("qemu-img"), "cloop", path, content)
    reads(path, "cloop", content)
    data = bytearray(path.read_bytes())
    data[132:136] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(ImageCorrupt, match="num_blocks"):
        Image.open(path)


def test_cowd(content: bytes, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """An ESX sparse extent (vmfsSparse): grains of a sector, tables of 4096 entries."""
    sectors = len(content) // 512
    header = struct.pack("<4sIIIIIII", b"COWD", 1, 3, sectors, 1, 4, 1, 0).ljust(2048, b"\0")
    entries, grains = [0] * 4096, b""
    for number in range(sectors):
        grain = content[number * 512 : number * 512 + 512]
        if any(grain):
            entries[number] = 5 + 32 + len(grains) // 512
            grains += grain
    extent = header + struct.pack("<128I", 5, *([0] * 127)) + struct.pack("<4096I", *entries) + grains
    (tmp_path / "disk-delta.vmdk").write_bytes(extent)
    path = tmp_path / "disk.vmdk"
    path.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        f'createType="vmfsSparse"\nRW {sectors} VMFSSPARSE "disk-delta.vmdk"\n'
    )
    compare(require_tool("qemu-img"), "vmdk", path, content)
    reads(path, "vmdk", content)


def test_sesparse(content: bytes, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """vSphere's space-efficient extents: 64-bit entries with their kind in the top bits."""
    sectors, grain = len(content) // 512, 4096
    grains = [content[at : at + grain] for at in range(0, len(content), grain)]
    directory, tables, data = 16, 17, 17 + 64
    stored = [part for part in grains if any(part)]
    entries, number = [], 0
    for part in grains:
        if any(part):
            entries.append(3 << 60 | (number & 0xFFF) << 48 | number >> 12)
            number += 1
        else:
            entries.append(1 << 60 if len(entries) % 2 else 0)
    fields = [0xCAFEBABE, 0x200000001, sectors, 8, 64, 0, 0, 0, 0, 0, 1, 1, 2, 2, 4, 4]
    fields += [directory, 1, tables, 64, 8, 1, 9, 1, data, len(stored) * 8]
    extent = bytearray(data * 512) + b"".join(stored)
    struct.pack_into("<26Q", extent, 0, *fields)
    struct.pack_into("<Q", extent, 512, 0xCAFECAFE)
    struct.pack_into("<Q", extent, directory * 512, 0x10000000 << 32)
    struct.pack_into(f"<{len(entries)}Q", extent, tables * 512, *entries)
    (tmp_path / "disk-sesparse.vmdk").write_bytes(extent)
    path = tmp_path / "disk.vmdk"
    path.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        f'createType="seSparse"\nRW {sectors} SESPARSE "disk-sesparse.vmdk"\n'
    )
    compare(require_tool("qemu-img"), "vmdk", path, content)
    reads(path, "vmdk", content)


def test_parallels_bundle(content: bytes, tmp_path: Path) -> None:
    """Two parts, the first with a snapshot below its current image."""
    half = len(content) // 2
    base, top = "{5fbaabe3-6958-40ff-92a7-860e329aab41}", "{11111111-2222-3333-4444-555555555555}"
    for name, data in (("a0.hds", b"\xaa" * half), ("b0.hds", content[half:])):
        with Image.create(tmp_path / name, "parallels", half, cluster_size=65536) as image:
            image.pwrite(0, data)
    expected = bytearray(b"\xaa" * half + content[half:])
    with Image.create(tmp_path / "a1.hds", "parallels", half, cluster_size=65536) as image:
        image.pwrite(65536, content[65536:131072])
    expected[65536:131072] = content[65536:131072]

    def storage(start: int, files: dict[str, str]) -> str:
        images = "".join(
            f"<Image><GUID>{guid}</GUID><Type>Compressed</Type><File>{file}</File></Image>"
            for guid, file in files.items()
        )
        end = start + half // 512
        return f"<Storage><Start>{start}</Start><End>{end}</End><Blocksize>128</Blocksize>{images}</Storage>"

    def descriptor(entity: str = "") -> str:
        return (
            f"<?xml version='1.0' encoding='UTF-8'?>{entity}<Parallels_disk_image Version='1.0'>"
            f"<Disk_Parameters><Disk_size>{len(content) // 512}</Disk_size></Disk_Parameters><StorageData>"
            + storage(0, {base: "a0.hds", top: "a1.hds"})
            + storage(half // 512, {top: "b0.hds"})
            + f"</StorageData><Snapshots><TopGUID>{top}</TopGUID>"
            f"<Shot><GUID>{top}</GUID><ParentGUID>{base}</ParentGUID></Shot></Snapshots></Parallels_disk_image>"
        )

    path = tmp_path / "DiskDescriptor.xml"
    path.write_text(descriptor())
    reads(path, "parallels", bytes(expected))
    path.write_text(descriptor("<!DOCTYPE x [<!ENTITY a 'b'>]>"))
    with pytest.raises(ImageCorrupt):
        Image.open(path)
