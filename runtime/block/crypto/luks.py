"""LUKS1's header: key slots that each hold the master key under a passphrase.

Source: LUKS1 On-Disk Format Specification, version 1.2.3. All numbers are big-endian, offsets count sectors
of 512 bytes. The same header stands in front of a LUKS disk and inside a QCOW2 image (encryption method 2),
so everything here works on a *region*: two functions that read and write bytes from the header's first on.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import uuid as uuids
from collections.abc import Callable

from runtime.block.crypto.sectors import SECTOR, SectorCipher, known_hash
from runtime.block.errors import ImageCorrupt, ImageKeyError
from runtime.errors import IsagenError, NotYetError
from runtime.records import record, replace

MAGIC = b"LUKS\xba\xbe"
HEADER_SIZE = 592
SLOTS = 8

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: these bytes of the region."""
Write = Callable[[int, bytes], None]
"""``write(offset, data)``: into the region, on stable storage when it returns."""

_FIXED = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_ACTIVE, _INACTIVE = 0x00AC71F3, 0x0000DEAD
_DIGEST_SIZE = 20
_SALT_SIZE = 32
_STRIPES = 4000
_ALIGNMENT = 4096
_MINIMUM_ITERATIONS = 1000
# Bounds of what a header may ask for: half a minute of hashing, and four times the usual key material.
_MAXIMUM_ITERATIONS = 1 << 26
_MAXIMUM_MATERIAL = 1 << 20
_MAXIMUM_PAYLOAD_OFFSET = 1 << 32


@record(frozen=True)
class KeySlot:
    """One of the eight slots. `offset` of its key material is in bytes from the header's start."""

    active: bool
    iterations: int
    salt: bytes
    offset: int
    stripes: int


