"""Create options of VHDX images."""

from __future__ import annotations

from runtime.block.options import (
    CreateOptions,
    choice,
    number,
    power_of_two,
    preallocation,
    size,
    switch,
    text,
)

_power_of_two = power_of_two(1 << 20, 256 << 20, "a power of two from 1 MiB to 256 MiB")


def _block(value: int) -> str | None:
    return _power_of_two(value) if value else None


def _log(value: int) -> str | None:
    return None if 1 << 20 <= value <= 32 << 20 else f"{value} isn't between 1 MiB and 32 MiB"


class VhdxOptions(CreateOptions):
    """`block_size` 0 chooses by the disk's size. `block_state_zero` is taken for QEMU's sake: all states are
    read.
    """

    subformat = choice("dynamic", "fixed")
    block_size = size(0, _block)
    log_size = size(1 << 20, _log)
    logical_sector_size = number(512, among=(512, 4096))
    block_state_zero = switch(True)
    preallocation = preallocation("falloc", "full")
    backing_file = text()
    backing_fmt = text()
