"""Structures as guests see them, written as lists of fields; padding is explicit.

A field is ``name:type`` with the `struct` module's type letters (b B h H i I q Q), or ``N`` for N bytes of
padding.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping


class Layout:
    """A structure: packs values by name, in either byte order. Missing values are 0; all wrap to their
    width.
    """

    def __init__(self, fields: str) -> None:
        self.names: list[str] = []
        self.masks: list[int] = []
        formats = ""
        for field in fields.split():
            name, _, letter = field.partition(":")
            if not letter:
                formats += f"{name}x"
                continue
            # Everything is packed unsigned: the bits are the same, and values wrap instead of failing.
            letter = letter.upper()
            formats += letter
            self.names.append(name)
            self.masks.append((1 << (8 * struct.calcsize("=" + letter))) - 1)
        self._packers = {order: struct.Struct(order + formats) for order in "<>"}
        self.size = self._packers["<"].size

    def pack(self, order: str, values: Mapping[str, int]) -> bytes:
        get = values.get
        return self._packers[order].pack(
            *[get(name, 0) & mask for name, mask in zip(self.names, self.masks, strict=True)]
        )

    def unpack(self, order: str, data: bytes) -> dict[str, int]:
        return dict(zip(self.names, self._packers[order].unpack(data), strict=True))


TIMES64 = "atime:q atime_ns:Q mtime:q mtime_ns:Q ctime:q ctime_ns:Q"
TIMES32 = "atime:i atime_ns:I mtime:i mtime_ns:I ctime:i ctime_ns:I"

STAT_GENERIC64 = Layout(
    f"dev:Q ino:Q mode:I nlink:I uid:I gid:I rdev:Q 8 size:q blksize:i 4 blocks:q {TIMES64} 8"
)
STAT_X86_64 = Layout(
    f"dev:Q ino:Q nlink:Q mode:I uid:I gid:I 4 rdev:Q size:q blksize:q blocks:q {TIMES64} 24"
)
STAT64_GENERIC32 = Layout(
    f"dev:Q ino:Q mode:I nlink:I uid:I gid:I rdev:Q 8 size:q blksize:i 4 blocks:q {TIMES32} 8"
)
STAT64_SPARC32 = Layout(
    f"dev:Q ino:Q mode:I nlink:I uid:I gid:I rdev:Q 8 size:q blksize:I 8 blocks:I {TIMES32} 8"
)
STAT64_ARM = Layout(
    f"dev:Q 4 ino_low:I mode:I nlink:I uid:I gid:I rdev:Q 8 size:q blksize:I 4 blocks:Q {TIMES32} ino:Q"
)
STAT64_I386 = Layout(
    f"dev:Q 4 ino_low:I mode:I nlink:I uid:I gid:I rdev:Q 4 size:q blksize:I blocks:Q {TIMES32} ino:Q"
)
STATX = Layout(
    "mask:I blksize:I attributes:Q nlink:I uid:I gid:I mode:H 2 ino:Q size:Q blocks:Q attributes_mask:Q "
    "atime:q atime_ns:I 4 btime:q btime_ns:I 4 ctime:q ctime_ns:I 4 mtime:q mtime_ns:I 4 "
    "rdev_major:I rdev_minor:I dev_major:I dev_minor:I mnt_id:Q 104"
)
STATFS64 = Layout(
    "type:q bsize:q blocks:Q bfree:Q bavail:Q files:Q ffree:Q fsid:Q namelen:q frsize:q flags:q 32"
)
STATFS32_64 = Layout(
    "type:I bsize:I blocks:Q bfree:Q bavail:Q files:Q ffree:Q fsid:Q namelen:I frsize:I flags:I 16"
)
STATFS32 = Layout(
    "type:I bsize:I blocks:I bfree:I bavail:I files:I ffree:I fsid:Q namelen:I frsize:I flags:I 16"
)
SYSINFO64 = Layout(
    "uptime:q load1:Q load5:Q load15:Q totalram:Q freeram:Q sharedram:Q bufferram:Q totalswap:Q freeswap:Q "
    "procs:H 6 totalhigh:Q freehigh:Q mem_unit:I 4"
)
SYSINFO32 = Layout(
    "uptime:i load1:I load5:I load15:I totalram:I freeram:I sharedram:I bufferram:I totalswap:I freeswap:I "
    "procs:H 2 totalhigh:I freehigh:I mem_unit:I 8"
)
TERMIOS = Layout("iflag:I oflag:I cflag:I lflag:I")
"""The part of ``struct termios`` before the control characters."""
