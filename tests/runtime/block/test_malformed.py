"""Damaged and hostile images: typed errors, a second and 64 MiB at most, whatever is wrong."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from runtime.block.errors import ImageError
from runtime.block.node import FormatNode
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
