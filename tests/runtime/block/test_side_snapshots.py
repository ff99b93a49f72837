"""Snapshots beside images, for every format that has none of its own."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.errors import ImageCorrupt, ImageError, ImageExists, ImageNotFound
from runtime.block.image import Image
from runtime.block.snapshots import node as snapshots
from tests.runtime.block.guest import Guest

MIB = 1 << 20
FORMATS: list[tuple[str, dict[str, object]]] = [
    ("raw", {}),
    ("vdi", {}),
    ("vhd", {}),
    ("vhd", {"subformat": "fixed"}),
    ("vhdx", {}),
    ("vmdk", {}),
    ("vmdk", {"subformat": "monolithicFlat"}),
    ("qed", {}),
    ("parallels", {}),
]


@pytest.mark.parametrize(
    ("form", "options"), FORMATS, ids=[f"{name}{options or ''}" for name, options in FORMATS]
)
def test_random_history(
    form: str, options: dict[str, object], tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    """Writes, snapshots made, applied and deleted, sizes changed, sessions: each snapshot reads as it was.

    QEMU reads them too, straight from the folder.
    """
    tool = require_tool("qemu-img")
    path = tmp_path / f"disk.{form}"
    rng = random.Random(f"{form}{options}")
    image = Image.create(path, form, 2 * MIB, **options)
    content, kept = bytes(image.size), {}
    for step in range(45):
        what = rng.choice(("act", "act", "act", "create", "apply", "delete", "resize", "reopen"))
        if what == "act":
            guest = Guest(image.node, None, rng, content)
            for _ in range(4):
                guest.act()
            content = bytes(guest.content)
        elif what == "create" and len(kept) < 5:
            image.snapshots.create(f"at {step}")
            kept[f"at {step}"] = content
        elif what == "apply" and kept:
            name = rng.choice(list(kept))
            image.snapshots.apply(name)
            content = kept[name]
        elif what == "delete" and len(kept) > 2:
            name = rng.choice(list(kept))
            image.snapshots.delete(name)
            del kept[name]
        elif what == "resize":
            size = rng.choice((1, 2, 3)) * MIB + 512
            image.resize(size, shrink=True)
            content = content[:size] + bytes(max(0, size - len(content)))
        elif what == "reopen":
            image.close()
            image = Image.open(path, form, writable=True)
        assert image.pread(0, image.size) == content
        assert [entry.name for entry in image.snapshots.entries()] == list(kept)
    for name, expected in kept.items():
        view = image.snapshots.open(name)
        assert view.pread(0, view.length()) == expected
        assert sum(extent.length for extent in view.extents()) == len(expected)
    assert image.check().exit_code == 0
    entries = image.snapshots.entries()
    image.close()
    for entry in entries[-2:]:
        (tmp_path / "expected").write_bytes(kept[entry.name])
        store = tmp_path / f"disk.{form}.snapshots" / f"{int(entry.id):04}.qcow2"
        command = [tool, "compare", "-f", "qcow2", "-F", "raw", store, tmp_path / "expected"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A raw disk with the snapshots "one" (all 1) and "two" (all 2), itself all 3."""
    path = tmp_path / "disk.raw"
    with Image.create(path, "raw", 3 * MIB) as image:
        for value, name in ((1, "one"), (2, "two"), (3, None)):
            image.pwrite(0, bytes([value]) * image.size)
            if name:
                image.snapshots.create(name)
    return path


def test_refusals(disk: Path) -> None:
    with Image.open(disk, "raw", writable=True) as image:
        with pytest.raises(ImageExists):
            image.snapshots.create("two")
        for call in (image.snapshots.apply, image.snapshots.delete, image.snapshots.open):
            with pytest.raises(ImageNotFound):
                call("three")
    with Image.open(disk, "raw") as image, pytest.raises(ImageError):
        image.snapshots.create("four")
    with pytest.raises(ImageExists):
        Image.create(disk, "raw", MIB, overwrite=True)


def test_machine_state(disk: Path) -> None:
    with Image.open(disk, "raw", writable=True) as image:
        image.snapshots.write_vm_state(0, b"state" * 1000)
        made = image.snapshots.create("running", vm_state_size=5000, vm_clock_ns=7)
        assert (made.vm_state_size, made.vm_clock_nsec) == (5000, 7)
    with Image.open(disk, "raw", writable=True) as image:
        assert image.snapshots.read_vm_state(5, 5, snapshot="running") == b"state"
        for entry in image.snapshots.entries():
            image.snapshots.delete(entry.id)
    assert [path.name for path in disk.parent.iterdir()] == ["disk.raw"]


