"""cloop images (compressed loop devices of Knoppix, version 2), read only."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.node import FormatNode

MAGIC = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
_FIELDS = 128  # where the block size and the number of blocks are, big endian; then the offsets
_MAX_BLOCK = 16 << 20
_MAX_BLOCKS = 1 << 21


class CloopDriver(Driver):
    name = "cloop"
    writable = False
    creatable = False

    def open(self, file: ProtocolNode, context: OpenContext) -> FormatNode:
        import numpy as np

        from runtime.block.format.chunks import ChunkNode
        from runtime.block.format.deflate import inflate
        from runtime.block.report import ImageInfo

        if context.writable:
            raise ImageUnsupported("cloop images can't be written", where=file.name, remedy="convert it")
        size, count = struct.unpack(">II", file.pread(_FIELDS, 8))
        if size % 512 or not 512 <= size <= _MAX_BLOCK:
            raise ImageCorrupt(
                "blocks can't have this size", offset=_FIELDS, field="block_size", value=size, where=file.name
            )
        if count > _MAX_BLOCKS or _FIELDS + 8 + 8 * (count + 1) > file.length():
            raise ImageCorrupt(
                "the table of offsets can't have this length",
                offset=_FIELDS + 4,
                field="num_blocks",
                value=count,
                where=file.name,
            )
        offsets = np.frombuffer(file.pread(_FIELDS + 8, 8 * (count + 1)), ">i8").astype(np.int64)
        lengths = np.diff(offsets)
        bad = np.flatnonzero((lengths < 0) | (lengths > 2 * size + 1024) | (offsets[:-1] < 0))
        if len(bad) or (count and offsets[-1] > file.length()):
            at = int(bad[0]) if len(bad) else count
            raise ImageCorrupt(
                "a block lies where none can be",
                offset=_FIELDS + 8 + 8 * at,
                field="offset",
                value=int(offsets[at]),
                where=file.name,
            )

        class CloopNode(ChunkNode):
            format = "cloop"

            def _unpack(self, chunk: int, length: int) -> bytes:
                start = int(offsets[chunk])
                data = inflate(file.pread(start, int(lengths[chunk])), length)
                if data is None or len(data) < length:
                    raise ImageCorrupt(
                        f"block {chunk} can't be unpacked", offset=start, field="block", where=self.name
                    )
                return data

            def info(self) -> ImageInfo:
                return ImageInfo(
                    filename=self.name,
                    format=self.format,
                    virtual_size=self.length(),
                    actual_size=file.allocated(),
                    cluster_size=size,
                    compressed=True,
                )

        return CloopNode(file, np.arange(count + 1, dtype=np.int64) * size, np.zeros(count, np.bool_))


DRIVER = CloopDriver()
