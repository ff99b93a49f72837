"""Encrypted QCOW2 images: LUKS (method 2) and the AES of old images (method 1).

LUKS numbers sectors by where they lie in the file that holds the data, AES by where the guest sees them. The
LUKS header with its key slots lies in clusters of the image, named by a header extension (offset and length,
64 bits).
"""

from __future__ import annotations

import struct

from runtime.block.crypto import luks
from runtime.block.crypto.sectors import SectorCipher
from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageKeyError
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import Header
from runtime.block.node import Buffer, ProtocolNode

POINTER = struct.Struct(">QQ")  # to the LUKS header: offset, bytes
_LEGACY_KEY = 16  # bytes: the password itself, cut or padded with zeroes


class Cipher:
    """Encrypts whole sectors of 512 bytes of one image. Without a key it raises ImageKeyError when it's
    needed.
    """

    def __init__(
        self, sectors: SectorCipher | None, *, by_host: bool, name: str, key: bytes | None = None
    ) -> None:
        self._sectors = sectors
        self._by_host = by_host
        self._name = name
        self._key = key

    def _ready(self) -> SectorCipher:
        if self._sectors is None:
            raise ImageKeyError(
                "the image is encrypted and no passphrase was given",
                where=self._name,
                remedy="open it with passphrase=...",
            )
        return self._sectors

    def key(self) -> bytes:
        """The master key."""
        self._ready()
        assert self._key is not None
        return self._key

    def decrypt(self, host: int, guest: int, data: Buffer) -> bytes:
        """The plain bytes of sectors at `host` in the file, `guest` on the disk."""
        return self._ready().decrypt((host if self._by_host else guest) // 512, data)

    def encrypt(self, host: int, guest: int, data: Buffer) -> bytes:
        return self._ready().encrypt((host if self._by_host else guest) // 512, data)


def open_cipher(header: Header, file: ProtocolNode, context: OpenContext) -> Cipher:
    """The image's cipher; locked if no passphrase is given. Raises ImageKeyError for a wrong one."""
    if header.crypt_method == h.CRYPT_AES:
        key = None if context.passphrase is None else context.passphrase()
        return Cipher(None if key is None else legacy(key), by_host=False, name=file.name)
    offset, length = pointer(header, file)
    parsed = luks.parse(file.pread(offset, luks.HEADER_SIZE), offset=offset, region_size=length)
    if context.passphrase is None:
        return Cipher(None, by_host=True, name=file.name)
    key, sectors = luks.unlock(parsed, reader(file, offset, length), context.passphrase())
    return Cipher(sectors, by_host=True, name=file.name, key=key)


def reader(file: ProtocolNode, offset: int, length: int) -> luks.Read:
    """Reads bytes of the LUKS header's region."""

    def read(at: int, size: int) -> bytes:
        if at < 0 or at + size > length:
            raise ImageCorrupt(
                "a key slot isn't inside of the encryption header",
                offset=offset,
                field="key material offset",
                value=at,
                where=file.name,
            )
        return file.pread(offset + at, size)

    return read


def pointer(header: Header, file: ProtocolNode) -> tuple[int, int]:
    """(offset, length) of the LUKS header."""
    data = header.extension(h.EXT_CRYPTO)
    if data is None or len(data) < POINTER.size:
        raise ImageCorrupt(
            "the image is encrypted but doesn't say where its LUKS header is",
            offset=32,
            field="crypt_method",
            value=header.crypt_method,
            where=file.name,
        )
    offset, length = POINTER.unpack_from(data)
    if offset % header.cluster_size or not offset or offset + length > file.length() + header.cluster_size:
        raise ImageCorrupt(
            "the LUKS header isn't at a cluster of the file",
            offset=None,
            field="offset of the LUKS header",
            value=offset,
            where=file.name,
        )
    return offset, length


def legacy(password: bytes) -> SectorCipher:
    """The cipher of method 1 (AES)."""
    return SectorCipher("aes", "cbc-plain64", password[:_LEGACY_KEY].ljust(_LEGACY_KEY, b"\0"))
