"""Create options of LUKS disks."""

from __future__ import annotations

from typing import Literal

from runtime.block.options import CreateOptions


class LuksOptions(CreateOptions):
    """qemu-img's names. `iter_time` is the time in milliseconds that trying a passphrase shall cost."""

    cipher_alg: Literal["aes-128", "aes-192", "aes-256"] = "aes-256"
    cipher_mode: Literal["xts", "cbc", "ecb"] = "xts"
    ivgen_alg: Literal["plain", "plain64", "essiv"] = "plain64"
    ivgen_hash_alg: Literal["sha1", "sha256"] = "sha256"
    hash_alg: Literal["sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"] = "sha256"
    iter_time: int = 2000
    preallocation: Literal["off", "falloc", "full"] = "off"

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
