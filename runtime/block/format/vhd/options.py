"""Create options of VHD images."""

from __future__ import annotations

from runtime.block.options import CreateOptions, choice, power_of_two, preallocation, size, switch, text


class VhdOptions(CreateOptions):
    """`force_size` keeps the size exact; off, it's rounded up to a geometry, which Virtual PC and old QEMU
    want.
    """

    subformat = choice("dynamic", "fixed")
    force_size = switch(True)
    block_size = size(2 << 20, power_of_two(4096, 1 << 28, "a power of two from 4 KiB to 256 MiB"))
    preallocation = preallocation("falloc", "full")
    backing_file = text()
    backing_fmt = text()
