"""Partitions, and files of the file systems in them."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.errors import ImageCorrupt, ImageError, ImageNotFound
from runtime.block.filter.slice import SliceNode
from runtime.block.format.raw import RawNode
from runtime.block.image import Image
from runtime.block.inside.files import FileSystem
from runtime.block.inside.isolation import isolated
from runtime.block.inside.partitions import partitions
from runtime.block.inside.signatures import file_system
from runtime.block.inside.writing import put
from runtime.block.node import Node
from runtime.block.protocol.file import FileNode
from runtime.block.protocol.memory import MemoryNode

MIB = 1 << 20


def mbr(*entries: tuple[int, int, int]) -> bytes:
    """A boot record with (type, first sector, sectors)."""
    sector = bytearray(512)
    for number, (kind, start, count) in enumerate(entries):
        struct.pack_into(
            "<B3xB3xII", sector, 446 + 16 * number, 0x80 if number == 0 else 0, kind, start, count
        )
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def sparse(size: int, *pieces: tuple[int, bytes]) -> Node:
    node = MemoryNode()
    node.resize(size)
    for offset, data in pieces:
        node.pwrite(offset, data)
    return node


def test_primary_and_logical_partitions() -> None:
    disk = sparse(
        100 * MIB,
        (0, mbr((0x83, 2048, 2048), (0x05, 8192, 100_000))),
        (8192 * 512, mbr((0x0C, 64, 1000), (0x05, 20_000, 5000))),
        (28_192 * 512, mbr((0x82, 64, 2000))),
    )
    found = [(p.number, p.offset // 512, p.length // 512, p.type, p.bootable) for p in partitions(disk)]
    assert found == [
        (1, 2048, 2048, "Linux", True),
        (5, 8192 + 64, 1000, "FAT32", True),
        (6, 28_192 + 64, 2000, "Linux swap", True),
    ]


def test_a_chain_that_comes_back_is_an_error() -> None:
    disk = sparse(
        100 * MIB,
        (0, mbr((0x05, 8192, 100_000))),
        (8192 * 512, mbr((0x0C, 64, 1000), (0x05, 20_000, 5000))),
        (28_192 * 512, mbr((0x0C, 64, 1000), (0x05, 20_000, 5000))),
    )
    with pytest.raises(ImageCorrupt, match="comes back"):
        partitions(disk)


@pytest.mark.parametrize("start, count", [(2048, 0xFFFF_FFFF), (0xFFFF_FFFF, 1)])
def test_partitions_outside_are_errors(start: int, count: int) -> None:
    with pytest.raises(ImageCorrupt, match="outside"):
        partitions(sparse(10 * MIB, (0, mbr((0x83, start, count)))))


def gpt(size: int, *entries: tuple[str, int, int, str], damage: str = "") -> Node:
    """A disk with a GPT and its backup: (type, first, last sector, name)."""
    table = b"".join(
        uuid.UUID(kind).bytes_le
        + os.urandom(16)
        + struct.pack("<QQQ", first, last, 0)
        + name.encode("utf-16-le").ljust(72, b"\0")
        for kind, first, last, name in entries
    ).ljust(128 * 128, b"\0")
    end = size // 512 - 1

    def header(own: int, other: int, at: int) -> bytes:
        def make(checksum: int) -> bytes:
            return struct.pack(
                "<8sIII4xQQQQ16sQIII",
                *(b"EFI PART", 0x10000, 92, checksum, own, other, 34, end - 33, bytes(16), at, 128, 128),
                zlib.crc32(table),
            )

        return make(zlib.crc32(make(0)))

    node = sparse(
        size,
        (0, mbr((0xEE, 1, end))),
        (512, header(1, end, 2)),
        (1024, table),
        ((end - 32) * 512, table),
        (end * 512, header(end, 1, end - 32)),
    )
    if damage == "header":
        node.pwrite(512 + 40, b"\xff")
    if damage in ("table", "tables"):
        node.pwrite(1024 + 35, b"\x55")
    if damage == "tables":
        node.pwrite((end - 32) * 512 + 35, b"\x55")
    return node


LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


@pytest.mark.parametrize("damage", ["", "header", "table"])
def test_gpt_and_its_backup(damage: str) -> None:
    disk = gpt(10 * MIB, (LINUX, 2048, 4095, "röot"), (str(uuid.UUID(int=7)), 4096, 4096, ""), damage=damage)
    assert [(p.number, p.offset, p.length, p.type, p.name) for p in partitions(disk)] == [
        (1, MIB, MIB, "Linux", "röot"),
        (2, 2 * MIB, 512, str(uuid.UUID(int=7)), ""),
    ]


def test_a_damaged_gpt_is_an_error() -> None:
    with pytest.raises(ImageCorrupt, match="damaged"):
        partitions(gpt(10 * MIB, (LINUX, 2048, 4095, ""), damage="tables"))
    with pytest.raises(ImageCorrupt, match="outside"):
        partitions(gpt(10 * MIB, (LINUX, 2048, 1 << 40, "")))
    with pytest.raises(ImageCorrupt, match="ends before"):
        partitions(gpt(10 * MIB, (LINUX, 4096, 4000, "")))


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_partitions_or_is_an_error(seed: int) -> None:
    head = bytearray(random.Random(seed).randbytes(64 << 10))
    head[510:512] = b"\x55\xaa"
    for entry in range(4):
        head[446 + 16 * entry] &= 0x80
    with contextlib.suppress(ImageCorrupt):
        partitions(sparse(MIB, (0, bytes(head))))
    assert partitions(sparse(0)) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "hostname").write_text("old\n")
    (root / "etc" / "hostname").chmod(0o640)
    (root / "big").write_bytes(random.Random(1).randbytes(2_500_000))
    (root / "link").symlink_to("etc/hostname")
    (root / "absolute").symlink_to("/link")
    (root / "loop").symlink_to("loop")
    return root


@pytest.fixture
def disk(tree: Path, tmp_path: Path, require_tool: Callable[..., str]) -> Path:
    """A raw disk: partition 1 ext4, partition 2 FAT."""
    ext, fat = tmp_path / "ext", tmp_path / "fat"
    for path in (ext, fat):
        path.touch()
        os.truncate(path, 12 * MIB)
    subprocess.run([require_tool("mke2fs", "/sbin/mke2fs"), "-q", "-t", "ext4", "-d", tree, ext], check=True)
    subprocess.run([require_tool("mkfs.vfat", "/sbin/mkfs.vfat"), fat], check=True, capture_output=True)
    subprocess.run([require_tool("mcopy"), "-i", fat, "-s", tree / "etc", tree / "big", "::/"], check=True)
    path = tmp_path / "disk.raw"
    path.write_bytes(
        mbr((0x83, 2048, 24_576), (0x0C, 26_624, 24_576)).ljust(MIB, b"\0")
        + ext.read_bytes()
        + fat.read_bytes()
    )
    return path


def volume(disk: Node, number: int) -> Node:
    partition = partitions(disk)[number - 1]
    return SliceNode(disk, partition.offset, partition.length, read_only=False)


def test_reading_files(disk: Path, tree: Path) -> None:
    with Image.open(disk, "raw") as image:
        ext, fat = volume(image.node, 1), volume(image.node, 2)
        assert (file_system(ext), file_system(fat)) == ("ext", "fat")
        for system in (FileSystem(ext), FileSystem(fat)):
            assert b"".join(system.read("/etc/hostname")) == b"old\n"
            assert b"".join(system.read("//etc/../big")) == (tree / "big").read_bytes()
            with pytest.raises(ImageNotFound):
                list(system.read("/etc/absent"))
            with pytest.raises(ImageError):
                list(system.read("/etc"))
        system = FileSystem(ext)
        names = {entry.name: entry for entry in system.entries("/")}
        assert names.keys() == {"lost+found", "etc", "big", "link", "absolute", "loop"}
        assert (names["big"].type, names["big"].size) == ("file", 2_500_000)
        assert (names["link"].type, names["link"].target) == ("link", "etc/hostname")
        assert [entry.mode & 0o777 for entry in system.entries("/etc")] == [0o640]
        assert b"".join(system.read("/absolute")) == b"old\n"
        with pytest.raises(ImageNotFound, match="links"):
            list(system.read("/loop"))
        assert b"".join(FileSystem(fat).read("/ETC/HostName")) == b"old\n"


@pytest.mark.parametrize("format", ["raw", "qcow2", "vdi"])
def test_putting_files(format: str, disk: Path, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    require_tool("debugfs", "/sbin/debugfs")
    path = disk
    if format != "raw":
        path = tmp_path / f"disk.{format}"
        subprocess.run([require_tool("qemu-img"), "convert", "-O", format, disk, path], check=True)
    source = tmp_path / "new"
    source.write_bytes(random.Random(2).randbytes(300_000))
    with Image.open(path, format, writable=True) as image:
        for number in (1, 2):
            put(volume(image.node, number), source, "/etc/hostname", mode=0o600)
            put(volume(image.node, number), source, "/a new file")
            put(volume(image.node, number), source, "/Überlänge, mit Leerzeichen.ñandú")
            with pytest.raises(ImageError):
                put(volume(image.node, number), source, "/absent/file")
    raw = tmp_path / "after"
    subprocess.run([require_tool("qemu-img"), "convert", "-f", format, "-O", "raw", path, raw], check=True)
    data = raw.read_bytes()
    (tmp_path / "e").write_bytes(data[MIB : 13 * MIB])
    (tmp_path / "f").write_bytes(data[13 * MIB :])
    subprocess.run(
        [require_tool("e2fsck", "/sbin/e2fsck"), "-fn", tmp_path / "e"], check=True, capture_output=True
    )
    subprocess.run(
        [require_tool("fsck.vfat", "/sbin/fsck.vfat"), "-n", tmp_path / "f"], check=True, capture_output=True
    )
    for number in (1, 2):
        with FileNode(raw) as node:
            system = FileSystem(volume(node, number))
            for name in ("/etc/hostname", "/a new file", "/Überlänge, mit Leerzeichen.ñandú"):
                assert b"".join(system.read(name)) == source.read_bytes()
            if number == 1:
                assert [entry.mode & 0o777 for entry in system.entries("/etc/hostname")] == [0o600]


def test_what_does_not_fit_changes_nothing(disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "huge"
    source.write_bytes(bytes(range(256)) * 80_000)
    before = disk.read_bytes()
    with Image.open(disk, "raw", writable=True) as image:
        for number in (1, 2):
            with pytest.raises(ImageError):
                put(volume(image.node, number), source, "/huge")
    assert disk.read_bytes() == before


def test_a_journal_to_be_replayed_is_left_alone(disk: Path, tmp_path: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(MIB + 0x460)
        flags = file.read(1)[0]
        file.seek(MIB + 0x460)
        file.write(bytes([flags | 4]))
    (tmp_path / "x").write_text("x")
    with Image.open(disk, "raw", writable=True) as image, pytest.raises(ImageError, match="journal"):
        put(volume(image.node, 1), tmp_path / "x", "/x")


def test_a_reader_that_dies_or_wants_too_much_is_an_error() -> None:
    assert isolated(lambda: 7) == 7

    def die() -> int:
        os.kill(os.getpid(), 9)
        return 0

    def grow() -> int:
        return len(bytearray(1 << 40))

    def fail() -> int:
        raise ImageError("own words")

    for function, text in ((die, "SIGKILL"), (grow, "memory"), (fail, "own words")):
        with pytest.raises(ImageError, match=text):
            isolated(function)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_file_systems_are_survived(seed: int, disk: Path) -> None:
    """Errors, or whatever is still there; never a crash of this process."""
    data = bytearray(disk.read_bytes()[MIB : 13 * MIB])
    generator = random.Random(seed)
    for _ in range(400):
        at = generator.choice((1024 + generator.randrange(300), generator.randrange(200_000)))
        data[at] = generator.randrange(256)
    node = RawNode(MemoryNode(bytes(data)), writable=False)

    def look() -> int:
        system = FileSystem(node)
        for path in ("/", "/etc", "/lost+found"):
            list(system.entries(path))
        list(system.read("/big"))
        return 0

    with contextlib.suppress(ImageError):
        isolated(look)
