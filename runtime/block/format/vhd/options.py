"""Create options of VHD images."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from runtime.block.options import CreateOptions, Size, Switch


class VhdOptions(CreateOptions):
    """`force_size` keeps the size exact; off, it's rounded up to a geometry, which Virtual PC and old QEMU
    want.
    """

    subformat: Literal["dynamic", "fixed"] = "dynamic"
    force_size: Switch = True
    block_size: Size = 2 << 20
    preallocation: Literal["off", "falloc", "full"] = "off"
    backing_file: str | None = None
    backing_fmt: str | None = None

    @field_validator("block_size")
    @classmethod
    def _a_power_of_two(cls, value: int) -> int:
        if not 4096 <= value <= 1 << 28 or value & (value - 1):
            raise ValueError("a power of two from 4 KiB to 256 MiB")
        return value
