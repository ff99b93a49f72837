"""Finds the parent of a differencing VDI image. VDI names parents by UUID only; VirtualBox keeps the paths
elsewhere.

Our own children note the name in the header's comment. Otherwise the images beside the child are asked for
their UUIDs, then those in the folder above (VirtualBox keeps children in `Snapshots`).
"""

from __future__ import annotations

from pathlib import Path

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageChainError, ImageNotFound
from runtime.block.format.vdi.header import LAYOUT, SIGNATURE, SIZE, Header, show_uuid

_HINT = "parent file: "
_MAX_FILES = 4096  # looked at in one folder


def find_parent(header: Header, context: OpenContext, where: str) -> str:
    """The reference of the parent's file. Raises ImageNotFound."""
    hint = header.comment.split(b"\0")[0].decode("utf-8", "replace")
    hint = hint.removeprefix(_HINT) if hint.startswith(_HINT) else ""
    if context.path is not None:
        if hint and _uuid_of(context.path.parent / hint) == header.parent:
            return hint
        for prefix, folder in (("", context.path.parent), ("../", context.path.parent / "..")):
            for name in _candidates(folder, context.path):
                if _uuid_of(folder / name) == header.parent:
                    return prefix + name
    if hint:
        return hint
    raise ImageNotFound(
        f"the parent image with UUID {show_uuid(header.parent)} isn't beside this one",
        where=where,
        remedy="put it there, or name it with `isagen image rebase -u -b FILE`",
    )


def comment_of(reference: str) -> bytes:
    """The header's comment that remembers the name of the parent's file; empty if it's too long."""
    raw = (_HINT + reference).encode()
    return raw if len(raw) < 256 else b""


def _candidates(folder: Path, child: Path) -> list[str]:
    try:
        names = sorted(
            entry.name for entry in folder.iterdir() if entry.is_file() and entry.name != child.name
        )
    except OSError:
        return []
    return sorted(names[:_MAX_FILES], key=lambda name: not name.lower().endswith(".vdi"))


def _uuid_of(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE)
    except (OSError, ValueError):  # ValueError: no file has such a name
        return None
    if len(data) < SIZE:
        return None
    fields = LAYOUT.read(data)
    found: bytes = fields["uuid"]
    return found if fields["signature"] == SIGNATURE else None


def verify_parent(header: Header, parent: Header, where: str) -> None:
    """Raises ImageChainError unless the parent is the one that the child was made from, and unchanged."""
    if parent.uuid != header.parent:
        raise ImageChainError(
            f"the parent has UUID {show_uuid(parent.uuid)}, and {show_uuid(header.parent)} is wanted",
            where=where,
        )
    if header.parent_modified not in (bytes(16), parent.modified):
        raise ImageChainError(
            "the parent has changed since this differencing image was made from it",
            where=where,
            remedy="if you know that its data still fits: `isagen image rebase -u -b PARENT IMAGE`",
        )
