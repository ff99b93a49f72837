"""Converting a disk into an image of another format: create, copy, verify, and give it its name at the end.

The image is written under a temporary name in the target's folder, so that the target's name never stands for
half an image; where a format's files know their own names, and for devices, it is written in place. A journal
beside it lets a conversion that was killed go on.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.block.errors import ImageError, ImageNotFound, ImageRange
from runtime.block.image import Image
from runtime.block.jobs import journal as journals
from runtime.block.jobs.copy import CopyOptions, CopyResult, copy
from runtime.block.jobs.progress import Progress, silent
from runtime.block.location import scheme_of
from runtime.block.node import Node
from runtime.block.protocol.file import FileNode
from runtime.block.registry import find_format
from runtime.records import field, record, replace

CHECKPOINT_SECONDS = 2.0
FIRST_CHECKPOINT = 0.25
"""What takes less time than this, in seconds, isn't worth a journal."""


class VerificationFailed(ImageError):
    """What was written doesn't read back as the source."""

    code = "image.verification-failed"


@record
class Request:
    """A conversion.

    `identity` describes the source; a resumed conversion wants the same. `options` are the create options of
    `format`. `create` False writes into an image that exists. `durable` waits for stable storage at
    checkpoints and at the end. `bitmaps`: take over the source's dirty bitmaps, too; `skip_broken_bitmaps`:
    but not those that mean nothing.
    """

    source: Node
    identity: dict[str, Any]
    target: str
    format: str
    options: dict[str, Any] = field(default_factory=dict)
    copying: CopyOptions = field(default_factory=CopyOptions)
    create: bool = True
    resume: bool = False
    verify: bool = False
    durable: bool = False
    bitmaps: bool = False
    skip_broken_bitmaps: bool = False
    passphrase: Callable[[], bytes] | None = None


@record
class Result:
    """What a conversion did. Sizes are bytes."""

    size: int
    copied: CopyResult
    resumed_from: int = 0
    verified: bool = False
    seconds: float = 0.0


def convert(request: Request, *, progress: Progress = silent) -> Result:
    """Do it. Raises what creating, reading and writing raise, and `VerificationFailed`."""
    started = time.monotonic()
    if _is_write_once(request.options):
        request = replace(request, copying=replace(request.copying, compressed=True))
    result = _into_existing(request, progress) if not request.create else _into_new(request, progress)
    result.seconds = time.monotonic() - started
    return result


def _into_existing(request: Request, progress: Progress) -> Result:
    with Image.open(request.target, request.format, writable=True, passphrase=request.passphrase) as image:
        if image.size < request.source.length():
            raise ImageRange(
                f"the target has {image.size} bytes, the source {request.source.length()}",
                where=request.target,
            )
        image.node.file.durable = request.durable
        copied = copy(request.source, image.node, request.copying, progress=progress)
        _zero_rest(request, image, request.copying)
        _copy_bitmaps(request, image)
        image.flush()
        verified = _verify(request, image, progress)
    return Result(request.source.length(), copied, verified=verified)


def _into_new(request: Request, progress: Progress) -> Result:
    if scheme_of(request.target) is not None or Path(request.target).is_block_device():
        if request.format != "raw":
            raise ImageError(
                "only raw disks can be written to devices and addresses",
                where=request.target,
                remedy="convert with -n into an image that exists there",
            )
        return _into_existing(
            replace(request, copying=replace(request.copying, target_is_zero=False)), progress
        )
    return _NewImage(request).run(progress)


