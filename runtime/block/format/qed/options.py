"""Create options of QED images."""

from __future__ import annotations

from pydantic import field_validator

from runtime.block.options import CreateOptions, Size


class QedOptions(CreateOptions):
    """`table_size` is in clusters: 2, 4, 8 or 16 (1 is valid, but QEMU refuses it)."""

    cluster_size: Size = 64 << 10
    table_size: int = 4
    backing_file: str | None = None
    backing_fmt: str | None = None

    @field_validator("cluster_size")
    @classmethod
    def _clusters(cls, value: int) -> int:
        if not 4096 <= value <= 64 << 20 or value & (value - 1):
            raise ValueError("a power of two from 4 KiB to 64 MiB")
        return value

    @field_validator("table_size")
    @classmethod
    def _tables(cls, value: int) -> int:
        if value not in (2, 4, 8, 16):
            raise ValueError("2, 4, 8 or 16 clusters")
        return value
