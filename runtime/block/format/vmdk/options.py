"""Create options of VMDKs."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from runtime.block.options import CreateOptions, Switch


class VmdkOptions(CreateOptions):
    """`backing_file` makes a delta link; `zeroed_grain` lets zeroes in it take no space (not all readers
    know that).
    """

    subformat: Literal[
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "streamOptimized",
        "vmfs",
    ] = "monolithicSparse"
    adapter_type: Literal["ide", "lsilogic", "buslogic", "legacyESX"] = "ide"
    zeroed_grain: Switch = False
    compat6: Switch = False
    hwversion: str | None = None
    toolsversion: str = "2147483647"
    preallocation: Literal["off", "falloc", "full"] = "off"
    backing_file: str | None = None
    backing_fmt: str | None = None

    @field_validator("hwversion", "toolsversion")
    @classmethod
    def _a_number(cls, value: str | None) -> str | None:
        if value is not None and not (value.isdigit() and len(value) <= 10):
            raise ValueError("a number")
        return value
