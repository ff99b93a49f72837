"""Deflate with zlib's wrapping, as fast as this machine has it, and bounded when unpacking."""

from __future__ import annotations

import zlib
from typing import Any

from runtime.block.node import Buffer

_engine: Any = zlib
_level = 6
try:
    from isal import isal_zlib
except ImportError:  # no wheel for this processor
    pass
else:
    _engine = isal_zlib
    _level = 2  # of isal's 0 to 3: as small as zlib's 6 on disks, several times as fast


def deflate(data: Buffer) -> bytes:
    """`data` compressed (RFC 1950). Doesn't hold the interpreter's lock meanwhile."""
    packed: bytes = _engine.compress(data, _level)
    return packed


def inflate(packed: Buffer, limit: int) -> bytes | None:
    """The first `limit` bytes at most of what `packed` holds (what follows its end is ignored); None if
    damaged.
    """
    try:
        data: bytes = _engine.decompressobj().decompress(packed, limit)
    except (zlib.error, _engine.error):
        return None
    return data
