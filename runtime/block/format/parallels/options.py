"""Create options of Parallels images."""

from __future__ import annotations

from pydantic import field_validator

from runtime.block.options import CreateOptions, Size


class ParallelsOptions(CreateOptions):
    """`cluster_size` in bytes."""

    cluster_size: Size = 1 << 20

    @field_validator("cluster_size")
    @classmethod
    def _of_sectors(cls, value: int) -> int:
        if not 4096 <= value <= 256 << 20 or value & (value - 1):
            raise ValueError("a power of two from 4 KiB to 256 MiB")
        return value
