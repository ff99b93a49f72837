"""The n-th operation on the file fails: a clear error, and nothing is lost that was flushed."""

from __future__ import annotations

import contextlib
import random
from typing import get_args

import pytest

from runtime.block.errors import ImageError
from tests.runtime.block.cases import CASES, Case, case_id
from tests.runtime.block.guest import Durable, Guest
from tests.runtime.block.recorder import Files, Kind
from tests.runtime.block.test_crash import prepare

REQUESTS, PLACES = 20, 10


def run(case: Case, fail_at: int, kind: Kind) -> tuple[Files, bytes, bool]:
    """A workload whose operation number `fail_at` fails: the files, the disk before it, whether it raised."""
    rng = random.Random(f"{case.name} workload")
    files, content = prepare(case, rng)
    node = files.open("disk", case.format)
    guest = Guest(node, files, rng, content)
    for _ in range(6):
        guest.act()
    guest.flush()
    content = bytes(guest.content)
    files.forget()
    files.steps, files.fail_at, files.fail_kind = 0, fail_at, kind
    raised = False
    try:
        for _ in range(REQUESTS):
            guest.act()
        guest.flush()
    except ImageError as error:
        raised = True
        assert str(error)
    try:
        node.close()
    except ImageError:  # the close met the fault, or the first one's consequences
        raised = True
    return files, content, raised


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_fault(case: Case) -> None:
    rng = random.Random(case.name)
    total = run(case, -1, "eio")[0].steps
    for kind in get_args(Kind):
        for fail_at in rng.sample(range(total), min(PLACES, total)):
            files, content, raised = run(case, fail_at, kind)
            where = f"{case.name}: {kind} at operation {fail_at} of {total}"
            assert files.fired, where
            durable = Durable(content)
            durable.advance(files.log, len(files.log))
            after = Files.of(files.images())
            with after.open("disk", case.format, writable=False, check=True) as disk:
                report = disk.check()
                assert report.exit_code in (0, 3), f"{where}: {report.problems[:3]}"
            with after.open("disk", case.format) as disk:
                problem = durable.compare(disk.pread(0, disk.length()))
                assert problem is None, f"{where}: {problem}"
                assert disk.check().exit_code in (0, 3), where
            assert raised, f"{where}: swallowed"


@pytest.mark.parametrize("case", [case for case in CASES if case.snapshots], ids=case_id)
def test_fault_in_snapshots(case: Case) -> None:
    """A snapshot operation that fails leaves the image as it was (or is done)."""
    for operation in ("create", "apply", "delete"):
        fail_at = 0
        while True:
            rng = random.Random(case.name)
            files, content = prepare(case, rng)
            node = files.open("disk", case.format)
            guest = Guest(node, files, rng, content)
            for _ in range(4):
                guest.act()
            node.snapshots.create("first")
            first = bytes(guest.content)
            guest.write(0, b"second")
            node.flush()
            second = bytes(guest.content)
            files.steps, files.fail_at = 0, fail_at
            failed = False
            try:
                if operation == "create":
                    node.snapshots.create("second")
                else:
                    getattr(node.snapshots, operation)("first")
            except ImageError:
                failed = True
            files.fail_at = -1
            with contextlib.suppress(ImageError):
                assert node.pread(0, len(content)) in (first, second), f"{operation}, {fail_at}"
                if not node.read_only:
                    node.pwrite(100_000, b"third")
            with contextlib.suppress(ImageError):
                node.close()
            with Files.of(files.images()).open("disk", case.format, writable=False) as disk:
                report = disk.check()
                assert report.exit_code in (0, 3), f"{operation}, {fail_at}: {report.problems[:3]}"
                now = disk.pread(0, disk.length())
                assert now[:6] in (first[:6], second[:6]), f"{operation}, {fail_at}"
                names = {item.name for item in disk.snapshots.entries()}
                if "first" in names:
                    assert disk.snapshots.open("first").pread(0, len(first)) == first
                else:
                    assert operation == "delete"
            if not failed:
                break
            fail_at += 3
