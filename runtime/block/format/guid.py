"""UUIDs as images hold them (RFC 4122; Microsoft's "GUID" has the first three fields in little endian).

The standard library's `uuid` would do, but takes longer to load than opening an image.
"""

from __future__ import annotations

import os


def new_uuid() -> bytes:
    """A random UUID (version 4), big endian, 16 bytes."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def swapped(value: bytes) -> bytes:
    """A big-endian UUID as a GUID, and the other way round."""
    return value[3::-1] + value[5:3:-1] + value[7:5:-1] + value[8:]


def new_guid() -> bytes:
    """A random one with its first fields in little endian."""
    return swapped(new_uuid())


def guid(text: str) -> bytes:
    """The 16 bytes of "2DC27766-F623-4200-9D64-115E9BFD4A08", first fields in little endian."""
    return swapped(bytes.fromhex(text.replace("-", "")))


def show_guid(value: bytes) -> str:
    """The text, in lower case."""
    digits = swapped(value).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
