"""Compressing and decompressing single clusters (docs/interop/qcow2.txt, "Compressed Clusters Descriptor").

zlib means a raw deflate stream with a window of 4 KiB; zstd a frame. Neither can give more than one cluster.
"""

from __future__ import annotations

import functools
import threading
import zlib
from typing import Any

from runtime.block.errors import ImageCorrupt
from runtime.block.format.qcow2.header import COMPRESSION_ZSTD
from runtime.block.node import Buffer

_WINDOW = -12


class Codec:
    """One image's compression. Objects may be used by several threads."""

    def __init__(self, kind: int, cluster_size: int, name: str) -> None:
        self.kind = kind
        self.cluster_size = cluster_size
        self.name = name
        self._own = threading.local()

    def _zstd_compressor(self) -> Any:
        """This thread's compressor. Level 2 packs clusters nearly as small as 3 in 3/4 of the time."""
        if not hasattr(self._own, "zstd"):
            import zstandard

            self._own.zstd = zstandard.ZstdCompressor(level=2)
        return self._own.zstd

    def compress(self, data: Buffer) -> bytes | None:
        """One cluster compressed; None if that doesn't make it smaller."""
        if self.kind == COMPRESSION_ZSTD:
            packed: bytes = self._zstd_compressor().compress(data)
        else:
            library = _deflate_library()
            packed = library.compress(data, 6 if library is zlib else 2, _WINDOW)
        return packed if len(packed) < self.cluster_size else None

    def decompress(self, data: bytes, offset: int) -> bytes:
        """The cluster whose compressed bytes, maybe with others behind them, are `data`. Raises
        ImageCorrupt.
        """
        if self.kind == COMPRESSION_ZSTD:
            plain = self._zstd(data, offset)
        else:
            library = _deflate_library()
            try:
                plain = library.decompressobj(_WINDOW).decompress(data, self.cluster_size)
            except library.error as error:
                raise self._corrupt(offset, str(error)) from error
        if len(plain) != self.cluster_size:
            raise self._corrupt(offset, f"it gives {len(plain)} bytes instead of {self.cluster_size}")
        return plain

    def _zstd(self, data: bytes, offset: int) -> bytes:
        import zstandard

        # A frame may ask for a window, and so for memory, of any size: more than a few clusters is nonsense.
        window = max(1 << 23, self.cluster_size * 2)
        reader = zstandard.ZstdDecompressor(max_window_size=window).stream_reader(data)
        parts = []
        left = self.cluster_size
        try:
            while left and (part := reader.read(left)):
                parts.append(part)
                left -= len(part)
        except zstandard.ZstdError as error:
            raise self._corrupt(offset, str(error)) from error
        return b"".join(parts)

    def _corrupt(self, offset: int, why: str) -> ImageCorrupt:
        return ImageCorrupt(
            f"a compressed cluster can't be decompressed: {why}",
            offset=offset,
            field="compressed data",
            where=self.name,
        )


@functools.cache
def _deflate_library() -> Any:
    """`isal_zlib`, else `zlib`, which has the same functions and is slower."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib
