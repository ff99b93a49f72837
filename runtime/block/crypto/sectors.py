"""Encryption of disk sectors: AES in XTS, CBC or ECB mode, a sector at a time, many at once.

The modes are those of dm-crypt's names (``xts-plain64``, ``cbc-essiv:sha256``, ...): IEEE 1619-2018 for XTS,
NIST SP 800-38A for CBC and ECB. `cryptography` offers them for one message; a disk request is hundreds of
messages of 512 bytes, so the raw block cipher runs over all sectors at once and NumPy does the exclusive ors.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from runtime.errors import IsagenError, NotYetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECTOR = 512
"""Bytes of a sector; its number makes its initialisation vector."""

_BLOCK = 16
_BLOCKS = SECTOR // _BLOCK


class SectorCipher:
    """Encrypts and decrypts whole sectors.

    `cipher` is dm-crypt's name of the block cipher (``aes``), `mode` chaining and initialisation vector
    (``xts-plain64``), `key` the master key (XTS: two keys of equal length one behind the other).
    """

    def __init__(self, cipher: str, mode: str, key: bytes) -> None:
        if cipher != "aes":
            raise NotYetError(f"the cipher {cipher!r} isn't supported", remedy="aes is")
        chaining, _, generator = mode.partition("-")
        if chaining not in ("xts", "cbc", "ecb"):
            raise NotYetError(f"the cipher mode {mode!r} isn't supported", remedy="xts, cbc and ecb are")
        keys = 2 if chaining == "xts" else 1
        if len(key) not in (16 * keys, 24 * keys, 32 * keys):
            raise IsagenError(f"aes-{mode} has no key of {8 * len(key)} bits")
        self._chaining = chaining
        self._key = key[: len(key) // keys]
        self._vector_key = key[len(key) // keys :]
        self._generator = generator
        self._essiv_key = b""
        if chaining != "ecb":
            self._essiv_key = _essiv_key(generator, key)

    def encrypt(self, sector: int, data: bytes | bytearray | memoryview) -> bytes:
        """The ciphertext of `data` (a multiple of 512 bytes), whose first sector has number `sector`."""
        return self._apply(sector, data, encrypting=True)

    def decrypt(self, sector: int, data: bytes | bytearray | memoryview) -> bytes:
        """The plaintext of `data` (a multiple of 512 bytes), whose first sector has number `sector`."""
        return self._apply(sector, data, encrypting=False)

    def _apply(self, sector: int, data: bytes | bytearray | memoryview, *, encrypting: bool) -> bytes:
        import numpy as np

        count, rest = divmod(len(data), SECTOR)
        if rest:
            raise ValueError(f"{len(data)} bytes aren't whole sectors")
        if not count:
            return b""
        if self._chaining == "ecb":
            return _ecb(self._key, data, encrypting)
        words = np.frombuffer(data, "<u8").reshape(count, _BLOCKS, 2)
        if self._chaining == "xts":
            return self._xts(sector, words, encrypting)
        return self._encrypt_cbc(sector, words) if encrypting else self._decrypt_cbc(sector, words)

    def _xts(self, sector: int, words: NDArray[np.uint64], encrypting: bool) -> bytes:
        import numpy as np

        first = _ecb(self._vector_key, self._numbers(sector, len(words)).tobytes(), True)
        tweaks = _tweaks(np.frombuffer(first, "<u8").reshape(-1, 2))
        middle = _ecb(self._key, (words ^ tweaks).tobytes(), encrypting)
        return (np.frombuffer(middle, "<u8").reshape(words.shape) ^ tweaks).tobytes()

    def _encrypt_cbc(self, sector: int, words: NDArray[np.uint64]) -> bytes:
        """Block after block, each of all sectors together."""
        import numpy as np

        result = np.empty_like(words)
        previous = self._vectors(sector, len(words))
        for block in range(_BLOCKS):
            encrypted = _ecb(self._key, (words[:, block] ^ previous).tobytes(), True)
            previous = np.frombuffer(encrypted, "<u8").reshape(-1, 2)
            result[:, block] = previous
        return result.tobytes()

    def _decrypt_cbc(self, sector: int, words: NDArray[np.uint64]) -> bytes:
        import numpy as np

        result = np.frombuffer(_ecb(self._key, words.tobytes(), False), "<u8").reshape(words.shape).copy()
        result[:, 0] ^= self._vectors(sector, len(words))
        result[:, 1:] ^= words[:, :-1]
        return result.tobytes()

    def _numbers(self, sector: int, count: int) -> NDArray[np.uint64]:
        """The sectors' numbers as little-endian blocks of 128 bits, one a row."""
        import numpy as np

        blocks = np.zeros((count, 2), "<u8")
        numbers = np.arange(sector, sector + count, dtype=np.uint64)
        blocks[:, 0] = numbers & 0xFFFF_FFFF if self._generator == "plain" else numbers
        return blocks

    def _vectors(self, sector: int, count: int) -> NDArray[np.uint64]:
        """CBC's initialisation vectors, one a row."""
        import numpy as np

        numbers = self._numbers(sector, count)
        if not self._essiv_key:
            return numbers
        return np.frombuffer(_ecb(self._essiv_key, numbers.tobytes(), True), "<u8").reshape(-1, 2)


def _essiv_key(generator: str, key: bytes) -> bytes:
    """The key that encrypts sector numbers, empty where the plain number is the vector."""
    name, _, digest = generator.partition(":")
    if name in ("plain", "plain64"):
        return b""
    if name != "essiv":
        raise NotYetError(
            f"the vector generator {generator!r} isn't supported", remedy="plain, plain64 and essiv:HASH are"
        )
    salted = hashlib.new(known_hash(digest), key).digest()
    if len(salted) not in (16, 24, 32):
        raise IsagenError(f"essiv with {digest} makes a key of {8 * len(salted)} bits, which aes hasn't")
    return salted


def known_hash(name: str) -> str:
    """`name` if it is a hash that this Python offers, otherwise an error."""
    if name not in ("sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"):
        raise NotYetError(f"the hash {name!r} isn't supported", remedy="sha1, sha256 and sha512 are")
    try:
        hashlib.new(name)
    except ValueError:
        raise NotYetError(f"this system's OpenSSL hasn't the hash {name!r}") from None
    return name


def _ecb(key: bytes, data: bytes | bytearray | memoryview, encrypting: bool) -> bytes:
    """The block cipher alone, over each 16 bytes of `data`."""
    cipher = _ecb_cipher(key)
    context = cipher.encryptor() if encrypting else cipher.decryptor()
    result: bytes = context.update(data)
    return result


def _ecb_cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(key), modes.ECB())


def _tweaks(first: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The tweaks of all blocks of sectors (sectors, 32, 2), of their `first` ones (sectors, 2).

    Block j's is the first times x**j in GF(2**128) (IEEE 1619-2018, 5.2): a shift by j, and the j bits
    shifted out times x**7 + x**2 + x + 1.
    """
    import numpy as np

    low, high = first[:, 0, None], first[:, 1, None]
    shift = np.arange(_BLOCKS, dtype=np.uint64)[None, :]
    # a shift by 64 is undefined for NumPy: shift by 1 and by 63 - j
    back = np.uint64(63) - shift
    out = (high >> np.uint64(1)) >> back
    tweaks = np.empty((len(first), _BLOCKS, 2), "<u8")
    tweaks[:, :, 0] = (
        (low << shift) ^ out ^ (out << np.uint64(1)) ^ (out << np.uint64(2)) ^ (out << np.uint64(7))
    )
    tweaks[:, :, 1] = (high << shift) | ((low >> np.uint64(1)) >> back)
    return tweaks
