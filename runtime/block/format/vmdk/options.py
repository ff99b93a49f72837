"""Create options of VMDKs."""

from __future__ import annotations

from runtime.block.options import CreateOptions, choice, preallocation, switch, text

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
)


def _number(value: str) -> str | None:
    return None if value.isascii() and value.isdigit() and len(value) <= 10 else f"{value!r} is no number"


class VmdkOptions(CreateOptions):
    """`backing_file` makes a delta link; `zeroed_grain` lets zeroes in it take no space (not all readers
    know that).
    """

    subformat = choice(*SUBFORMATS)
    adapter_type = choice("ide", "lsilogic", "buslogic", "legacyESX")
    zeroed_grain = switch()
    compat6 = switch()
    hwversion = text(_number)
    toolsversion = text(_number)
    preallocation = preallocation("falloc", "full")
    backing_file = text()
    backing_fmt = text()
