"""i386's segments for thread-local storage: ``struct user_desc`` (set_thread_area(2)) and descriptors (SDM
volume 3, 3.4.5).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Self

TLS_ENTRIES = range(12, 15)
"""As an x86-64 kernel numbers them."""
ANY_ENTRY = 0xFFFF_FFFF
DESCRIPTION_SIZE = 16
"""Bytes of a ``struct user_desc``."""
_CODE, _DATA = 0x00CF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF
"""Flat segments of 4 GiB for programs: selectors 0x23 and 0x2b."""


def first_table() -> bytes:
    """The descriptor table that a program begins with."""
    return struct.pack("<16Q", 0, 0, 0, 0, _CODE, _DATA, *([0] * 10))


class UserDescriptor(NamedTuple):
    """A segment as programs describe it."""

    entry: int
    base: int
    limit: int
    flags: int
    """Bit 0: 32-bit; 2:1: kind (2 is code); 3: read-only or not readable; 4: limit in pages; 5: not present;
    6: free for the program.
    """

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From a program's memory."""
        return cls(*struct.unpack("<4I", data))

    def pack(self, entry: int) -> bytes:
        """For a program's memory."""
        return struct.pack("<4I", entry, self.base, self.limit, self.flags)

    def descriptor(self) -> bytes:
        """The entry of the table; 0 for an empty segment (base and limit 0, read-only, not present)."""
        if not self.base and not self.limit and self.flags & 0x3F == 0x28:
            return bytes(8)
        flags = self.flags
        kind = (flags >> 1 & 3) << 2 | (not flags & 8) << 1 | 1
        rights = 0x70 | kind | (not flags & 0x20) << 7
        more = (flags & 1) << 6 | (flags >> 4 & 1) << 7 | (flags >> 6 & 1) << 4
        low = self.limit & 0xFFFF | (self.base & 0xFFFF) << 16
        high = self.base >> 16 & 0xFF | rights << 8 | (self.limit >> 16 & 15 | more) << 16
        return struct.pack("<2I", low, high | self.base >> 24 << 24)

    @classmethod
    def from_descriptor(cls, data: bytes) -> Self:
        """The reverse of `descriptor`."""
        low, high = struct.unpack("<2I", data)
        if not low | high:
            return cls(0, 0, 0, 0x28)
        base = low >> 16 | (high & 0xFF) << 16 | high & 0xFF00_0000
        limit = low & 0xFFFF | high & 0xF_0000
        flags = high >> 22 & 1 | (high >> 10 & 3) << 1 | (not high >> 9 & 1) << 3 | (high >> 23 & 1) << 4
        return cls(0, base, limit, flags | (not high >> 15 & 1) << 5 | (high >> 20 & 1) << 6)
