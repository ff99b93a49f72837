"""What a saved snapshot says about itself, checked when it is read: the file may come from anywhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runtime.memory.regions import PAGE_SIZE

Address = Annotated[int, Field(ge=0, lt=1 << 64)]
MAX_RAM = 1 << 40


class Header(BaseModel):
    """Sizes in bytes. `pages`: for each RAM, page numbers with the place of the content in the file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    target: str
    layout: str
    state: Annotated[int, Field(ge=0, le=1 << 24)]
    pc: Address
    next_pc: Address
    executed: Annotated[int, Field(ge=0)]
    pieces: list[tuple[Address, int, Annotated[int, Field(ge=0, le=7)], int | None, int]]
    sizes: list[Annotated[int, Field(gt=0, le=MAX_RAM, multiple_of=PAGE_SIZE)]]
    pages: list[list[tuple[int, int]]]
    distinct: Annotated[int, Field(ge=0, le=MAX_RAM // PAGE_SIZE)]

    @model_validator(mode="after")
    def _consistent(self) -> Header:
        if len(self.pages) != len(self.sizes):
            raise ValueError("not as many lists of pages as RAMs")
        last = -1
        for start, size, _, ram, offset in self.pieces:
            if size <= 0 or start <= last or start + size > 1 << 64:
                raise ValueError("regions overlap or don't fit the address space")
            last = start + size - 1
            if ram is None:
                continue
            if not 0 <= ram < len(self.sizes) or offset < 0 or offset + size > self.sizes[ram]:
                raise ValueError("a region lies outside its RAM")
            if start % PAGE_SIZE or size % PAGE_SIZE or offset % PAGE_SIZE:
                raise ValueError("a region isn't whole pages")
        for rows, size in zip(self.pages, self.sizes, strict=True):
            for number, place in rows:
                if not 0 <= number < size // PAGE_SIZE or not 0 <= place < self.distinct:
                    raise ValueError("a page lies outside its RAM")
        return self
