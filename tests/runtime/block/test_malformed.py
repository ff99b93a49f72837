"""Damaged and hostile images: typed errors, a second and 64 MiB at most, whatever is wrong."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.block.errors import ImageCorrupt, ImageError
from runtime.block.format.vdi import header as vdi
from runtime.block.image import Image
from runtime.block.node import FormatNode
from runtime.block.report import MOST_CORRUPTIONS
from runtime.errors import IsagenError
from tests.runtime.block.cases import CASES, Case, case_id
from tests.runtime.block.guest import Guest
from tests.runtime.block.recorder import Files
from tests.runtime.block.test_crash import prepare

SECONDS, MEMORY = 1.0, 64 << 20
PARTS = 512  # bytes at the file's start and end whose words are tried one by one
RANDOM = 20


def values(width: int, old: int) -> list[int]:
    """What a field of `width` bytes is replaced with."""
    top = (1 << 8 * width) - 1
    sign = 1 << (8 * width - 1)
    wanted = [
        0,
        1,
        top,
        sign,
        sign - 1,
        old ^ 1,
        (old + 1) & top,
        (old << 1) & top,
        0x10000,
        1 << (4 * width),
    ]
    return [value for value in dict.fromkeys(wanted) if value != old]


def fields(image: bytes, rng: random.Random) -> Iterator[tuple[int, int]]:
    """(offset, width) of words in the first and last bytes that hold something."""
    places = [*range(0, min(PARTS, len(image)), 4), *range(max(0, len(image) - PARTS), len(image) - 3, 4)]
    for at in dict.fromkeys(places):
        if any(image[at : at + 4]) or rng.random() < 0.05:
            yield at, 4
            if at % 8 == 0:
                yield at, 8


def use(node: FormatNode) -> None:
    """What people do with an image."""
    size = node.length()
    node.info()
    for offset in (0, size // 2, max(0, size - 4096)):
        node.pread(offset, min(4096, size - offset))
    node.pread_many([(0, min(512, size)), (max(0, size - 512), min(512, size))])
    for count, _ in enumerate(node.extents(0, min(size, 1 << 30))):
        if count > 200:
            break


def attempt(files: Files, case: Case, *, writable: bool, check: bool) -> None:
    with files.open("disk", case.format, writable=writable, check=check) as node:
        if not check:
            use(node)
            if writable:
                node.pwrite(0, b"x" * min(600, node.length()))
                node.flush()
        else:
            node.check("all" if writable else None)


def survive(state: dict[str, bytes], case: Case, what: str) -> None:
    """Whatever is wrong with the image: errors of ours or none, quickly and in little memory."""
    for writable, check in ((False, False), (False, True), (True, False), (True, True)):
        files = Files.of(state)
        tracemalloc.reset_peak()
        before, start = tracemalloc.get_traced_memory()[0], time.process_time()
        try:
            attempt(files, case, writable=writable, check=check)
        except ImageError as error:
            assert str(error) and error.code, what
        except IsagenError as error:
            assert str(error), what
        spent = time.process_time() - start
        used = tracemalloc.get_traced_memory()[1] - before
        assert spent < SECONDS * 3, f"{what}: {spent:.1f} s"  # tracemalloc makes it slow
        assert used < MEMORY, f"{what}: {used >> 20} MiB"


def image(case: Case, rng: random.Random) -> dict[str, bytes]:
    files, content = prepare(case, rng)
    with files.open("disk", case.format) as node:
        guest = Guest(node, None, rng, content)
        for _ in range(8):
            guest.act()
        if case.snapshots:
            node.snapshots.create("kept")
            guest.act()
    return files.images()


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("case", [case for case in CASES if case.format != "raw"], ids=case_id)
def test_fields(case: Case) -> None:
    """Every word at the file's start and end, with the values that break arithmetic (some of them each
    time).
    """
    rng = random.Random(case.name)
    good = image(case, rng)
    disk = good["disk"]
    tries = [
        (at, width, value)
        for at, width in fields(disk, rng)
        for value in values(width, int.from_bytes(disk[at : at + width], "big"))
    ]
    for at, width, value in rng.sample(tries, min(RANDOM, len(tries))):
        for order in ("big", "little"):
            bad = bytearray(disk)
            bad[at : at + width] = value.to_bytes(width, order)
            survive(good | {"disk": bytes(bad)}, case, f"{case.name}: {value:#x} ({order}) at {at:#x}")


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("case", [case for case in CASES if case.format != "raw"], ids=case_id)
def test_bits_and_ends(case: Case) -> None:
    """Bits flipped anywhere in what isn't data, and files cut short."""
    rng = random.Random(case.name)
    good = image(case, rng)
    disk = good["disk"]
    for _ in range(8):
        bad = bytearray(disk)
        for _ in range(rng.randrange(1, 20)):
            bad[rng.randrange(len(bad)) if rng.random() < 0.5 else rng.randrange(min(len(bad), 4096))] ^= (
                1 << rng.randrange(8)
            )
        survive(good | {"disk": bytes(bad)}, case, f"{case.name}: flipped bits")
    for length in (0, 1, 4, 72, 104, 511, 512, 513, len(disk) // 2, len(disk) - 1):
        survive(good | {"disk": disk[:length]}, case, f"{case.name}: cut to {length} bytes")


def _patched(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    "form, offset, data",
    [
        pytest.param("vdi", vdi.LAYOUT.offset("parent"), b"\x11" * 16, id="vdi: a parent, but no child"),
        pytest.param("qed", (64 << 10) + 8 * 300, b"\x22" * 8, id="qed: a table behind the disk's end"),
        pytest.param("qcow2", 0x30000, (1 << 63 | 0x900000).to_bytes(8, "big"), id="qcow2: a table nowhere"),
    ],
)
def test_what_others_complain_of_is_seen_and_mended(
    form: str, offset: int, data: bytes, tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    path = tmp_path / f"disk.{form}"
    with Image.create(path, form, 8 << 20) as image:
        image.pwrite(1 << 20, b"kept" * 300)
    _patched(path, offset, data)
    tool = require_tool("qemu-img")
    assert subprocess.run([tool, "check", "-q", "-f", form, path], capture_output=True).returncode
    with Image.open(path, form, writable=True, check=True) as image:
        assert image.check().exit_code == 2
        assert image.check("all").exit_code == 0
    assert subprocess.run([tool, "check", "-q", "-f", form, path]).returncode == 0
    if form != "qcow2":  # where the table was the data's
        with Image.open(path, form) as image:
            assert image.pread(1 << 20, 8) == b"keptkept"


def test_checks_of_giants_end_early(tmp_path: Path) -> None:
    """Tables that say the same thing millions of times, in holes of the file."""
    path = tmp_path / "disk.vdi"
    with Image.create(path, "vdi", 1 << 20) as image:
        image.flush()
    blocks = vdi.MAX_BLOCKS
    head = bytearray(path.read_bytes()[: vdi.SIZE])
    for name, value, width in (
        ("disk_size", blocks << 20, 8),
        ("blocks", blocks, 4),
        ("data_offset", 0xFFF00000, 4),
    ):
        at = vdi.LAYOUT.offset(name)
        head[at : at + width] = value.to_bytes(width, "little")
    path.write_bytes(head)
    os.truncate(path, 8 << 40)
    start = time.process_time()
    with Image.open(path, "vdi", check=True) as image:
        report = image.check()
    assert report.exit_code == 2 and "rest" in report.problems[-1].text
    assert time.process_time() - start < SECONDS * 2


def _qcow2(tables: dict[int, bytes], l1_size: int) -> bytes:
    """A header of version 3 and what lies behind it; the L1 table is at 1 MiB."""
    head = b"QFI\xfb" + struct.pack(
        ">IQIIQIIQQIIQQQQII",
        3,
        0,
        0,
        16,
        1 << 50,
        0,
        l1_size,
        1 << 20,
        1 << 16,
        1,
        0,
        0,
        0,
        0,
        0,
        4,
        104,
    )
    file = bytearray(64 << 20)
    for offset, data in ({0: head} | tables).items():
        file[offset : offset + len(data)] = data
    return bytes(file)


def _entries(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


_OWN = 1 << 63
#: What the file holds beside the header, by offset.
CROWDED = {
    "one table for all": {
        1 << 20: _entries(0x30000 | _OWN) * (2 << 20),
        0x30000: _entries(0x50000 | _OWN) * 8192,
    },
    "a few tables for all": {1 << 20: _entries(*(n << 16 | _OWN for n in range(20, 920))) * 2330},
    "tables of one cluster": {
        1 << 20: _entries(*(n << 16 | _OWN for n in range(320, 920))),
        320 << 16: _entries(*(n << 16 | _OWN for n in (3, 9, 5, 7))) * 2048 * 600,
    },
}


@pytest.mark.parametrize("name", CROWDED)
def test_claims_beyond_the_file_are_refused(name: str) -> None:
    """Millions of references to a few places: no command may walk through them all."""
    disk = _qcow2({0x10000: _entries(0x20000)} | CROWDED[name], l1_size=2 << 20)
    for check in (False, True):
        files = Files.of({"disk": disk})
        start = time.process_time()
        with pytest.raises(ImageCorrupt, match="room for"), files.open("disk", "qcow2", check=check) as node:
            if check:
                assert node.check().exit_code == 2
            for _ in node.extents():
                pass
        assert time.process_time() - start < SECONDS * 10


def test_a_shared_block_is_read_by_everybody(tmp_path: Path) -> None:
    """Where only a few blocks share their storage, data is to be saved."""
    path = tmp_path / "disk.vdi"
    with Image.create(path, "vdi", 64 << 20) as image:
        for at in range(0, 64 << 20, 1 << 20):
            image.pwrite(at, bytes([at >> 20]) * (1 << 20))
        table = int.from_bytes(path.read_bytes()[vdi.LAYOUT.offset("map_offset") :][:4], "little")
    _patched(path, table + 4 * 5, (4).to_bytes(4, "little"))
    with Image.open(path, "vdi") as image:
        assert sum(extent.length for extent in image.extents()) == 64 << 20
        assert image.pread(5 << 20, 4) == bytes([4]) * 4


def test_much_wrong_with_the_image_and_its_snapshots(tmp_path: Path) -> None:
    """A check that has stopped early can still tell of the snapshots."""
    path = tmp_path / "disk.vdi"
    with Image.create(path, "vdi", 64 << 30) as image:
        image.pwrite(0, b"x")
        image.snapshots.create("kept")
        table = int.from_bytes(path.read_bytes()[vdi.LAYOUT.offset("map_offset") :][:4], "little")
    _patched(path, table, (7).to_bytes(4, "little") * 65536)
    with Image.open(path, "vdi", check=True) as image:
        report = image.check()
    assert report.exit_code == 2 and report.corruptions > MOST_CORRUPTIONS  # that one is the snapshots'
