"""Create options of LUKS disks."""

from __future__ import annotations

from runtime.block.options import CreateOptions, Option, choice, number, preallocation

# The first of each is the default.
CIPHERS = ("aes-256", "aes-192", "aes-128")
MODES = ("xts", "cbc", "ecb")
VECTORS = ("plain64", "plain", "essiv")
VECTOR_HASHES = ("sha256", "sha1")
HASHES = ("sha256", "sha1", "sha224", "sha384", "sha512", "ripemd160")


def iteration_time() -> Option[int]:
    """The time in milliseconds that trying a passphrase shall cost."""
    return number(2000, low=1, high=3_600_000)


class LuksOptions(CreateOptions):
    """qemu-img's names."""

    cipher_alg = choice(*CIPHERS)
    cipher_mode = choice(*MODES)
    ivgen_alg = choice(*VECTORS)
    ivgen_hash_alg = choice(*VECTOR_HASHES)
    hash_alg = choice(*HASHES)
    iter_time = iteration_time()
    preallocation = preallocation("falloc", "full")

    @property
    def mode(self) -> str:
        """dm-crypt's name of mode and vector."""
        if self.cipher_mode == "ecb":
            return "ecb"
        vector = f"essiv:{self.ivgen_hash_alg}" if self.ivgen_alg == "essiv" else self.ivgen_alg
        return f"{self.cipher_mode}-{vector}"

    @property
    def key_size(self) -> int:
        """Bytes of the master key; XTS has two keys."""
        size = int(self.cipher_alg.removeprefix("aes-")) // 8
        return 2 * size if self.cipher_mode == "xts" else size
