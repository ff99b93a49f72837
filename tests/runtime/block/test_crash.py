"""Crashes at every kind of moment: what was flushed is there, and nothing worse than leaks is found."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.format.qcow2.node import Qcow2Node
from runtime.block.registry import find_format
from tests.runtime.block.cases import CASES, MIB, Case, case_id
from tests.runtime.block.guest import Durable, Guest
from tests.runtime.block.recorder import Files

REQUESTS, MOMENTS, SUBSETS, JUDGED = 25, 12, 2, 3


def prepare(case: Case, rng: random.Random) -> tuple[Files, bytes]:
    """A folder with the image "disk" (and what is below it), and the disk's content."""
    files = Files()
    options = dict(case.options)
    content = bytes(case.size)
    if case.backing:
        below = rng.randbytes(case.size // 2)
        files.create("below", case.below, len(below))
        with files.open("below", case.below) as node:
            node.pwrite(0, below)
        options |= {"backing_file": "below", "backing_fmt": case.below}
        content = below + bytes(case.size - len(below))
    files.create("disk", case.format, case.size, **options)
    return files, content


def judge(state: dict[str, bytes], case: Case, folder: Path, tool: str) -> None:
    """qemu-img finds leaks at worst."""
    for name, data in state.items():
        (folder / name).write_bytes(data)
    assert case.judge is not None
    replay = (
        ["-r", "all"] if case.judge == "vhdx" else []
    )  # it doesn't look at images whose log is to be replayed
    result = subprocess.run(
        [tool, "check", "-f", case.judge, *replay, "disk"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 3), result.stdout + result.stderr


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_crash(case: Case, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    rng = random.Random(case.name)
    tool = require_tool("qemu-img") if case.judge else ""
    files, content = prepare(case, rng)
    node = files.open("disk", case.format)
    guest = Guest(node, files, rng, content)
    for _ in range(8):  # something to lose
        guest.act()
    guest.flush()
    content = bytes(guest.content)
    files.forget()
    for _ in range(REQUESTS):
        guest.act()
    guest.flush()
    node.close()
    durable = Durable(content)
    for number, (moment, state) in enumerate(files.crashes(rng, MOMENTS, SUBSETS)):
        durable.advance(files.log, moment)
        where = f"{case.name}: state {number} at operation {moment} of {len(files.log)}"
        after = Files.of(state)
        with after.open("disk", case.format, writable=False) as disk:
            problem = durable.compare(disk.pread(0, disk.length()))
            assert problem is None, f"{where}: {problem}"
        with after.open("disk", case.format, writable=False, check=True) as disk:
            report = disk.check()
            assert report.exit_code in (0, 3), f"{where}: {report.problems[:3]}"
        if case.judge and number % (MOMENTS * (SUBSETS + 1) // JUDGED) == 0:
            judge(state, case, tmp_path, tool)
        with after.open("disk", case.format) as disk:  # mends itself where the format says so
            problem = durable.compare(disk.pread(0, disk.length()))
            assert problem is None, f"{where}, opened for writing: {problem}"
            disk.pwrite(0, b"x" * 5000)
        with after.open("disk", case.format, writable=False) as disk:
            assert disk.pread(0, 5000) == b"x" * 5000
            assert disk.check().exit_code in (0, 3), where


@pytest.mark.parametrize("case", [case for case in CASES if case.snapshots], ids=case_id)
def test_crash_in_snapshots(case: Case, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """A snapshot operation has happened or not; the disk and the other snapshots are whole."""
    rng = random.Random(case.name)
    files, content = prepare(case, rng)
    node = files.open("disk", case.format)
    guest = Guest(node, files, rng, content)
    for _ in range(4):
        guest.write(*_some(guest))
    node.snapshots.create("first")
    first = bytes(guest.content)
    for _ in range(4):
        guest.write(*_some(guest))
    node.flush()
    second = bytes(guest.content)
    for operation in ("create", "apply", "delete"):
        files.forget()
        if operation == "create":
            node.snapshots.create("second")
        elif operation == "apply":
            node.snapshots.apply("first")
        else:
            node.snapshots.delete("first")
        for number, (moment, state) in enumerate(files.crashes(rng, 14, 2)):
            where = f"{case.name}: {operation}, state {number} at {moment} of {len(files.log)}"
            with Files.of(state).open("disk", case.format, writable=False) as disk:
                now = disk.pread(0, disk.length())
                names = {item.name for item in disk.snapshots.entries()}
                assert disk.check().exit_code in (0, 3), f"{where}: {disk.check().problems[:3]}"
                if operation == "create":
                    assert now == second and names in ({"first"}, {"first", "second"}), where
                elif operation == "apply":
                    assert now in (first, second) and names == {"first", "second"}, where
                else:
                    assert now == first and names in ({"second"}, {"first", "second"}), where
                for name, held in (("first", first), ("second", second)):
                    if name in names:
                        assert disk.snapshots.open(name).pread(0, len(held)) == held, where
            if case.judge and number % 9 == 0:
                judge(state, case, tmp_path, require_tool("qemu-img"))
    node.close()


def _some(guest: Guest) -> tuple[int, bytes]:
    offset, length = guest.place()
    return offset, guest.rng.randbytes(length)


OPERATIONS: dict[str, Callable[[Qcow2Node], object]] = {
    "grow": lambda node: node.resize(400 * MIB),
    "shrink": lambda node: node.resize(MIB // 2, shrink=True),
    "wider": lambda node: node.amend({"refcount_bits": 64}),
    "narrower": lambda node: node.amend({"refcount_bits": 8}),
    "lazy": lambda node: node.amend({"lazy_refcounts": True}),
    "checksums": lambda node: node.amend({"checksums": True}),
    "bitmap": lambda node: node.bitmaps.add("bitmap"),
    "older": lambda node: node.amend({"compat": "0.10"}),
    "backing": lambda node: node.set_backing("elsewhere", "raw"),
    "repair": lambda node: node.check("all"),
    "close": lambda node: node.close(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_crash_in_operations(operation: str, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """What changes a whole QCOW2 image leaves the disk as it was at any moment."""
    case = Case("qcow2", {"cluster_size": 4096}, judge="qcow2")
    tool = require_tool("qemu-img")
    rng = random.Random(operation)
    files, content = prepare(case, rng)
    node = files.open("disk", "qcow2")
    assert isinstance(node, Qcow2Node)
    if operation != "older":  # a snapshot with zero clusters can't be an old one
        node.snapshots.create("kept")
    if operation == "close":
        node.bitmaps.add("recording")
        node.amend({"checksums": True})
    guest = Guest(node, files, rng, content)
    for _ in range(10):
        guest.act()
    guest.flush()
    content = bytes(guest.content)
    files.forget()
    OPERATIONS[operation](node)
    node.close()
    for number, (moment, state) in enumerate(files.crashes(rng, 14, 2)):
        where = f"{operation}: state {number} at operation {moment} of {len(files.log)}"
        after = Files.of(state)
        context = after.context("disk", writable=False, check=True)
        context.backing = False
        with find_format("qcow2").driver.open(after.node("disk", writable=False), context) as disk:
            report = disk.check()
            assert report.exit_code in (0, 3), f"{where}: {report.problems[:3]}"
            same = min(disk.length(), len(content))
            assert disk.pread(0, same) == content[:same], where
        if number % 12 == 0 and operation != "backing":
            judge(state, case, tmp_path, tool)
