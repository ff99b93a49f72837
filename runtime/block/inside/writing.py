"""Putting a file into a file system on a disk, through debugfs (ext2/3/4) and mtools (FAT).

The tools work on a sparse copy of the volume. Only when the result has been checked are the blocks that
changed written into the image, so a tool that fails, or dies, changes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.block.errors import ImageError
from runtime.block.format.raw import RawNode
from runtime.block.inside.files import FileSystem
from runtime.block.inside.isolation import isolated
from runtime.block.inside.signatures import file_system, is_unclean_ext
from runtime.block.jobs.copy import CopyOptions, copy
from runtime.block.jobs.progress import Progress, silent
from runtime.block.node import ExtentKind, Node
from runtime.block.protocol.file import FileNode

_BLOCK = 4096
_PIECE = 1 << 20
_TIMEOUT = 600


def put(
    volume: Node, source: Path, path: str, *, mode: int | None = None, progress: Progress = silent
) -> int:
    """Store the host's file `source` as `path` (replacing a file) on `volume`; flush.

    Gives the bytes of the volume that changed. Raises `ImageError`, with the volume unchanged.
    """
    kind = file_system(volume)
    if kind not in ("ext", "fat"):
        raise ImageError(
            f"files can be put into ext2/3/4 and FAT only, not into {kind or 'an unknown file system'}",
            where=volume.name,
        )
    if any(letter in path for letter in '\n\r"\0\\') or not path.strip("/"):
        raise ImageError(f"this name can't be used: {path!r}", where=volume.name)
    if kind == "ext" and is_unclean_ext(volume):
        raise ImageError(
            "the file system wasn't unmounted cleanly: its journal must be replayed first",
            where=volume.name,
            remedy="start the machine and shut it down",
        )
    with tempfile.TemporaryDirectory(prefix="isagen-put-") as folder:
        work = Path(folder) / "volume"
        _copy_out(volume, work, progress)
        size_before = work.stat().st_size

        def change() -> int:
            if kind == "ext":
                _put_ext(work, source, path, mode if mode is not None else source.stat().st_mode & 0o7777)
            else:
                _put_fat(work, source, path)
            if work.stat().st_size != size_before:
                raise ImageError("the tool changed the volume's size", where=volume.name)
            with FileNode(work) as result:
                _verify(result, source, path)
            return 0

        # Reading it is a stranger's file system's chance to break the reader; the image is only open here.
        isolated(change)
        with FileNode(work) as result:
            return _copy_back(result, volume)


def _copy_out(volume: Node, work: Path, progress: Progress) -> None:
    with FileNode(work, writable=True, create=True) as file:
        file.durable = False
        file.resize(volume.length())
        copy(volume, RawNode(file, writable=True), CopyOptions(), progress=progress)


def _put_ext(work: Path, source: Path, path: str, mode: int) -> None:
    full = "/" + path.strip("/")
    parent = full.rpartition("/")[0] or "/"
    with FileNode(work) as node:
        system = FileSystem(node)
        if not system.exists(parent):
            raise ImageError(f"there is no folder {parent!r} in the image")
        old = list(system.entries(full)) if system.exists(full) else []
    commands = [f'rm "{full}"'] if len(old) == 1 and old[0].type == "file" else []
    if old and not commands:
        raise ImageError(f"{full} is there already and no file")
    commands += [
        f'write "{source.resolve()}" "{full}"',
        f'set_inode_field "{full}" mode 0{0o100000 | mode:o}',
    ]
    if old:
        commands += [
            f'set_inode_field "{full}" uid {old[0].uid}',
            f'set_inode_field "{full}" gid {old[0].gid}',
        ]
    if '"' in str(source.resolve()) or "\n" in str(source.resolve()):
        raise ImageError("the file's name can't be given to debugfs", where=str(source))
    script = work.with_name("commands")
    script.write_text("\n".join(commands) + "\n")
    _run(["debugfs", "-w", "-f", str(script), str(work)], "e2fsprogs")
    # debugfs doesn't tell by its status whether it succeeded; the file system's own check does.
    _run(["e2fsck", "-f", "-n", str(work)], "e2fsprogs", good=(0,))


def _put_fat(work: Path, source: Path, path: str) -> None:
    _run(["mcopy", "-o", "-i", str(work), str(source.resolve()), "::/" + path.strip("/")], "mtools")


def _run(words: Sequence[str], package: str, good: tuple[int, ...] = (0,)) -> None:
    program = shutil.which(words[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise ImageError(f"the program {words[0]} isn't installed", remedy=f"install the package {package}")
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    try:
        result = subprocess.run(
            [program, *words[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ImageError(f"{words[0]} takes longer than {_TIMEOUT} seconds") from None
    if result.returncode not in good:
        told = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise ImageError(f"{words[0]} failed: {told[-1][:200] if told else f'status {result.returncode}'}")


def _verify(result: Node, source: Path, path: str) -> None:
    """Whether the file reads back as it was put."""
    with source.open("rb") as file:
        for data in FileSystem(result).read(path):
            if file.read(len(data)) != data:
                raise ImageError(f"{path} reads back otherwise: the file system is full or damaged")
        if file.read(1):
            raise ImageError(f"{path} isn't complete: the file system is full")


def _copy_back(result: Node, volume: Node) -> int:
    """Write the blocks that differ; those with the superblocks last, behind a flush."""
    changed = 0
    last: list[tuple[int, bytes]] = []
    for offset, data in _differences(result, volume):
        changed += len(data)
        if offset < _BLOCK:
            last.append((offset, data))
        else:
            volume.pwrite(offset, data)
    volume.flush()
    volume.pwrite_many(last)
    volume.flush()
    return changed


def _differences(result: Node, volume: Node) -> Iterator[tuple[int, bytes]]:
    """Blocks of `result` that `volume` has otherwise. Holes of both cost nothing."""
    for extent in result.extents():
        zero = extent.kind is not ExtentKind.DATA and all(
            part.reads_zero for part in volume.extents(extent.offset, extent.length)
        )
        if zero:
            continue
        for at in range(extent.offset, extent.end, _PIECE):
            size = min(_PIECE, extent.end - at)
            new, old = result.pread(at, size), volume.pread(at, size)
            if new == old:
                continue
            for start in range(0, size, _BLOCK):
                if new[start : start + _BLOCK] != old[start : start + _BLOCK]:
                    yield at + start, new[start : start + _BLOCK]
