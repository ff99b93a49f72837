"""What users name images by: paths, and addresses of protocols. (Images may only name paths: `policy`.)"""

from __future__ import annotations

import importlib
from pathlib import Path

from runtime.block.errors import ImageUnsupported
from runtime.block.node import ProtocolNode
from runtime.block.protocol.file import FileNode

#: Scheme -> "module:function"; the function takes (address, writable=bool) and gives a ProtocolNode.
SCHEMES: dict[str, str] = {
    "nbd": "runtime.block.protocol.nbd.node:open_uri",
    "nbds": "runtime.block.protocol.nbd.node:open_uri",
    "nbd+unix": "runtime.block.protocol.nbd.node:open_uri",
    "nbds+unix": "runtime.block.protocol.nbd.node:open_uri",
    "http": "runtime.block.protocol.http:open_url",
    "https": "runtime.block.protocol.http:open_url",
}


def scheme_of(location: str | Path) -> str | None:
    """The scheme of an address like nbd://host/disk (or QEMU's older nbd:host:port); None for paths."""
    text = str(location)
    head, separator, rest = text.partition(":")
    known = rest.startswith("//") or (head.lower() == "nbd" and ":" in rest)
    if not separator or not known or not head.replace("+", "").isalnum() or Path(text).exists():
        return None
    return head.lower()


def open_location(location: str | Path, *, writable: bool = False, lock: bool = True) -> ProtocolNode:
    """The protocol node of a path or address. Raises ImageNotFound, ImageInUse, ImageIOError,
    ImageUnsupported.
    """
    scheme = scheme_of(location)
    if scheme is None:
        return FileNode(location, writable=writable, lock=lock)
    if scheme not in SCHEMES:
        raise ImageUnsupported(
            f"there is no protocol {scheme!r}",
            where=str(location),
            remedy="known are " + (", ".join(SCHEMES) or "only paths of files"),
        )
    module, _, function = SCHEMES[scheme].partition(":")
    node: ProtocolNode = getattr(importlib.import_module(module), function)(str(location), writable=writable)
    return node
