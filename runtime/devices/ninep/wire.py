"""Messages of 9P2000.L (the 9P manual's intro(5); the Linux kernel's include/net/9p/9p.h for the dialect's
numbers and fields). All numbers are little endian; a string has 16 bits of length before it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

VERSION: Final = b"9P2000.L"
HEADER: Final = struct.Struct("<IBH")
"""Size of the whole message, type, tag."""
NO_FID: Final = 0xFFFFFFFF
SMALLEST_MESSAGE, LARGEST_MESSAGE = 4096, 1 << 20
MOST_NAMES: Final = 16
"""Names in a walk."""


class Kind(IntEnum):
    """Requests; an answer has the next number."""

    LERROR = 6
    STATFS = 8
    LOPEN = 12
    LCREATE = 14
    SYMLINK = 16
    MKNOD = 18
    RENAME = 20
    READLINK = 22
    GETATTR = 24
    SETATTR = 26
    XATTRWALK = 30
    XATTRCREATE = 32
    READDIR = 40
    FSYNC = 50
    LOCK = 52
    GETLOCK = 54
    LINK = 70
    MKDIR = 72
    RENAMEAT = 74
    UNLINKAT = 76
    VERSION = 100
    AUTH = 102
    ATTACH = 104
    FLUSH = 108
    WALK = 110
    READ = 116
    WRITE = 118
    CLUNK = 120
    REMOVE = 122


FIELDS: Final = {
    Kind.VERSION: "Is",
    Kind.AUTH: "IssI",
    Kind.ATTACH: "IIssI",
    Kind.FLUSH: "H",
    Kind.WALK: "II*",
    Kind.LOPEN: "II",
    Kind.LCREATE: "IsIII",
    Kind.SYMLINK: "IssI",
    Kind.MKNOD: "IsIIII",
    Kind.RENAME: "IIs",
    Kind.READLINK: "I",
    Kind.GETATTR: "IQ",
    Kind.SETATTR: "IIIIIQQQQQ",
    Kind.XATTRWALK: "IIs",
    Kind.XATTRCREATE: "IsQI",
    Kind.READDIR: "IQI",
    Kind.FSYNC: "II",
    Kind.LOCK: "IBIQQIs",
    Kind.GETLOCK: "IBQQIs",
    Kind.LINK: "IIs",
    Kind.MKDIR: "IsII",
    Kind.RENAMEAT: "IsIs",
    Kind.UNLINKAT: "IsI",
    Kind.STATFS: "I",
    Kind.READ: "IQI",
    Kind.WRITE: "IQd",
    Kind.CLUNK: "I",
    Kind.REMOVE: "I",
}
"""What each request consists of: numbers (B, H, I, Q), strings (s), data (d: 32 bits of length), a list of
strings (*).
"""


class BadMessage(Exception):
    """Bytes that aren't the message that they say they are."""


def decoded(kind: Kind, body: bytes) -> list[int | bytes | list[bytes]]:
    """A request's fields. Raises BadMessage."""
    values: list[int | bytes | list[bytes]] = []
    at = 0

    def number(form: str) -> int:
        nonlocal at
        try:
            (value,) = struct.unpack_from("<" + form, body, at)
        except struct.error:
            raise BadMessage from None
        at += struct.calcsize(form)
        return int(value)

    def string(form: str) -> bytes:
        nonlocal at
        size = number(form)
        text = body[at : at + size]
        if len(text) != size:
            raise BadMessage
        at += size
        return text

    for field in FIELDS[kind]:
        if field == "s":
            values.append(string("H"))
        elif field == "d":
            values.append(string("I"))
        elif field == "*":
            count = number("H")
            if count > MOST_NAMES:
                raise BadMessage
            values.append([string("H") for _ in range(count)])
        else:
            values.append(number(field))
    return values


def text(value: bytes) -> bytes:
    """A string."""
    return struct.pack("<H", len(value)) + value


def message(kind: int, tag: int, body: bytes) -> bytes:
    """A whole message."""
    return HEADER.pack(HEADER.size + len(body), kind, tag) + body
