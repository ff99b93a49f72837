"""Create options of QED images."""

from __future__ import annotations

from runtime.block.options import CreateOptions, number, power_of_two, size, text


class QedOptions(CreateOptions):
    """`table_size` is in clusters: 2, 4, 8 or 16 (1 is valid, but QEMU refuses it)."""

    cluster_size = size(64 << 10, power_of_two(4096, 64 << 20, "a power of two from 4 KiB to 64 MiB"))
    table_size = number(4, among=(2, 4, 8, 16))
    backing_file = text()
    backing_fmt = text()
