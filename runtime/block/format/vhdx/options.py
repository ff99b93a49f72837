"""Create options of VHDX images."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from runtime.block.options import CreateOptions, Size, Switch


class VhdxOptions(CreateOptions):
    """`block_size` 0 chooses by the disk's size. `block_state_zero` is taken for QEMU's sake: all states are
    read.
    """

    subformat: Literal["dynamic", "fixed"] = "dynamic"
    block_size: Size = 0
    log_size: Size = 1 << 20
    logical_sector_size: Literal[512, 4096] = 512
    block_state_zero: Switch = True
    preallocation: Literal["off", "falloc", "full"] = "off"
    backing_file: str | None = None
    backing_fmt: str | None = None

    @field_validator("logical_sector_size", mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @field_validator("block_size")
    @classmethod
    def _a_power_of_two(cls, value: int) -> int:
        if value and (not 1 << 20 <= value <= 256 << 20 or value & (value - 1)):
            raise ValueError("a power of two from 1 MiB to 256 MiB")
        return value

    @field_validator("log_size")
    @classmethod
    def _of_some_use(cls, value: int) -> int:
        if not 1 << 20 <= value <= 32 << 20:
            raise ValueError("from 1 MiB to 32 MiB")
        return value
