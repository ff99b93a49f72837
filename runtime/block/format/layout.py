"""Fixed layouts of headers: named fields at offsets, so that an error can say where its field lies."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal

from runtime.block.errors import ImageCorrupt


class Layout:
    """A record of `size` bytes. Each field is (offset, struct code without byte order)."""

    def __init__(self, order: Literal["<", ">"], size: int, **fields: tuple[int, str]) -> None:
        self.size = size
        self._fields = {
            name: (offset, struct.Struct(order + code)) for name, (offset, code) in fields.items()
        }

    def read(self, data: bytes | bytearray | memoryview) -> dict[str, Any]:
        """All fields by name. `data` holds at least `size` bytes."""
        values: dict[str, Any] = {}
        for name, (offset, code) in self._fields.items():
            found = code.unpack_from(data, offset)
            values[name] = found[0] if len(found) == 1 else found
        return values

    def write(self, values: Mapping[str, Any], into: bytearray | None = None) -> bytearray:
        """The record with these fields; other bytes are those of `into` (which is changed), or zero."""
        record = bytearray(self.size) if into is None else into
        for name, (offset, code) in self._fields.items():
            value = values[name]
            code.pack_into(record, offset, *(value if isinstance(value, tuple) else (value,)))
        return record

    def offset(self, name: str) -> int:
        """Where the field begins in the record, bytes."""
        return self._fields[name][0]

    def wrong(self, what: str, name: str, value: object, *, where: str, base: int = 0) -> ImageCorrupt:
        """The error that says that field `name` of the record at byte `base` can't have this value."""
        return ImageCorrupt(what, offset=base + self.offset(name), field=name, value=value, where=where)
