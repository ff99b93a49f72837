"""The file that holds the data of images whose own file has only the tables ("external data file")."""

from __future__ import annotations

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageError, ImageNotFound, ReferenceDenied
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import Header
from runtime.block.node import Buffer, ProtocolNode


def open_data_file(header: Header, context: OpenContext, name: str) -> ProtocolNode:
    """The file that the context gives (option `data_file`), else the one that the image called `name` names
    in its `header`. Raises ImageCorrupt if there is neither.
    """
    given = context.options.get("data_file")
    recorded = header.extension(h.EXT_DATA_FILE)
    if isinstance(given, ProtocolNode):
        return given
    if given is None and recorded is None:
        raise ImageCorrupt(
            "the image's data is in another file that it doesn't name",
            offset=72,
            field="incompatible_features",
            value=header.incompatible,
            where=name,
            remedy="open it with data_file=...",
        )
    reference = str(given) if given is not None else (recorded or b"").decode(errors="surrogateescape")
    try:
        return context.references.open_file(reference, "data file", writable=context.writable)
    except (ReferenceDenied, ImageNotFound) as error:
        if context.backing or context.writable:
            raise
        return AbsentNode(error)  # whoever does without a backing file only wants to know


class AbsentNode(ProtocolNode):
    """A file that can't be opened; whoever needs it is told why."""

    def __init__(self, reason: ImageError) -> None:
        self._reason = reason

    def length(self) -> int:
        return 0

    def pread(self, offset: int, length: int) -> bytes:
        raise self._reason

    def pwrite(self, offset: int, data: Buffer) -> None:
        raise self._reason

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