@record(frozen=True)
class Header:
    """The first 592 bytes. `payload_offset` is in bytes, `key_size` in bytes."""

    cipher: str
    mode: str
    hash: str
    payload_offset: int
    key_size: int
    digest: bytes
    digest_salt: bytes
    digest_iterations: int
    uuid: str
    slots: tuple[KeySlot, ...]

    def pack(self) -> bytes:
        fixed = _FIXED.pack(
            MAGIC,
            1,
            self.cipher.encode(),
            self.mode.encode(),
            self.hash.encode(),
            self.payload_offset // SECTOR,
            self.key_size,
            self.digest,
            self.digest_salt,
            self.digest_iterations,
            self.uuid.encode(),
        )
        return fixed + b"".join(
            _SLOT.pack(
                _ACTIVE if slot.active else _INACTIVE,
                slot.iterations,
                slot.salt,
                slot.offset // SECTOR,
                slot.stripes,
            )
            for slot in self.slots
        )

    def material_size(self, slot: KeySlot) -> int:
        """Bytes of a slot's key material, whole sectors."""
        return -(-self.key_size * slot.stripes // SECTOR) * SECTOR


def is_luks(data: bytes) -> bool:
    """Whether a disk that begins with `data` has a LUKS header, of any version."""
    return data[:6] == MAGIC


def parse(data: bytes, *, offset: int = 0, region_size: int | None = None) -> Header:
    """The header in `data` (at least 592 bytes), which stands at `offset` of the file.

    `region_size` is the number of bytes that belong to header and key material, if it is bounded. Raises
    `ImageCorrupt` for fields that can't be, `NotYetError` for LUKS2.
    """

    def corrupt(field: str, place: int, value: object, why: str) -> ImageCorrupt:
        return ImageCorrupt(why, offset=offset + place, field=field, value=value)

    if len(data) < HEADER_SIZE:
        raise corrupt("header", 0, len(data), "the LUKS header is cut off")
    magic, version, cipher, mode, hash_name, payload, key_size, digest, salt, iterations, uuid = (
        _FIXED.unpack_from(data)
    )
    if magic != MAGIC:
        raise corrupt("magic", 0, magic.hex(), "this is no LUKS header")
    if version == 2:
        raise NotYetError(
            "LUKS version 2 isn't supported", remedy="convert it with cryptsetup convert --type luks1"
        )
    if version != 1:
        raise corrupt("version", 6, version, "LUKS has no such version")
    limit = min(_MAXIMUM_PAYLOAD_OFFSET, region_size or _MAXIMUM_PAYLOAD_OFFSET)
    if region_size is None and not HEADER_SIZE <= payload * SECTOR <= limit:
        raise corrupt("payload-offset", 104, payload, "the payload can't begin there")
    if not 1 <= key_size <= 512:
        raise corrupt("key-bytes", 108, key_size, "no cipher has a key of that size")
    _check_iterations(iterations, corrupt, "mk-digest-iterations", 164)
    slots = []
    for index in range(SLOTS):
        place = _FIXED.size + index * _SLOT.size
        state, slot_iterations, slot_salt, start, stripes = _SLOT.unpack_from(data, place)
        if state not in (_ACTIVE, _INACTIVE):
            raise corrupt(
                f"key-slot-{index}.active", place, hex(state), "a key slot is neither enabled nor disabled"
            )
        slot = KeySlot(state == _ACTIVE, slot_iterations, slot_salt, start * SECTOR, stripes)
        if slot.active:
            _check_iterations(slot_iterations, corrupt, f"key-slot-{index}.iterations", place + 4)
            if not stripes >= 1 or key_size * stripes > _MAXIMUM_MATERIAL:
                raise corrupt(
                    f"key-slot-{index}.stripes", place + 44, stripes, "a key slot's stripes can't be so many"
                )
            if slot.offset < HEADER_SIZE or slot.offset + key_size * stripes > limit:
                raise corrupt(
                    f"key-slot-{index}.key-material-offset",
                    place + 40,
                    start,
                    "a key slot's material lies outside",
                )
        slots.append(slot)
    return Header(
        _text(cipher, "cipher-name", 8, corrupt),
        _text(mode, "cipher-mode", 40, corrupt),
        _text(hash_name, "hash-spec", 72, corrupt),
        payload * SECTOR,
        key_size,
        digest,
        salt,
        iterations,
        _text(uuid, "uuid", 168, corrupt),
        tuple(slots),
    )


Corrupt = Callable[[str, int, object, str], ImageCorrupt]


def _check_iterations(count: int, corrupt: Corrupt, field: str, place: int) -> None:
    if not 1 <= count <= _MAXIMUM_ITERATIONS:
        raise corrupt(field, place, count, "the number of iterations is out of bounds")


def _text(raw: bytes, field: str, place: int, corrupt: Corrupt) -> str:
    try:
        return raw.split(b"\0")[0].decode("ascii")
    except UnicodeDecodeError:
        raise corrupt(field, place, raw.hex(), "a name in the LUKS header isn't ASCII") from None


def unlock(header: Header, read: Read, passphrase: bytes) -> tuple[bytes, SectorCipher]:
    """The master key and the payload's cipher, by the first slot that `passphrase` opens.

    Raises `ImageKeyError`.
    """
    for slot in header.slots:
        if slot.active:
            key = _open_slot(header, slot, read, passphrase)
            if key is not None:
                return key, SectorCipher(header.cipher, header.mode, key)
    raise ImageKeyError("no key slot opens with this passphrase")


def slots_of(header: Header, read: Read, passphrase: bytes) -> list[int]:
    """The numbers of the slots that `passphrase` opens."""
    return [
        index
        for index, slot in enumerate(header.slots)
        if slot.active and _open_slot(header, slot, read, passphrase) is not None
    ]


def _open_slot(header: Header, slot: KeySlot, read: Read, passphrase: bytes) -> bytes | None:
    """The master key that `slot` holds under `passphrase`, None if another passphrase's."""
    hash_name = known_hash(header.hash)
    slot_key = hashlib.pbkdf2_hmac(hash_name, passphrase, slot.salt, slot.iterations, header.key_size)
    size = header.material_size(slot)
    material = read(slot.offset, size)
    split = SectorCipher(header.cipher, header.mode, slot_key).decrypt(0, material)
    key = _merge(split[: header.key_size * slot.stripes], header.key_size, hash_name)
    return key if _digest(header, key) == header.digest else None


def _digest(header: Header, key: bytes) -> bytes:
    return hashlib.pbkdf2_hmac(
        known_hash(header.hash), key, header.digest_salt, header.digest_iterations, _DIGEST_SIZE
    )


def create(
    passphrase: bytes,
    *,
    cipher: str = "aes",
    mode: str = "xts-plain64",
    hash_name: str = "sha256",
    key_size: int = 64,
    iteration_time: float = 2.0,
    uuid: str | None = None,
) -> tuple[bytes, SectorCipher]:
    """A header with its key material (a region up to the payload), and the payload's cipher.

    `key_size` is in bytes; `iteration_time` is the processor time in seconds that trying a passphrase costs.
    """
    key = os.urandom(key_size)
    payload_cipher = SectorCipher(cipher, mode, key)
    material = -(-key_size * _STRIPES // _ALIGNMENT) * _ALIGNMENT
    slots = tuple(
        KeySlot(False, 0, bytes(_SALT_SIZE), _ALIGNMENT + index * material, _STRIPES)
        for index in range(SLOTS)
    )
    header = Header(
        cipher,
        mode,
        known_hash(hash_name),
        _ALIGNMENT + SLOTS * material,
        key_size,
        bytes(_DIGEST_SIZE),
        os.urandom(_SALT_SIZE),
        _iterations(hash_name, _DIGEST_SIZE, iteration_time / 8),
        uuid or str(uuids.uuid4()),
        slots,
    )
    header = replace(header, digest=_digest(header, key))
    region = bytearray(header.payload_offset)

    def write(offset: int, data: bytes) -> None:
        region[offset : offset + len(data)] = data

    add_key(header, write, key, passphrase, iteration_time=iteration_time)
    return bytes(region), payload_cipher


def add_key(
    header: Header,
    write: Write,
    key: bytes,
    passphrase: bytes,
    *,
    slot: int | None = None,
    iteration_time: float = 2.0,
) -> Header:
    """Let `passphrase` open the master `key`, by the first free slot or by `slot`.

    The material is stored before the header that enables it, so a crash leaves the header as it was.
    """
    free = [index for index, candidate in enumerate(header.slots) if not candidate.active]
    if slot is None:
        if not free:
            raise IsagenError("all eight key slots are in use", remedy="remove one first")
        slot = free[0]
    elif slot not in free:
        raise IsagenError(f"key slot {slot} is in use or doesn't exist")
    hash_name = known_hash(header.hash)
    iterations = _iterations(hash_name, header.key_size, iteration_time)
    # A slot that was never used may have no stripes.
    filled = replace(
        header.slots[slot], active=True, iterations=iterations, salt=os.urandom(_SALT_SIZE), stripes=_STRIPES
    )
    slot_key = hashlib.pbkdf2_hmac(hash_name, passphrase, filled.salt, iterations, header.key_size)
    split = _split(key, _STRIPES, hash_name).ljust(header.material_size(filled), b"\0")
    write(filled.offset, SectorCipher(header.cipher, header.mode, slot_key).encrypt(0, split))
    changed = replace(header, slots=(*header.slots[:slot], filled, *header.slots[slot + 1 :]))
    write(0, changed.pack())
    return changed


def remove_key(header: Header, write: Write, slot: int) -> Header:
    """Forget key slot `slot`: its material is overwritten first, then the slot disabled.

    The last key can't be removed: nothing would ever open the disk again.
    """
    if not 0 <= slot < SLOTS or not header.slots[slot].active:
        raise IsagenError(f"key slot {slot} isn't in use")
    if sum(candidate.active for candidate in header.slots) == 1:
        raise IsagenError("this is the last key of the disk", remedy="add another key first")
    old = header.slots[slot]
    write(old.offset, os.urandom(header.material_size(old)))
    emptied = replace(old, active=False, iterations=0, salt=bytes(_SALT_SIZE))
    changed = replace(header, slots=(*header.slots[:slot], emptied, *header.slots[slot + 1 :]))
    write(0, changed.pack())
    return changed


def _iterations(hash_name: str, length: int, seconds: float) -> int:
    """How many iterations of PBKDF2 take about `seconds` of this processor."""
    probe = 10_000
    start = time.thread_time()
    hashlib.pbkdf2_hmac(hash_name, b"isagen", bytes(_SALT_SIZE), probe, length)
    spent = max(time.thread_time() - start, 1e-6)
    return min(max(int(probe * seconds / spent), _MINIMUM_ITERATIONS), _MAXIMUM_ITERATIONS)


def _split(key: bytes, stripes: int, hash_name: str) -> bytes:
    """`key` spread over `stripes` stripes, all of which are needed to get it back (section 2.4)."""
    result = []
    state = bytes(len(key))
    for _ in range(stripes - 1):
        stripe = os.urandom(len(key))
        result.append(stripe)
        state = _diffuse(_xor(state, stripe), hash_name)
    result.append(_xor(state, key))
    return b"".join(result)


def _merge(data: bytes, key_size: int, hash_name: str) -> bytes:
    """The key that `_split` spread."""
    state = bytes(key_size)
    last = len(data) - key_size
    for start in range(0, last, key_size):
        state = _diffuse(_xor(state, data[start : start + key_size]), hash_name)
    return _xor(state, data[last:])


def _diffuse(data: bytes, hash_name: str) -> bytes:
    """H1 of section 2.4: each piece of a digest's size is replaced by the hash of its number and itself."""
    size = hashlib.new(hash_name).digest_size
    pieces = (
        hashlib.new(hash_name, struct.pack(">I", start // size) + data[start : start + size]).digest()
        for start in range(0, len(data), size)
    )
    return b"".join(pieces)[: len(data)]


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")
