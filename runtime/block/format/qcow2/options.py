"""Create options of QCOW2 images. Names and meanings are qemu-img's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from runtime.block.options import CreateOptions, Size, Switch

if TYPE_CHECKING:
    from runtime.block.format.luks_options import LuksOptions


class Qcow2Options(CreateOptions):
    """`compat` "0.10" is version 2, "1.1" version 3. Sizes are bytes. `checksums` is ours: other tools
    ignore it.
    """

    compat: Literal["0.10", "1.1", "v2", "v3"] = "1.1"
    backing_file: str | None = None
    backing_fmt: str | None = None
    cluster_size: Size = 65536
    preallocation: Literal["off", "metadata", "falloc", "full"] = "off"
    lazy_refcounts: Switch = False
    refcount_bits: int = Field(default=16)
    data_file: str | None = None
    data_file_raw: Switch = False
    extended_l2: Switch = False
    compression_type: Literal["zlib", "zstd"] = "zlib"
    encrypt_format: Literal["luks", "aes"] | None = None
    encrypt_cipher_alg: Literal["aes-128", "aes-192", "aes-256"] = "aes-256"
    encrypt_cipher_mode: Literal["xts", "cbc", "ecb"] = "xts"
    encrypt_ivgen_alg: Literal["plain", "plain64", "essiv"] = "plain64"
    encrypt_ivgen_hash_alg: Literal["sha1", "sha256"] = "sha256"
    encrypt_hash_alg: Literal["sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"] = "sha256"
    encrypt_iter_time: int = Field(default=2000, gt=0)  # milliseconds that trying a passphrase costs
    checksums: Switch = False

    @property
    def version(self) -> int:
        return 2 if self.compat in ("0.10", "v2") else 3

    def luks(self) -> LuksOptions:
        """The options of the LUKS header."""
        from runtime.block.format.luks_options import LuksOptions

        return LuksOptions(
            cipher_alg=self.encrypt_cipher_alg,
            cipher_mode=self.encrypt_cipher_mode,
            ivgen_alg=self.encrypt_ivgen_alg,
            ivgen_hash_alg=self.encrypt_ivgen_hash_alg,
            hash_alg=self.encrypt_hash_alg,
            iter_time=self.encrypt_iter_time,
        )

    @field_validator("cluster_size")
    @classmethod
    def _cluster_size(cls, value: int) -> int:
        if value & (value - 1) or not 512 <= value <= 2 << 20:
            raise ValueError(f"{value} is no cluster size: a power of two from 512 to 2M")
        return value

    @field_validator("refcount_bits")
    @classmethod
    def _refcount_bits(cls, value: int) -> int:
        if value not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError("refcounts have 1, 2, 4, 8, 16, 32 or 64 bits")
        return value

    @model_validator(mode="after")
    def _together(self) -> Qcow2Options:
        if self.version == 2:
            newer = {
                "lazy_refcounts": self.lazy_refcounts,
                "refcount_bits": self.refcount_bits != 16,
                "data_file": self.data_file is not None,
                "extended_l2": self.extended_l2,
                "compression_type": self.compression_type != "zlib",
                "checksums": self.checksums,
            }
            for name, used in newer.items():
                if used:
                    raise ValueError(f"{name} needs compat=1.1 (version 3)")
        if self.extended_l2 and self.cluster_size < 16384:
            raise ValueError("extended_l2 needs a cluster_size of 16K or more")
        if self.data_file_raw and self.data_file is None:
            raise ValueError("data_file_raw needs data_file")
        if self.data_file_raw and self.backing_file is not None:
            raise ValueError("a raw data file and a backing file exclude each other")
        if self.backing_file is not None and self.preallocation != "off" and not self.extended_l2:
            raise ValueError("preallocation with a backing file needs extended_l2")
        if self.backing_fmt is not None and self.backing_file is None:
            raise ValueError("backing_fmt needs backing_file")
        if self.data_file is not None and self.encrypt_format == "aes":
            raise ValueError("a data file can't be encrypted by AES (the legacy method)")
        if self.checksums and (self.data_file is not None):
            raise ValueError("checksums of a data file aren't kept")
        return self
