"""Copying, comparing, committing and rebasing, each against plain bytes."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.block.errors import ImageError, ImageIOError, ImageRange, ImageUnsupported
from runtime.block.filter.joined import JoinedNode
from runtime.block.filter.slice import SliceNode
from runtime.block.format.raw import RawNode
from runtime.block.image import Image
from runtime.block.jobs import convert as converting
from runtime.block.jobs import journal
from runtime.block.jobs.bench import Workload, bench
from runtime.block.jobs.commit import commit
from runtime.block.jobs.compare import compare
from runtime.block.jobs.convert import Request, convert, identity_of
from runtime.block.jobs.copy import CopyOptions, copy
from runtime.block.jobs.mapping import joined
from runtime.block.jobs.pipeline import ordered
from runtime.block.jobs.rebase import absorb
from runtime.block.jobs.zeroes import is_zero, runs
from runtime.block.node import Buffer, ExtentKind
from runtime.block.protocol.file import FileNode
from runtime.block.protocol.memory import MemoryNode

MIB = 1 << 20


def patchwork(seed: int, size: int) -> bytes:
    """Random stretches of noise, text and zeroes, at odd places."""
    generator = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        length = generator.choice((100, 4096, 70_000, 300_000, 1_500_000))
        kind = generator.randrange(3)
        data += (
            generator.randbytes(length)
            if kind == 0
            else bytes(length)
            if kind == 1
            else b"text " * (length // 5)
        )
    return bytes(data[:size])


def memory(content: bytes, *, room: int | None = None) -> RawNode:
    """A raw disk in memory."""
    node = MemoryNode(content)
    if room is not None:
        node.resize(room)
    return RawNode(node, writable=True)


@pytest.mark.parametrize("unit", [1, 512, 4096])
@pytest.mark.parametrize("seed", range(3))
def test_runs_of_zeroes(seed: int, unit: int) -> None:
    data = patchwork(seed, 20_000 if unit == 1 else 300_123)
    found = list(runs(data, unit))
    assert sum(length for _, length, _ in found) == len(data)
    assert all(is_zero(data[at : at + length]) for at, length, zero in found if zero)
    assert all(a[2] is not b[2] and a[0] + a[1] == b[0] for a, b in pairwise(found))
    written = bytearray(len(data))
    for at, length, zero in found:
        if not zero:
            written[at : at + length] = data[at : at + length]
    assert written == data


def test_results_come_in_order_and_errors_end_it() -> None:
    assert list(ordered(lambda n: n * n, range(100), workers=3)) == [n * n for n in range(100)]
    taken = []

    def items() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    with pytest.raises(ZeroDivisionError):
        list(ordered(lambda n: 1 // (5 - n), items(), workers=2, ahead=4))  # type: ignore[arg-type]
    assert len(taken) < 20


@pytest.mark.parametrize(
    "options", [CopyOptions(), CopyOptions(sparse=0), CopyOptions(sparse=65536, workers=1)]
)
def test_a_copy_is_the_same(options: CopyOptions) -> None:
    content = patchwork(1, 5 * MIB + 77)
    target = memory(b"", room=len(content))
    result = copy(memory(content), target, options)
    assert target.pread(0, len(content)) == content
    if options.sparse == 0:
        assert result.copied == len(content)
    else:
        assert result.zeroed > 0 and result.copied < len(content)


def test_a_copy_over_old_content_writes_zeroes_too() -> None:
    content = patchwork(2, 3 * MIB)
    target = memory(b"\xff" * len(content))
    copy(memory(content), target, CopyOptions(target_is_zero=False))
    assert target.pread(0, len(content)) == content


def test_a_copy_starts_where_it_is_told() -> None:
    content = patchwork(3, 2 * MIB)
    target = memory(b"", room=len(content))
    copy(memory(content), target, CopyOptions(start=MIB))
    assert target.pread(MIB, MIB) == content[MIB:]
    assert is_zero(target.pread(0, MIB))


class Failing(MemoryNode):
    """Can't read one block."""

    def pread(self, offset: int, length: int) -> bytes:
        if offset <= MIB < offset + length:
            raise ImageIOError("broken", errno=5)
        return super().pread(offset, length)


