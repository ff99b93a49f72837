"""The files of an appliance: beside an .ovf, or inside an .ova, which is a tar archive that isn't unpacked.

Names come from strangers. Only plain names are taken (no folders, no links, no devices), each once.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from machines.appliance.errors import ApplianceError
from runtime.block.errors import ImageError
from runtime.block.filter.slice import SliceNode
from runtime.block.node import ProtocolNode
from runtime.block.protocol.file import FileNode

_BLOCK = 512
_MAXIMUM_MEMBERS = 4096
_MAXIMUM_EXTENDED = 64 << 10
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


def checked_name(name: str, where: str) -> str:
    """`name` if it is a plain file name. Raises `ApplianceError`."""
    plain = name.removeprefix("./")
    if (
        not plain
        or plain in (".", "..")
        or "/" in plain
        or "\\" in plain
        or "\0" in plain
        or len(plain) > 255
    ):
        raise ApplianceError(
            f"the file name {name[:200]!r} isn't allowed: only files right beside the descriptor are",
            where=where,
        )
    if "://" in name or (len(plain) > 1 and plain[1] == ":"):
        raise ApplianceError(f"the address {name[:200]!r} isn't allowed", where=where)
    return plain


class Files:
    """Named files of an appliance."""

    where: str
    descriptor: str

    def names(self) -> list[str]:
        """All names, in order."""
        raise NotImplementedError

    def open(self, name: str) -> ProtocolNode:
        """The file called `name`. Raises `ApplianceError`."""
        raise NotImplementedError

    def read(self, name: str, limit: int) -> bytes:
        """A small file's content."""
        with self.open(name) as node:
            if node.length() > limit:
                raise ApplianceError(f"{name} is longer than {limit} bytes", where=self.where)
            return node.pread(0, node.length())

    def close(self) -> None:
        pass


class Folder(Files):
    """An .ovf file and what lies beside it."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self.descriptor = path.name
        self._folder = path.parent

    def names(self) -> list[str]:
        return [entry.name for entry in sorted(self._folder.iterdir()) if entry.is_file()]

    def open(self, name: str) -> ProtocolNode:
        path = self._folder / checked_name(name, self.where)
        if path.is_symlink():
            raise ApplianceError(f"{name} is a symbolic link, which isn't followed", where=self.where)
        try:
            return FileNode(path)
        except ImageError as error:
            raise ApplianceError(f"{name} can't be opened: {error.what}", where=self.where) from None


class Archive(Files):
    """An .ova file."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._file = FileNode(path)
        try:
            self._members = dict(self._scan())
            descriptors = [name for name in self._members if name.lower().endswith(".ovf")]
            if not descriptors:
                raise ApplianceError("the archive has no .ovf descriptor", where=self.where)
            self.descriptor = descriptors[0]
        except BaseException:
            self._file.close()
            raise

    def _scan(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Names with offset and size of their content."""
        at, size = 0, self._file.length()
        seen: set[str] = set()
        extended: dict[str, str] = {}
        for _ in range(_MAXIMUM_MEMBERS):
            block = self._file.pread(at, _BLOCK)
            if at + _BLOCK > size or not block.strip(b"\0"):
                if not seen:
                    raise ApplianceError("the archive is empty", where=self.where)
                return
            try:
                member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise ApplianceError(
                    f"this is no tar archive: {error} (offset {at})", where=self.where
                ) from None
            length = member.size
            if "size" in extended and member.type not in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                length = _decimal(extended["size"])
            if length < 0 or at + _BLOCK + length > size:
                raise ApplianceError(f"a file of {length} bytes is cut off (offset {at})", where=self.where)
            start, at = at + _BLOCK, at + _BLOCK + -(-length // _BLOCK) * _BLOCK
            if member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
                if length > _MAXIMUM_EXTENDED:
                    raise ApplianceError(f"an extended header of {length} bytes", where=self.where)
                data = self._file.pread(start, length)
                if member.type == tarfile.GNUTYPE_LONGNAME:
                    extended["path"] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif member.type == tarfile.XHDTYPE:
                    extended |= _records(data)
                continue
            name = extended.pop("path", member.name)
            extended.clear()
            if member.type not in _REGULAR:
                raise ApplianceError(
                    f"{name[:200]!r} is a link, folder or device; an appliance has only files",
                    where=self.where,
                )
            plain = checked_name(name, self.where)
            if plain in seen:
                raise ApplianceError(f"the archive has {plain!r} twice", where=self.where)
            seen.add(plain)
            yield plain, (start, length)
        raise ApplianceError(f"the archive has more than {_MAXIMUM_MEMBERS} files", where=self.where)

    def names(self) -> list[str]:
        return list(self._members)

    def open(self, name: str) -> ProtocolNode:
        plain = checked_name(name, self.where)
        if plain not in self._members:
            raise ApplianceError(f"the archive has no file {name!r}", where=self.where)
        offset, length = self._members[plain]
        return SliceNode(self._file, offset, length, name=f"{self.where}:{plain}")

    def close(self) -> None:
        self._file.close()


def _records(data: bytes) -> dict[str, str]:
    """The records of a POSIX extended header: ``length key=value\\n``."""
    result = {}
    at = 0
    while at < len(data):
        length_text, separator, _ = data[at : at + 20].partition(b" ")
        length = _decimal(length_text.decode("ascii", "replace"))
        if not separator or length <= len(length_text) + 1 or at + length > len(data):
            break
        key, _, value = data[at + len(length_text) + 1 : at + length - 1].partition(b"=")
        result[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += length
    return result


def _decimal(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