class _NewImage:
    """A conversion into a new file."""

    def __init__(self, request: Request) -> None:
        self._request = request
        # A symbolic link keeps pointing where it points.
        self._target = Path(os.path.realpath(request.target))
        if not self._target.parent.is_dir():
            raise ImageNotFound("there is no such folder", where=str(self._target.parent))
        if self._target.is_dir():
            raise ImageError("the target is a folder", where=request.target)
        in_place = _knows_its_name(request.format, request.options)
        self._work = self._target if in_place else self._target.with_name(f".{self._target.name}.partial")
        self._journal_path = journals.path_of(self._target)
        self._description = {
            "format": request.format,
            "options": {name: str(value) for name, value in sorted(request.options.items())},
            "compressed": request.copying.compressed,
        }

    def run(self, progress: Progress) -> Result:
        request = self._request
        if self._target.exists():
            # Whoever uses the old image would lose it: ask for its lock.
            FileNode(self._target, writable=True).close()
        image, start = self._open_unfinished() if request.resume else (None, 0)
        fresh = image is None
        if image is None:
            image = self._create()
        entry = journals.Entry(request.identity, self._description, str(self._work), start)
        journal = journals.Journal(self._journal_path, entry)
        checkpoints = _Checkpoints(image, journal, request.durable)
        try:
            image.node.file.durable = request.durable
            zero = request.copying.target_is_zero and image.node.starts_zeroed
            copying = replace(request.copying, start=start, target_is_zero=zero)
            copied = copy(
                request.source,
                image.node,
                copying,
                progress=progress,
                checkpoint=checkpoints,
            )
            _zero_rest(request, image, copying)
            _copy_bitmaps(request, image)
            image.close()
        except BaseException as error:
            worth = not isinstance(error, ImageError) or _has_data(self._work)
            self._leave(image, checkpoints, fresh=fresh, worth=worth and not _is_write_once(request.options))
            raise
        verified = self._verify_file(progress)
        if self._work != self._target:
            self._work.replace(self._target)
            if request.durable:
                _sync_folder(self._target.parent)
        journal.remove()
        return Result(request.source.length(), copied, start, verified)

    def _create(self) -> Image:
        request = self._request
        self._journal_path.unlink(missing_ok=True)
        image = Image.create(
            self._work,
            request.format,
            request.source.length(),
            overwrite=True,
            durable=request.durable,
            passphrase=request.passphrase,
            **request.options,
        )
        if self._work != self._target:
            _copy_permissions(self._target, self._work)
        return image

    def _open_unfinished(self) -> tuple[Image | None, int]:
        """The image that an earlier run of the same conversion left, and how far it came."""
        request = self._request
        entry = journals.load(self._journal_path)
        if _is_write_once(request.options):
            return None, 0
        if entry is None or (entry.source, entry.target) != (request.identity, self._description):
            return None, 0
        if entry.work != str(self._work) or not entry.usable:
            return None, 0
        try:
            image = Image.open(
                self._work,
                request.format,
                writable=True,
                allow=self._target.parent,
                passphrase=request.passphrase,
            )
        except ImageError:
            return None, 0
        if image.size < request.source.length():
            image.close()
            return None, 0
        return image, min(entry.usable, request.source.length())

    def _leave(self, image: Image, checkpoints: _Checkpoints, *, fresh: bool, worth: bool) -> None:
        """After a failure: keep what can be resumed (and is `worth` it), nothing else."""
        with contextlib.suppress(ImageError, OSError):
            image.close()
            if worth:
                checkpoints.last()
        if fresh and not (worth and checkpoints.told):
            with contextlib.suppress(OSError):
                self._work.unlink(missing_ok=True)
                self._journal_path.unlink(missing_ok=True)

    def _verify_file(self, progress: Progress) -> bool:
        if not self._request.verify:
            return False
        _forget_cached(self._work)
        with Image.open(
            self._work, self._request.format, allow=self._target.parent, passphrase=self._request.passphrase
        ) as image:
            return _verify(self._request, image, progress)


class _Checkpoints:
    """Now and then writes into the journal how far the copy is."""

    def __init__(self, image: Image, journal: journals.Journal, durable: bool) -> None:
        self._image = image
        self._journal = journal
        self._durable = durable
        self._next = time.monotonic() + min(FIRST_CHECKPOINT, CHECKPOINT_SECONDS)
        self._offset = 0

    @property
    def told(self) -> bool:
        """Whether the journal says how far the copy came."""
        return self._journal.told

    def last(self) -> None:
        """Note how far the copy came. The image is closed already."""
        if self._offset:
            self._journal.advance(self._offset, synced=False)

    def __call__(self, offset: int) -> None:
        self._offset = offset
        now = time.monotonic()
        if now >= self._next:
            self._image.flush()
            self._journal.advance(offset, synced=self._durable)
            self._next = now + CHECKPOINT_SECONDS


def _zero_rest(request: Request, image: Image, copying: CopyOptions) -> None:
    """What the image has behind the source's end reads as zeroes."""
    end = request.source.length()
    if image.size > end and not copying.target_is_zero:
        image.write_zeroes(end, image.size - end)


def _copy_bitmaps(request: Request, image: Image) -> None:
    if request.bitmaps:
        image.node.copy_bitmaps(request.source, skip_broken=request.skip_broken_bitmaps)


def _verify(request: Request, image: Image, progress: Progress) -> bool:
    """Whether the caller asked for it; raises if the image isn't the source's content."""
    if not request.verify:
        return False
    from runtime.block.jobs.compare import compare

    difference = compare(request.source, image.node, progress=progress)
    if difference is not None:
        raise VerificationFailed(
            f"what was written differs from the source at offset {difference.offset}",
            where=request.target,
            remedy="check the storage; the source is untouched",
        )
    return True


def _knows_its_name(format: str, options: dict[str, Any]) -> bool:
    """Whether the image's files hold their own names, so that renaming breaks them."""
    names = {name.replace("-", "_") for name in options}
    return find_format(format).name == "vmdk" or "data_file" in names


def _is_write_once(options: dict[str, Any]) -> bool:
    """Whether the image can only be written from its start to its end, compressed: such a conversion can't go
    on, only begin again.
    """
    return str(options.get("subformat", "")).lower() == "streamoptimized"


def _copy_permissions(old: Path, new: Path) -> None:
    """Let the file that replaces `old` be readable by the same people."""
    with contextlib.suppress(OSError):
        status = old.stat()
        os.chown(new, status.st_uid, status.st_gid)
        new.chmod(stat.S_IMODE(status.st_mode))


def _has_data(path: Path) -> bool:
    """Whether there is enough in an unfinished image to keep it."""
    try:
        return path.stat().st_blocks * 512 > 16 << 20
    except OSError:
        return False


def _forget_cached(path: Path) -> None:
    """Let the next read come from the disk, not from memory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def identity_of(name: str, node: Node, **details: str) -> dict[str, Any]:
    """What tells whether a source is still the same: name, size, and a file's time of change."""
    result: dict[str, Any] = {"name": name, "size": node.length(), **details}
    with contextlib.suppress(OSError, ValueError):
        status = Path(name).stat()
        result |= {"file": [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]}
    return result
