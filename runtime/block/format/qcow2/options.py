"""Create options of QCOW2 images. Names and meanings are qemu-img's."""

from __future__ import annotations

from runtime.block.format import luks_options as luks
from runtime.block.options import (
    CreateOptions,
    OptionError,
    choice,
    number,
    optional_choice,
    power_of_two,
    preallocation,
    size,
    switch,
    text,
)


class Qcow2Options(CreateOptions):
    """`compat` "0.10" is version 2, "1.1" version 3. Sizes are bytes. `checksums` is ours: other tools
    ignore it.
    """

    compat = choice("1.1", "0.10", "v2", "v3")
    backing_file = text()
    backing_fmt = text()
    cluster_size = size(65536, power_of_two(512, 2 << 20, "a power of two from 512 to 2M"))
    preallocation = preallocation("metadata", "falloc", "full")
    lazy_refcounts = switch()
    refcount_bits = number(16, among=(1, 2, 4, 8, 16, 32, 64))
    data_file = text()
    data_file_raw = switch()
    extended_l2 = switch()
    compression_type = choice("zlib", "zstd")
    encrypt_format = optional_choice("luks", "aes")
    encrypt_cipher_alg = choice(*luks.CIPHERS)
    encrypt_cipher_mode = choice(*luks.MODES)
    encrypt_ivgen_alg = choice(*luks.VECTORS)
    encrypt_ivgen_hash_alg = choice(*luks.VECTOR_HASHES)
    encrypt_hash_alg = choice(*luks.HASHES)
    encrypt_iter_time = luks.iteration_time()
    checksums = switch()

    @property
    def version(self) -> int:
        return 2 if self.compat in ("0.10", "v2") else 3

    def luks(self) -> luks.LuksOptions:
        """The options of the LUKS header."""
        return luks.LuksOptions(
            {
                "cipher_alg": self.encrypt_cipher_alg,
                "cipher_mode": self.encrypt_cipher_mode,
                "ivgen_alg": self.encrypt_ivgen_alg,
                "ivgen_hash_alg": self.encrypt_ivgen_hash_alg,
                "hash_alg": self.encrypt_hash_alg,
                "iter_time": self.encrypt_iter_time,
            }
        )

    def check_together(self) -> None:
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
                    raise OptionError(f"{name} needs compat=1.1 (version 3)")
        if self.extended_l2 and self.cluster_size < 16384:
            raise OptionError("extended_l2 needs a cluster_size of 16K or more")
        if self.data_file_raw and self.data_file is None:
            raise OptionError("data_file_raw needs data_file")
        if self.data_file_raw and self.backing_file is not None:
            raise OptionError("a raw data file and a backing file exclude each other")
        if self.backing_file is not None and self.preallocation != "off" and not self.extended_l2:
            raise OptionError("preallocation with a backing file needs extended_l2")
        if self.backing_fmt is not None and self.backing_file is None:
            raise OptionError("backing_fmt needs backing_file")
        if self.data_file is not None and self.encrypt_format == "aes":
            raise OptionError("a data file can't be encrypted by AES (the legacy method)")
        if self.checksums and (self.data_file is not None):
            raise OptionError("checksums of a data file aren't kept")