def test_what_cannot_be_read_ends_the_copy_or_becomes_zeroes() -> None:
    content = random.Random(4).randbytes(2 * MIB)
    source = RawNode(Failing(content), writable=False)
    with pytest.raises(ImageIOError):
        copy(source, memory(b"", room=len(content)), CopyOptions())
    target = memory(b"", room=len(content))
    result = copy(source, target, CopyOptions(salvage=True))
    assert result.unreadable == 4096
    assert target.pread(0, len(content)) == content[:MIB] + bytes(4096) + content[MIB + 4096 :]


def test_comparing_finds_the_first_byte() -> None:
    content = patchwork(5, 4 * MIB)
    for offset in (0, 1, 999_999, MIB, 4 * MIB - 1):
        changed = bytearray(content)
        changed[offset] ^= 1
        difference = compare(memory(content), memory(bytes(changed)))
        assert difference is not None and difference.offset == offset
    assert compare(memory(content), memory(content)) is None


def test_comparing_disks_of_two_sizes() -> None:
    content = patchwork(6, MIB)
    assert compare(memory(content), memory(content, room=3 * MIB)) is None
    assert compare(memory(content), memory(content, room=3 * MIB), strict=True) is not None
    longer = memory(content + bytes(MIB) + b"x")
    difference = compare(longer, memory(content))
    assert difference is not None and difference.offset == 2 * MIB
    assert compare(memory(b""), memory(b"")) is None


def test_joined_and_sliced_disks() -> None:
    parts = [patchwork(n, size) for n, size in ((1, 100_000), (2, 0), (3, 513), (4, 70_000))]
    whole = b"".join(parts)
    node = JoinedNode([memory(part) for part in parts])
    assert node.pread(0, node.length()) == whole
    assert node.pread(99_990, 600) == whole[99_990:100_590]
    assert sum(extent.length for extent in node.extents(5, 100_300)) == 100_300
    piece = SliceNode(node, 90_000, 12_000)
    assert piece.pread(0, 12_000) == whole[90_000:102_000]
    assert piece.pread(11_999, 3) == whole[101_999:102_000] + bytes(2)
    assert sum(extent.length for extent in piece.extents()) == 12_000
    with pytest.raises(ImageRange):
        SliceNode(node, 90_000, len(whole))


def chain(folder: Path) -> tuple[Path, bytes]:
    """base <- mid <- top, each longer than the one below and with data and zeroes of its own."""
    model = bytearray(patchwork(7, 2 * MIB))
    with Image.create(folder / "base.qcow2", "qcow2", len(model)) as image:
        image.pwrite(0, model)
    for name, below, size in (("mid", "base", 2 * MIB + 65536), ("top", "mid", 3 * MIB)):
        model += bytes(size - len(model))
        options = {"backing_file": f"{below}.qcow2", "backing_fmt": "qcow2"}
        with Image.create(folder / f"{name}.qcow2", "qcow2", size, **options) as image:
            generator = random.Random(name)
            for _ in range(6):
                offset = generator.randrange(size - 100_000)
                data = generator.randbytes(generator.randrange(1, 100_000))
                image.pwrite(offset, data)
                model[offset : offset + len(data)] = data
            offset = generator.randrange(size - 200_000)
            image.write_zeroes(offset, 200_000)
            model[offset : offset + 200_000] = bytes(200_000)
    return folder / "top.qcow2", bytes(model)


