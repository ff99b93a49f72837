"""Reading files of the file systems on a disk, through The Sleuth Kit: ext, FAT, NTFS, ISO 9660, HFS+ and
more.

The library is C and reads what strangers wrote: run it through `runtime.block.inside.isolation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runtime.block.errors import ImageCorrupt, ImageError, ImageNotFound
from runtime.block.node import Node
from runtime.records import record

_PIECE = 1 << 20
_MAXIMUM_LINKS = 16
_TYPES = {1: "file", 2: "folder", 3: "fifo", 4: "character", 5: "block", 6: "link", 8: "socket"}
# The Sleuth Kit's own entries for what isn't in any folder.
_VIRTUAL = (10, 11)


@record(frozen=True)
class Entry:
    """A file or folder. Times are seconds since 1970, UTC; `target` is a symbolic link's."""

    name: str
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    modified: int
    target: str = ""


class FileSystem:
    """A file system on `volume`. Raises `ImageError` if there is none that can be read."""

    def __init__(self, volume: Node) -> None:
        tsk = _library()
        self._volume = volume
        self._image = _image_of(tsk, volume)
        try:
            self._system = tsk.FS_Info(self._image)
        except OSError as error:
            raise ImageError(
                f"no file system that can be read: {_short(error)}",
                where=volume.name,
                remedy="ext2/3/4, FAT, NTFS, ISO 9660 and HFS+ are understood",
            ) from None
        self._root: int = int(self._system.info.root_inum)

    def entries(self, path: str) -> Iterator[Entry]:
        """What is in the folder `path`; the file itself if it is none. Raises `ImageNotFound`."""
        number, name = self._find(path)
        file = self._open(number, path)
        if _type(file) != "folder":
            yield self._entry(file, name)
            return
        for _, entry_name, child in self._children(number, path):
            yield self._entry(child, entry_name)

    def read(self, path: str) -> Iterator[bytes]:
        """The content of the file `path` in pieces; symbolic links are followed."""
        number, _ = self._find(path)
        file = self._open(number, path)
        if _type(file) != "file":
            raise ImageError(f"{path} is a {_type(file)}, not a file", where=self._volume.name)
        size = int(file.info.meta.size)
        for at in range(0, size, _PIECE):
            wanted = min(_PIECE, size - at)
            try:
                data: bytes = file.read_random(at, wanted)
            except OSError as error:
                raise ImageCorrupt(
                    f"{path} can't be read at {at}: {_short(error)}",
                    offset=None,
                    field=path,
                    where=self._volume.name,
                ) from None
            if len(data) != wanted:
                raise ImageCorrupt(f"{path} ends early", offset=None, field=path, where=self._volume.name)
            yield data

    def exists(self, path: str) -> bool:
        try:
            self._find(path)
        except ImageNotFound:
            return False
        return True

    def _find(self, path: str) -> tuple[int, str]:
        """The inode that `path` leads to, and its last name."""
        # Parts still to be walked, last first; a link's target is put in its place.
        parts = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        trail = [(self._root, "/")]
        links = 0
        while parts:
            part = parts.pop()
            if part == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            number, child = self._child(trail[-1][0], part, path)
            if _type(child) == "link":
                links += 1
                if links > _MAXIMUM_LINKS:
                    raise ImageNotFound(f"{path}: too many symbolic links", where=self._volume.name)
                target = self._target(child)
                if target.startswith("/"):
                    trail = trail[:1]
                parts += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
                continue
            trail.append((number, part))
        return trail[-1]

    def _child(self, folder: int, name: str, path: str) -> tuple[int, Any]:
        fallback = None
        folded = name.casefold()
        for number, candidate, child in self._children(folder, path):
            if candidate == name:
                return number, child
            if candidate.casefold() == folded and not self._is_case_sensitive():
                fallback = number, child
        if fallback is not None:
            return fallback
        raise ImageNotFound(f"there is no {path!r} in the image", where=self._volume.name)

    def _is_case_sensitive(self) -> bool:
        tsk = _library()
        kind = int(self._system.info.ftype)
        return not kind & (int(tsk.TSK_FS_TYPE_FAT_DETECT) | int(tsk.TSK_FS_TYPE_NTFS))

    def _children(self, folder: int, path: str) -> Iterator[tuple[int, str, Any]]:
        """Inode, name and file of what is in a folder."""
        try:
            directory = self._system.open_dir(inode=folder)
        except OSError as error:
            raise ImageNotFound(f"{path} can't be listed: {_short(error)}", where=self._volume.name) from None
        for file in directory:
            name = file.info.name.name.decode("utf-8", "surrogateescape")
            meta = file.info.meta
            if name in (".", "..") or meta is None or int(meta.type) in _VIRTUAL or _is_deleted(file):
                continue
            yield int(meta.addr), name, file

    def _open(self, number: int, path: str) -> Any:
        try:
            return self._system.open_meta(inode=number)
        except OSError as error:
            raise ImageNotFound(f"{path} can't be opened: {_short(error)}", where=self._volume.name) from None

    def _entry(self, file: Any, name: str) -> Entry:
        meta = file.info.meta
        kind = _type(file)
        target = self._target(file) if kind == "link" else ""
        return Entry(
            name, kind, int(meta.size), int(meta.mode), int(meta.uid), int(meta.gid), int(meta.mtime), target
        )

    @staticmethod
    def _target(file: Any) -> str:
        target: bytes = file.info.meta.link or b""
        return target.decode("utf-8", "surrogateescape")


def _library() -> Any:
    try:
        import pytsk3
    except ImportError:
        raise ImageError(
            "looking into images needs the Python package pytsk3", remedy="pip install pytsk3"
        ) from None
    return pytsk3


def _image_of(tsk: Any, volume: Node) -> Any:
    """The node as The Sleuth Kit sees an image."""

    class NodeImage(tsk.Img_Info):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(url="")

        def read(self, offset: int, size: int) -> bytes:
            inside = max(0, min(size, volume.length() - offset))
            return volume.pread(offset, inside)

        def get_size(self) -> int:
            return volume.length()

        def close(self) -> None:
            pass

    return NodeImage()


def _type(file: Any) -> str:
    return _TYPES.get(int(file.info.meta.type), "other")


def _is_deleted(file: Any) -> bool:
    """Whether the entry's name isn't in use any more (TSK_FS_NAME_FLAG_ALLOC is 1)."""
    return not int(file.info.name.flags) & 1


def _short(error: OSError) -> str:
    """The library's message without the names of its functions."""
    text = str(error)
    return text.rpartition("(")[2].rstrip(")") if "(" in text else text
