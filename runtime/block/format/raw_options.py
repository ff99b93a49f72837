"""Create options of raw disks."""

from __future__ import annotations

from runtime.block.options import CreateOptions, preallocation


class RawOptions(CreateOptions):
    """`preallocation`: "off" leaves a hole, "falloc" reserves the storage, "full" writes zeroes."""

    preallocation = preallocation("falloc", "full")
