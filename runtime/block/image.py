"""`Image`: a disk image as people use it, whatever its format, with the images below it.

with Image.open("disk.vmdk") as image:
    boot = image.pread(0, 512)

Image.create("overlay.qcow2", "qcow2", backing_file="disk.vmdk", backing_format="vmdk").close()
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.block.chain import Chain, open_format
from runtime.block.driver import OpenContext
from runtime.block.errors import ImageExists, ImageOption, ImageUnsupported
from runtime.block.location import open_location, scheme_of
from runtime.block.node import Buffer, Extent, FormatNode, Preallocation, ProtocolNode, Repair, Snapshots
from runtime.block.policy import ReferencePolicy
from runtime.block.protocol.file import FileNode
from runtime.block.registry import find_format, format_of_name
from runtime.block.snapshots.attach import with_snapshots

if TYPE_CHECKING:
    from runtime.block.report import CheckReport, ImageInfo

Passphrase = str | bytes | Callable[[], bytes] | None
Allow = ReferencePolicy | Iterable[str | Path] | str | Path | None


def _passphrase(value: Passphrase) -> Callable[[], bytes] | None:
    if value is None or callable(value):
        return value
    given = value.encode() if isinstance(value, str) else value
    return lambda: given


class Image(io.RawIOBase):
    """An open disk image: a binary file of fixed length with the operations of disks.

    Several threads may use one image; only the file position (`read`, `write`, `seek`) is shared.
    Make one with `Image.open` or `Image.create`. `node` is the format node below.
    """

    def __init__(self, node: FormatNode) -> None:
        self.node = node
        self._position = 0
        self._finished = False

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | ProtocolNode,
        format: str | None = None,
        *,
        writable: bool = False,
        allow: Allow = None,
        backing: bool = True,
        passphrase: Passphrase = None,
        check: bool = False,
        lock: bool = True,
        **options: object,
    ) -> Image:
        """Open an image.

        `source` is a path, an address (nbd://...) or a protocol node; the image takes the node. Without
        `format` the format is probed. `allow` names files or folders that the image may refer to besides its
        neighbours. `backing=False` leaves the backing file alone; what isn't in this layer then reads as
        zeroes. `check` opens a damaged image as far as `check()` needs. `lock=False` doesn't ask whether
        somebody else uses the files.

        Raises ImageNotFound, ImageInUse, ImageFormatUnknown, ImageCorrupt, ImageUnsupported, ImageKeyError,
        ReferenceDenied, ImageChainError, ImageIOError.
        """
        file = (
            source
            if isinstance(source, ProtocolNode)
            else open_location(os.fspath(source), writable=writable, lock=lock)
        )
        node = open_format(
            file,
            format,
            writable=writable,
            policy=ReferencePolicy.of(allow),
            backing=backing,
            passphrase=_passphrase(passphrase),
            check=check,
            lock=lock,
            options=options,
        )
        return cls(with_snapshots(node, whole=backing, check=check))

    @classmethod
    def create(
        cls,
        target: str | os.PathLike[str] | ProtocolNode,
        format: str | None = None,
        size: int | str | None = None,
        *,
        overwrite: bool = False,
        durable: bool = True,
        passphrase: Passphrase = None,
        **options: object,
    ) -> Image:
        """Create an image of `size` bytes (or "10G") and open it writable.

        With `durable=False` nothing is made to reach the disk as long as the image is open (`flush` orders
        nothing): for images that are worth nothing until they're complete.

        `format` defaults to what the file's extension says. The options are those of the driver (see
        `isagen image create --help`); with `backing_file` the size defaults to the backing image's.
        Nothing is left behind when it fails. Raises ImageExists unless `overwrite`, ImageOption, and what
        `open` does.
        """
        from runtime.block.creation import create_image

        if format is None:
            row = None if isinstance(target, ProtocolNode) else format_of_name(os.fspath(target))
            if row is None:
                raise ImageOption("the format isn't given and the name doesn't tell", where=str(target))
        else:
            row = find_format(format)
        secret = _passphrase(passphrase)
        if isinstance(target, ProtocolNode):
            chain = Chain(None)
            create_image(
                row.driver, target, size, dict(options), OpenContext(chain, passphrase=secret, writable=True)
            )
            return cls.open(target, row.name, writable=True, passphrase=secret)
        path = Path(os.fspath(target))
        if scheme_of(path) is not None:
            raise ImageUnsupported("images can only be created in files", where=str(path))
        existed = path.exists()
        if path.with_name(f"{path.name}.snapshots").is_dir():
            raise ImageExists(
                "there are snapshots of an image of that name",
                where=f"{path}.snapshots",
                remedy="move that folder away, or choose another name",
            )
        file = FileNode(path, writable=True, create=True, overwrite=overwrite)
        file.durable = durable
        # Who creates an image names the files that it refers to: the policy is for images of others.
        chain = Chain(path, ReferencePolicy(anything=True), overwrite=overwrite)
        try:
            create_image(
                row.driver,
                file,
                size,
                dict(options),
                OpenContext(chain, path, passphrase=secret, writable=True),
            )
            node = open_format(
                file, row.name, writable=True, passphrase=secret, policy=ReferencePolicy(anything=True)
            )
            node = with_snapshots(node)
        except BaseException:
            file.close()
            for made in chain.created:
                made.unlink(missing_ok=True)
            if not existed:
                path.unlink(missing_ok=True)
            raise
        return cls(node)

    # --- the disk ---

    @property
    def format(self) -> str:
        return self.node.format

    @property
    def size(self) -> int:
        """The disk's size in bytes."""
        return self.node.length()

    def pread(self, offset: int, length: int) -> bytes:
        """See `runtime.block.node.Node.pread`; likewise the following."""
        return self.node.pread(offset, length)

    def read_into(self, offset: int, target: memoryview | bytearray) -> None:
        self.node.read_into(offset, memoryview(target).cast("B"))

    def pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        return self.node.pread_many(requests)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.node.pwrite(offset, data)

    def pwrite_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        self.node.pwrite_many(requests)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.node.write_zeroes(offset, length, unmap=unmap)

    def write_compressed(self, offset: int, data: Buffer) -> None:
        self.node.write_compressed(offset, data)

    def discard(self, offset: int, length: int) -> None:
        self.node.discard(offset, length)

    def resize(self, size: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.node.resize(size, shrink=shrink, preallocation=preallocation)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        yield from self.node.extents(offset, length)

    def map(self) -> list[Extent]:
        """The whole disk as extents; neighbours of one state (and consecutive storage) are joined."""
        result: list[Extent] = []
        for extent in self.node.extents():
            last = result[-1] if result else None
            if (
                last is not None
                and (last.kind, last.depth, last.compressed) == (extent.kind, extent.depth, extent.compressed)
                and (
                    last.host_offset is None
                    if extent.host_offset is None
                    else last.host_offset is not None and last.host_offset + last.length == extent.host_offset
                )
            ):
                result[-1] = last._replace(length=last.length + extent.length)
            else:
                result.append(extent)
        return result

    # --- the image ---

    @property
    def snapshots(self) -> Snapshots:
        return self.node.snapshots

    def check(self, repair: Repair | None = None) -> CheckReport:
        return self.node.check(repair)

    def info(self) -> ImageInfo:
        return self.node.info()

    def amend(self, **options: object) -> None:
        self.node.amend(options)

    # --- a file ---

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return not self.node.read_only

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._position))
        if count:
            self.node.read_into(self._position, view[:count])
        self._position += count
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.node.pwrite(self._position, view)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        wanted = self._position if size is None else size
        self.node.resize(wanted, shrink=True)
        return wanted

    def flush(self) -> None:
        if not self._finished and not self.node.read_only:
            self.node.flush()

    def close(self) -> None:
        """Flush, mark the image clean, give up files and locks. May be called again."""
        if not self._finished:
            self._finished = True
            try:
                self.node.close()
            finally:
                super().close()

    def __enter__(self) -> Image:
        return self

    def __repr__(self) -> str:
        return f"<Image {self.node.name} ({self.node.format}, {'closed' if self.closed else self.size})>"
