"""Create options of raw disks."""

from __future__ import annotations

from typing import Literal

from runtime.block.options import CreateOptions


class RawOptions(CreateOptions):
    """`preallocation`: "off" leaves a hole, "falloc" reserves the storage, "full" writes zeroes."""

    preallocation: Literal["off", "falloc", "full"] = "off"
