"""Create options of VDI images."""

from __future__ import annotations

from runtime.block.options import CreateOptions, choice, preallocation, switch, text


class VdiOptions(CreateOptions):
    """`subformat` "fixed" (or `static`) has a place for every block; `backing_file` makes a differencing
    image.
    """

    subformat = choice("dynamic", "fixed")
    static = switch()
    preallocation = preallocation("metadata", "falloc", "full")
    backing_file = text()
    backing_fmt = text()