def content_of(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.pread(0, image.size)


def test_committing_down_a_chain(tmp_path: Path) -> None:
    _, model = chain(tmp_path)
    for name, below in (("mid", "base"), ("top", "base")):
        with (
            Image.open(tmp_path / f"{name}.qcow2", backing=False) as layer,
            Image.open(tmp_path / f"{below}.qcow2", writable=True) as base,
        ):
            commit(layer.node, base.node)
    assert content_of(tmp_path / "base.qcow2") == model


@pytest.mark.parametrize("where", ["base", "other", "nothing"])
def test_rebasing_changes_nothing_to_be_seen(where: str, tmp_path: Path) -> None:
    top, model = chain(tmp_path)
    with Image.create(tmp_path / "other.qcow2", "qcow2", MIB) as image:
        image.pwrite(0, patchwork(8, MIB))
    reference = None if where == "nothing" else f"{where}.qcow2"
    with Image.open(top, writable=True) as image:
        if reference is None:
            absorb(image.node, None)
        else:
            with Image.open(tmp_path / reference) as new:
                absorb(image.node, new.node, shared=2 if where == "base" else None)
        image.node.set_backing(reference, "qcow2" if reference else None)
    (tmp_path / "mid.qcow2").unlink()
    assert content_of(top) == model


@pytest.mark.parametrize("base, shared", [("base", 2), ("base", None), ("mid", 1), ("other", None)])
def test_copying_onto_a_backing_file(base: str, shared: int | None, tmp_path: Path) -> None:
    top, model = chain(tmp_path)
    with Image.create(tmp_path / "other.qcow2", "qcow2", 2 * MIB) as image:
        image.pwrite(MIB // 2, patchwork(8, MIB))
    options = {"backing_file": f"{base}.qcow2", "backing_fmt": "qcow2"}
    with (
        Image.open(top) as source,
        Image.create(tmp_path / "copy.qcow2", "qcow2", len(model), **options) as target,
        Image.open(tmp_path / f"{base}.qcow2") as below,
    ):
        result = copy(source.node, target.node, CopyOptions(base=below.node, shared=shared))
        assert result.skipped > 0
    assert content_of(tmp_path / "copy.qcow2") == model


def test_mapping_joins_neighbours() -> None:
    node = memory(b"x" * MIB, room=4 * MIB)
    assert [(e.offset, e.length, e.kind) for e in joined(node)] == [
        (0, MIB, ExtentKind.DATA),
        (MIB, 3 * MIB, ExtentKind.HOLE),
    ]


def test_benchmarks_stay_inside() -> None:
    node = memory(bytes(100_000))
    assert bench(node, Workload(count=500, depth=7, size=4096, step=12_345)) >= 0
    bench(node, Workload(count=50, size=1000, offset=3, write=True, pattern=9, flush_interval=5))
    assert node.pread(3, 1000) == b"\x09" * 1000
    with pytest.raises(ImageError):
        bench(node, Workload(size=200_000))


# Conversions


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(patchwork(9, 24 * MIB))
    return path


def request(source: Path, image: Image, target: Path, format: str, **more: object) -> Request:
    return Request(image.node, identity_of(str(source), image.node), str(target), format, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "format, options, compressed",
    [
        ("raw", {}, False),
        ("qcow2", {}, False),
        ("qcow2", {}, True),
        ("qcow2", {"compression_type": "zstd", "cluster_size": "4k"}, True),
        ("vdi", {}, False),
        ("vmdk", {}, False),
        ("vmdk", {"subformat": "streamOptimized"}, True),
        ("vmdk", {"subformat": "twoGbMaxExtentSparse"}, False),
    ],
)
def test_converted_disks_satisfy_qemu(
    format: str,
    options: dict[str, str],
    compressed: bool,
    source: Path,
    tmp_path: Path,
    require_tool: Callable[..., str],
) -> None:
    qemu = require_tool("qemu-img")
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / f"target.{format}"
    with Image.open(source, "raw") as image:
        copying = CopyOptions(compressed=compressed)
        result = convert(
            request(source, image, target, format, options=options, copying=copying, verify=True)
        )
    assert result.verified and result.size == source.stat().st_size
    assert not list(folder.glob(".*"))
    subprocess.run([qemu, "compare", "-f", "raw", "-F", format, source, target], check=True)
    if format != "raw":
        subprocess.run([qemu, "check", "-q", "-f", format, target], check=True)


def test_the_old_target_stays_until_the_new_one_is_complete(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    target.write_bytes(b"precious")

    def stop(done: int, total: int) -> None:
        assert target.read_bytes() == b"precious"
        raise ImageError("enough")

    with Image.open(source, "raw") as image:
        with pytest.raises(ImageError, match="enough"):
            convert(request(source, image, target, "qcow2"), progress=stop)
        assert target.read_bytes() == b"precious"
        convert(request(source, image, target, "qcow2"))
    assert content_of(target) == source.read_bytes()


def test_compression_that_a_format_cannot_do_leaves_nothing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.vdi"
    with Image.open(source, "raw") as image, pytest.raises(ImageUnsupported):
        convert(request(source, image, target, "vdi", copying=CopyOptions(compressed=True)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.raw"]


KILLED = """
import os, sys
from runtime.block.image import Image
from runtime.block.jobs import convert as converting
from runtime.block.jobs.copy import CopyOptions

converting.CHECKPOINT_SECONDS = 0.0
source, target, format, compressed, *options = sys.argv[1:]

def die(done, total):
    if done > total // 2:
        os.kill(os.getpid(), 9)

image = Image.open(source, "raw")
converting.convert(
    converting.Request(
        image.node, converting.identity_of(source, image.node), target, format,
        dict(option.split("=") for option in options), CopyOptions(compressed=compressed == "True"),
    ),
    progress=die,
)
"""


@pytest.mark.parametrize(
    "format, compressed, options, resumes",
    [
        ("raw", False, {}, True),
        ("qcow2", False, {}, True),
        ("qcow2", True, {}, True),
        ("vdi", False, {}, True),
        ("vmdk", True, {"subformat": "streamOptimized"}, False),
    ],
)
def test_a_killed_conversion_goes_on(
    format: str,
    compressed: bool,
    options: dict[str, str],
    resumes: bool,
    source: Path,
    tmp_path: Path,
    require_tool: Callable[..., str],
) -> None:
    target = tmp_path / f"target.{format}"
    words = [sys.executable, "-c", KILLED, str(source), str(target), format, str(compressed)]
    words += [f"{name}={value}" for name, value in options.items()]
    assert subprocess.run(words).returncode == -9
    assert journal.load(journal.path_of(target)) is not None
    with Image.open(source, "raw") as image:
        result = convert(
            request(
                source,
                image,
                target,
                format,
                resume=True,
                options=options,
                copying=CopyOptions(compressed=compressed),
            )
        )
    assert (result.resumed_from > 0) is resumes
    assert content_of(target) == source.read_bytes()
    assert not journal.path_of(target).exists()
    if format == "qcow2":  # what was allocated and not yet referred to may be lost, nothing else
        check = subprocess.run([require_tool("qemu-img"), "check", "-q", target])
        assert check.returncode in (0, 3)


def test_another_source_isn_t_resumed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    assert subprocess.run([sys.executable, "-c", KILLED, source, target, "qcow2", "False"]).returncode == -9
    with source.open("r+b") as file:
        file.write(b"changed")
    with Image.open(source, "raw") as image:
        result = convert(request(source, image, target, "qcow2", resume=True))
    assert result.resumed_from == 0
    assert content_of(target) == source.read_bytes()


def test_a_journal_from_before_a_restart_counts_only_what_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = journal.Journal(tmp_path / "j", journal.Entry({}, {}, "w"))
    book.advance(1000, synced=True)
    book.advance(2000, synced=False)
    entry = journal.load(tmp_path / "j")
    assert entry is not None and entry.usable == 2000
    monkeypatch.setattr(journal, "boot_identity", lambda: "another")
    assert entry.usable == 1000
    for text in ("", "{}", "[]", '{"version": 1}', "\0" * 100):
        (tmp_path / "j").write_text(text)
        assert journal.load(tmp_path / "j") is None


def test_verification_finds_a_flipped_bit(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.raw"

    def flip(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(100_000)
            byte = file.read(1)[0]
            file.seek(100_000)
            file.write(bytes([byte ^ 1]))

    monkeypatch.setattr(converting, "_forget_cached", flip)
    with Image.open(source, "raw") as image, pytest.raises(converting.VerificationFailed, match="100000"):
        convert(request(source, image, target, "raw", verify=True))
    assert not target.exists()


def test_a_full_disk_leaves_what_can_be_resumed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.vdi"
    real = FileNode.pwrite
    room = [5]

    def full(node: FileNode, offset: int, data: Buffer) -> None:
        large = memoryview(data).nbytes > MIB // 2
        room[0] -= large
        if large and room[0] < 0:
            raise ImageIOError("can't write", errno=errno.ENOSPC, where=node.name)
        real(node, offset, data)

    with Image.open(source, "raw") as image:
        with monkeypatch.context() as patch, pytest.raises(ImageIOError):
            patch.setattr(FileNode, "pwrite", full)
            patch.setattr(converting, "_has_data", lambda path: True)
            convert(request(source, image, target, "vdi"))
        entry = journal.load(journal.path_of(target))
        assert entry is not None and entry.offset > 0
        result = convert(request(source, image, target, "vdi", resume=True))
    assert result.resumed_from == entry.offset
    assert content_of(target) == source.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("options", [{"data_file": "data.raw"}, {"encrypt_format": "luks"}])
def test_into_images_that_can_t_compress(options: dict[str, str], source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    options = options | ({"encrypt_iter_time": "10"} if "encrypt_format" in options else {})
    with Image.open(source, "raw") as image:
        convert(request(source, image, target, "qcow2", options=options, passphrase=lambda: b"secret"))
        with Image.open(target, passphrase="secret") as copied:
            assert compare(image.node, copied.node) is None
        with pytest.raises(ImageUnsupported):
            copying = CopyOptions(compressed=True)
            more = {"options": options, "passphrase": lambda: b"secret", "copying": copying}
            convert(request(source, image, tmp_path / "packed.qcow2", "qcow2", **more))


def test_plain_data_is_copied_where_it_lies(tmp_path: Path) -> None:
    """The kernel copies it; zeroes inside of it stay holes, also behind a first sector that isn't zero."""
    content = bytearray(patchwork(3, 8 * MIB))
    content[2 * MIB : 4 * MIB] = b"x" * (2 * MIB)
    content[2 * MIB + 65536 : 2 * MIB + 131072] = bytes(65536)
    content[3 * MIB : 3 * MIB + 4096] = bytes(4096)
    source = tmp_path / "source.raw"
    source.write_bytes(content)
    for form in ("qcow2", "vdi", "vhd", "vmdk", "vhdx", "qed", "parallels"):
        target = tmp_path / f"target.{form}"
        with Image.open(source, "raw") as image:
            convert(request(source, image, target, form))
        assert content_of(target) == content
    with Image.open(tmp_path / "target.qcow2") as image:
        assert all(extent.reads_zero for extent in image.extents(2 * MIB + 65536, 65536))
        again = tmp_path / "again.vhd"
        convert(Request(image.node, {}, str(again), "vhd"))
    assert content_of(again) == content


def test_checksums_are_verified_while_copying(tmp_path: Path) -> None:
    source = tmp_path / "source.qcow2"
    with Image.create(source, "qcow2", 8 * MIB, checksums=True) as image:
        image.pwrite(0, b"good" * MIB)
    with Image.open(source) as image:
        place = next(image.extents(MIB, MIB)).host_offset
    assert place is not None
    with source.open("r+b") as file:
        file.seek(place)
        file.write(b"evil")
    with Image.open(source) as image, pytest.raises(ImageError):
        convert(Request(image.node, {}, str(tmp_path / "target.vdi"), "vdi"))


def test_what_lies_behind_an_odd_end_is_zero(tmp_path: Path) -> None:
    """Encrypted disks hold noise where nothing was written, and their sizes are rounded up."""
    source, target = tmp_path / "source.raw", tmp_path / "target.luks"
    source.write_bytes(bytes(range(1, 201)) * 1001)
    with Image.open(source, "raw") as image:
        options = {"iter_time": "10"}
        convert(request(source, image, target, "luks", options=options, passphrase=lambda: b"secret"))
    with Image.open(target, "luks", passphrase=lambda: b"secret") as image:
        whole = image.pread(0, image.size)
    assert whole == source.read_bytes().ljust(-(-200_200 // 512) * 512, b"\0")
