"""Create options of Parallels images."""

from __future__ import annotations

from runtime.block.options import CreateOptions, power_of_two, size


class ParallelsOptions(CreateOptions):
    """`cluster_size` in bytes."""

    cluster_size = size(1 << 20, power_of_two(4096, 256 << 20, "a power of two from 4 KiB to 256 MiB"))
