"""Making an image an encrypted one, and changing its passphrases (one image, under its lock)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.block.crypto import luks
from runtime.block.crypto.keyslots import amend_slots
from runtime.block.errors import ImageOption, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.cipher import POINTER, Cipher, legacy, pointer, reader

if TYPE_CHECKING:
    from runtime.block.format.qcow2.core import Core
    from runtime.block.format.qcow2.options import Qcow2Options


def initialise(core: Core, options: Qcow2Options) -> None:
    """Make a new, empty image an encrypted one."""
    context, header = core.context, core.header
    if context.passphrase is None:
        raise ImageOption("an encrypted image needs a passphrase", where=core.name, remedy="passphrase=...")
    passphrase = context.passphrase()
    core.begin_write()
    if options.encrypt_format == "aes":
        header.crypt_method = h.CRYPT_AES
        core.cipher = Cipher(legacy(passphrase), by_host=False, name=core.name)
    else:
        choice = options.luks()
        region, sectors = luks.create(
            passphrase,
            mode=choice.mode,
            hash_name=choice.hash_alg,
            key_size=choice.key_size,
            iteration_time=choice.iter_time / 1000,
        )
        offset = core.place(region)
        header.crypt_method = h.CRYPT_LUKS
        header.set_extension(h.EXT_CRYPTO, POINTER.pack(offset, len(region)))
        core.cipher = Cipher(sectors, by_host=True, name=core.name)
    core.commit()
    core.write_header()
    core.file.flush()


def amend_keys(core: Core, options: dict[str, object]) -> None:
    """Add or remove passphrases: options as of LUKS disks (`runtime.block.crypto.keyslots`)."""
    header, file = core.header, core.file
    if header.crypt_method != h.CRYPT_LUKS or core.cipher is None:
        raise ImageUnsupported("the image isn't encrypted by LUKS: it has no key slots", where=core.name)
    offset, length = pointer(header, file)
    parsed = luks.parse(file.pread(offset, luks.HEADER_SIZE), offset=offset, region_size=length)

    def write(at: int, data: bytes) -> None:
        file.pwrite(offset + at, data)
        file.flush()

    amend_slots(parsed, reader(file, offset, length), write, core.cipher.key, options, name=core.name)
