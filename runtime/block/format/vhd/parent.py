"""The parent of a differencing VHD image: where it is said to be, and whether it is the right one.

The header has up to eight locators, paths in the ways of several systems, and the parent's bare name. Of the
locators, those of Windows in Unicode matter: W2ru (relative) and W2ku (absolute).
"""

from __future__ import annotations

import struct
from pathlib import Path, PureWindowsPath

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageChainError, ImageNotFound, ImageOption
from runtime.block.format.vhd.header import COOKIE, FOOTER, SECTOR, Header, timestamp
from runtime.block.node import ProtocolNode

_LOCATOR = struct.Struct(">4sIIIQ")  # platform code, space, length, reserved, offset
_RELATIVE, _ABSOLUTE = b"W2ru", b"W2ku"
_MAX_PATH = 4096  # bytes


def references(file: ProtocolNode, header: Header) -> list[str]:
    """The names that the image has for its parent, best first, as references with "/"."""
    found: dict[bytes, str] = {}
    for at in range(0, 192, _LOCATOR.size):
        code, _space, length, _reserved, offset = _LOCATOR.unpack_from(header.locators, at)
        if code in (_RELATIVE, _ABSOLUTE) and 0 < length <= _MAX_PATH and offset + length <= file.length():
            found[code] = file.pread(offset, length).decode("utf-16-le", "replace").rstrip("\0")
    bare = header.parent_name.decode("utf-16-be", "replace").split("\0")[0]
    names: list[str] = []
    for text in (found.get(_RELATIVE, ""), bare, found.get(_ABSOLUTE, "")):
        path = PureWindowsPath(text.split("\0")[0])
        if not path.drive and not path.root and path.parts:
            names.append(path.as_posix())
        if path.name:
            names.append(path.name)
    return list(dict.fromkeys(names))


def find_parent(file: ProtocolNode, header: Header, context: OpenContext) -> str:
    """The reference of the parent's file. Raises ImageNotFound if the image names none.

    A file that is there and has the right UUID is better than the first name; the policy has the last word.
    """
    names = references(file, header)
    if not names:
        raise ImageNotFound("the image doesn't say where its parent is", where=file.name)
    if context.path is not None:
        for name in names:
            if _uuid_of(context.path.parent / name) == header.parent_uuid:
                return name
    return names[0]


def _uuid_of(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - SECTOR))
            data = file.read(SECTOR)
    except (OSError, ValueError):  # ValueError: no file has such a name
        return None
    if len(data) < SECTOR:
        return None
    fields = FOOTER.read(data)
    found: bytes = fields["uuid"]
    return found if fields["cookie"] == COOKIE else None


def verify_parent(header: Header, parent_uuid: bytes, where: str) -> None:
    """Raises ImageChainError unless it is the parent that the child was made from."""
    if header.parent_uuid != parent_uuid:
        raise ImageChainError(
            f"the parent has UUID {parent_uuid.hex()}, and {header.parent_uuid.hex()} is wanted",
            where=where,
            remedy="name the right one with `isagen image rebase -u -b FILE`",
        )


def describe(reference: str, path: Path | None, offset: int) -> tuple[bytes, int, bytes, bytes]:
    """(parent name, timestamp, locators, what the locator at `offset` points to) for a parent of that name.
    """
    name = PureWindowsPath(reference).name.encode("utf-16-be")[:510]
    relative = reference.replace("/", "\\")
    if not reference.startswith(("/", "..")):
        relative = ".\\" + relative
    text = relative.encode("utf-16-le")
    if len(text) > _MAX_PATH:
        raise ImageOption("the parent's name is too long", where=reference)
    space = -(-len(text) // SECTOR) * SECTOR
    locators = _LOCATOR.pack(_RELATIVE, space, len(text), 0, offset)
    modified = 0
    if path is not None:
        full = path.parent / reference
        modified = timestamp(full.stat().st_mtime) if full.exists() else 0
    return name, modified, locators, text.ljust(space, b"\0")
