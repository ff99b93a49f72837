"""The parent of a differencing VHDX image ([MS-VHDX] 2.6.2.6.3)."""

from __future__ import annotations

from pathlib import PureWindowsPath

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageChainError, ImageNotFound
from runtime.block.format.vhdx.header import show_guid


def find_parent(locator: dict[str, str], context: OpenContext, where: str) -> str:
    """The reference of the parent's file: the first of its names that is there. Raises ImageNotFound."""
    names: list[str] = []
    for key in ("relative_path", "absolute_win32_path", "volume_path"):
        path = PureWindowsPath(locator.get(key, "").split("\0")[0])
        if not path.drive and not path.root and path.parts:
            names.append(path.as_posix())
        if path.name:
            names.append(path.name)
    if not names:
        raise ImageNotFound("the image doesn't say where its parent is", where=where)
    if context.path is not None:
        for name in names:
            if (context.path.parent / name).is_file():
                return name
    return names[0]


def make_locator(reference: str, data_write: bytes) -> dict[str, str]:
    """What a child says of a parent of that name with that content."""
    relative = reference.replace("/", "\\")
    if not reference.startswith(("/", "..")):
        relative = ".\\" + relative
    key = "absolute_win32_path" if reference.startswith("/") else "relative_path"
    return {"parent_linkage": show_guid(data_write), key: relative}


def verify_parent(locator: dict[str, str], data_write: bytes, where: str) -> None:
    """Raises ImageChainError unless the parent's content is what it was when the child was made."""
    known = {locator.get(key, "").strip().lower() for key in ("parent_linkage", "parent_linkage2")} - {""}
    if show_guid(data_write).lower() not in known:
        raise ImageChainError(
            "the parent has changed since this differencing image was made from it, or is another one",
            where=where,
            remedy="if you know that its data still fits: `isagen image rebase -u -b PARENT IMAGE`",
        )