def test_another_programs_writes(disk: Path) -> None:
    """They spoil snapshots that lack what they overwrote: nothing is applied until somebody says that it's
    fine.
    """
    with disk.open("r+b") as file:
        file.write(b"foreign")
    os.utime(disk, ns=(1, 1))
    with Image.open(disk, "raw", writable=True) as image:
        with pytest.raises(ImageCorrupt, match="another program"):
            image.snapshots.apply("one")
        assert image.check().exit_code == 2
        assert image.check("all").exit_code == 0
        image.snapshots.apply("one")
        assert image.pread(0, image.size) == b"\1" * image.size


class Crash(Exception):
    """The host dies."""


@pytest.mark.parametrize(
    "operation", ["write", "create", "apply one", "apply two", "delete one", "delete two"]
)
def test_killed_at_any_step(operation: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that changes a file may be the last. Then snapshots and disk are as before or as after."""
    from runtime.block.protocol.file import FileNode
    from runtime.block.snapshots import manifest

    files = {path: path.read_bytes() for path in disk.parent.rglob("*") if path.is_file()}
    steps = {"left": 0}

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **keywords: object) -> object:
            if steps["left"] == 0:
                raise Crash
            steps["left"] -= 1
            return function(*arguments, **keywords)

        return step

    for owner, name in ((FileNode, "pwrite"), (FileNode, "resize"), (manifest, "save"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    size = 3 * MIB
    for count in range(1000):
        for path in [path for path in disk.parent.rglob("*") if path.is_file()]:
            os.remove(path)  # noqa: PTH107 (Path.unlink is the one that dies)
        for path, data in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        state = disk.with_name("disk.raw.snapshots") / manifest.NAME
        text = state.read_text()
        stamp = disk.stat()
        known = manifest.Manifest.model_validate_json(text)
        known.stamp = [(stamp.st_size, stamp.st_mtime_ns)]
        state.write_text(known.model_dump_json())
        steps["left"] = 1 << 40
        image = Image.open(disk, "raw", writable=True)
        steps["left"] = count
        died = False
        try:
            verb, _, name = operation.partition(" ")
            if verb == "write":
                image.pwrite(100_000, b"\4" * 700_000)
            elif verb == "create":
                image.snapshots.create("three")
            else:
                getattr(image.snapshots, verb)(name)
        except Crash:
            died = True
        steps["left"] = 1 << 40
        abandon(image)
        with Image.open(disk, "raw", writable=True) as image:
            now = image.pread(0, size)
            names = [entry.name for entry in image.snapshots.entries()]
            views = {name: image.snapshots.open(name).pread(0, size) for name in names}
            where = f"{operation}, killed at step {count}"
            assert views.get("one", b"\1" * size) == b"\1" * size, where
            assert views.get("two", b"\2" * size) == b"\2" * size, where
            if verb == "apply":
                assert now in (b"\3" * size, bytes([1 if name == "one" else 2]) * size), where
                assert died or now != b"\3" * size
            else:
                assert now[:100_000] == b"\3" * 100_000, where
            if verb != "delete":
                assert names[:2] == ["one", "two"], where
            assert image.check("all").exit_code == 0, where
        if not died:
            assert count > 0
            return
    raise AssertionError("it never ended")


def abandon(image: Image) -> None:
    """What the kernel does with the files of a killed process."""
    node = image.node
    assert isinstance(node, snapshots.SnapshotNode)
    files = [node.file]
    if node._stores is not None:
        files += [store.file for store in node._stores._nodes]
    for file in files:
        file.close()
    image._finished = True


def test_a_snapshot_is_read_by_several_threads(tmp_path: Path) -> None:
    """One looks for extents while another reads, as conversions do."""
    path, content = tmp_path / "disk.vdi", bytearray(12 << 20)
    with Image.create(path, "vdi", len(content)) as image:
        for at in range(0, len(content), 3 << 20):
            content[at : at + 4096] = bytes([1 + (at >> 20)]) * 4096
            image.pwrite(at, content[at : at + 4096])
        image.snapshots.create("kept")
        image.write_zeroes(0, len(content))
        view = image.snapshots.open("kept")
        got: list[bytes] = []

        def read(offset: int, length: int) -> None:
            got.append(view.pread(offset, length))

        for extent in view.extents():
            reader = threading.Thread(target=read, args=(extent.offset, extent.length), daemon=True)
            reader.start()
            reader.join(20)
            assert not reader.is_alive()
        assert b"".join(got) == content
