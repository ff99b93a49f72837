"""Create options of VDI images."""

from __future__ import annotations

from typing import Literal

from runtime.block.options import CreateOptions, Switch


class VdiOptions(CreateOptions):
    """`subformat` "fixed" (or `static`) has a place for every block; `backing_file` makes a differencing
    image.
    """

    subformat: Literal["dynamic", "fixed"] = "dynamic"
    static: Switch = False
    preallocation: Literal["off", "metadata", "falloc", "full"] = "off"
    backing_file: str | None = None
    backing_fmt: str | None = None
