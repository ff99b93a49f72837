"""Snapshots: a guest's whole state as a value. Pages are shared between snapshots; only what was written
since the last one is copied.

A saved file is a line that names the format, a line of JSON (`Header`), then zlib data: the state's bytes,
and each distinct page in the order of their numbers.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from isagen.emulator.errors import EmulatorError
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import AddressSpace, Ram, Region

if TYPE_CHECKING:
    from isagen.emulator.state import State

MAGIC: Final = b"isagen snapshot 1\n"
MAX_HEADER: Final = 64 << 20
ZEROS: Final = bytes(PAGE_SIZE)

Pages = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Piece:
    """A region: RAM number `ram` from `offset` on, or a device (None)."""

    start: int
    size: int
    permissions: int
    ram: int | None
    offset: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The state of an emulator at a time: registers, mappings and memory (of devices only where they lie).

    It doesn't change, may be restored any number of times, and into any emulator of the same target.
    """

    target: str
    layout: str
    """The digest of how the registers lie; other versions of a spec may have another."""
    state: bytes
    pc: int
    next_pc: int
    executed: int
    pieces: tuple[Piece, ...]
    sizes: tuple[int, ...]
    pages: tuple[Pages, ...]
    """Of each RAM: contents by page number; all others are zeros. Never changed."""
    rams: tuple[Ram | None, ...] = ()
    """The RAM objects, where they exist."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the snapshot to a file."""
        numbers: dict[bytes, int] = {}
        rows = [
            [(number, numbers.setdefault(page, len(numbers))) for number, page in sorted(pages.items())]
            for pages in self.pages
        ]
        from isagen.emulator.snapshot_header import Header  # pydantic takes a while to import

        header = Header(
            target=self.target,
            layout=self.layout,
            state=len(self.state),
            pc=self.pc,
            next_pc=self.next_pc,
            executed=self.executed,
            pieces=[(p.start, p.size, p.permissions, p.ram, p.offset) for p in self.pieces],
            sizes=list(self.sizes),
            pages=rows,
            distinct=len(numbers),
        )
        packer = zlib.compressobj(1)
        destination = Path(path)
        part = destination.with_name(destination.name + ".part")
        with part.open("wb") as file:
            file.write(MAGIC)
            file.write(header.model_dump_json().encode() + b"\n")
            file.write(packer.compress(self.state))
            for page in numbers:
                file.write(packer.compress(page))
            file.write(packer.flush())
        part.replace(destination)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read a saved snapshot. Raises EmulatorError for files that aren't one."""
        from isagen.emulator.snapshot_header import Header

        where = os.fspath(path)
        with Path(path).open("rb") as file:
            if file.readline(len(MAGIC)) != MAGIC:
                raise EmulatorError("this is no snapshot, or one of another version", where=where)
            line = file.readline(MAX_HEADER)
            try:
                header = Header.model_validate_json(line)
            except ValueError as error:
                raise EmulatorError(f"damaged snapshot: {first_line(error)}", where=where) from None
            size = header.state + PAGE_SIZE * header.distinct
            unpacker = zlib.decompressobj()
            try:
                data = unpacker.decompress(file.read(), size + 1)
            except zlib.error as error:
                raise EmulatorError(f"damaged snapshot: {error}", where=where) from None
        if len(data) != size:
            raise EmulatorError("damaged snapshot: its data end early or late", where=where)
        contents = [data[at : at + PAGE_SIZE] for at in range(header.state, size, PAGE_SIZE)]
        return cls(
            target=header.target,
            layout=header.layout,
            state=data[: header.state],
            pc=header.pc,
            next_pc=header.next_pc,
            executed=header.executed,
            pieces=tuple(Piece(*row) for row in header.pieces),
            sizes=tuple(header.sizes),
            pages=tuple({number: contents[place] for number, place in rows} for rows in header.pages),
            rams=(None,) * len(header.sizes),
        )


def first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return "; ".join(line.strip() for line in lines[1:3]) if len(lines) > 1 else str(error)


class Memories:
    """Follows what a guest's RAM holds, from snapshot to snapshot."""

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self._pages: dict[int, tuple[Ram, Pages]] = {}
        """By identity of the RAM: its contents as of the last look. Never changed in place once shared."""

    def _known(self, ram: Ram) -> Pages:
        return self._pages.setdefault(id(ram), (ram, {}))[1]

    def look(self) -> None:
        """Copy the pages that were written since the last time."""
        for ram, numbers in self.space.take_dirty().items():
            if not numbers:
                self._known(ram)
                continue
            pages = dict(self._known(ram))
            for number in numbers:
                content = bytes(ram.memory[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])
                if content == ZEROS:
                    pages.pop(number, None)
                elif pages.get(number) != content:
                    pages[number] = content
            self._pages[id(ram)] = (ram, pages)

    def take(self) -> tuple[tuple[Piece, ...], tuple[Ram, ...], tuple[Pages, ...]]:
        """The mappings and contents now."""
        self.look()
        rams: list[Ram] = []
        pieces = []
        for region in self.space:
            number = None
            if region.ram is not None:
                if region.ram not in rams:
                    rams.append(region.ram)
                number = rams.index(region.ram)
            pieces.append(Piece(region.start, region.size, region.permissions, number, region.offset))
        return tuple(pieces), tuple(rams), tuple(self._known(ram) for ram in rams)

    def restore(self, snapshot: Snapshot) -> None:
        """Make mappings and contents those of `snapshot`."""
        self.look()
        rams = [
            ram if ram is not None and id(ram) in self._pages else Ram(size)
            for ram, size in zip(snapshot.rams, snapshot.sizes, strict=True)
        ]
        wanted = [
            Region(p.start, p.size, p.permissions, None if p.ram is None else rams[p.ram], p.offset)
            for p in snapshot.pieces
        ]
        if wanted != list(self.space):
            self._map(wanted)
        for ram, pages in zip(rams, snapshot.pages, strict=True):
            self._fill(ram, pages)

    def _map(self, wanted: list[Region]) -> None:
        for region in list(self.space):
            if region not in wanted:
                self.space.remove(region)
        for region in wanted:
            if region.ram is None:
                self.space.map_device(region.start, region.size, region.permissions)
            else:
                self.space.map_ram(
                    region.start,
                    region.ram,
                    offset=region.offset,
                    size=region.size,
                    permissions=region.permissions,
                )
        self.look()  # pages that were given back read as zeros

    def _fill(self, ram: Ram, wanted: Pages) -> None:
        known = self._known(ram)
        if known is wanted:
            return
        for number, page in wanted.items():
            if known.get(number) is not page:
                self.space.write_ram(ram, number * PAGE_SIZE, page)
        for number in known:
            if number not in wanted:
                self.space.write_ram(ram, number * PAGE_SIZE, ZEROS)
        self._pages[id(ram)] = (ram, wanted)
        self.space.take_dirty()


def take(state: State, memories: Memories) -> Snapshot:
    """`state` as it is now."""
    cpu = state.cpu
    pieces, rams, pages = memories.take()
    return Snapshot(
        target=cpu.package.name,
        layout=cpu.package.layout_digest,
        state=bytes(cpu.state),
        pc=cpu.pc,
        next_pc=cpu.next_pc,
        executed=cpu.executed,
        pieces=pieces,
        sizes=tuple(ram.size for ram in rams),
        pages=pages,
        rams=rams,
    )


def put_back(state: State, memories: Memories, snapshot: Snapshot) -> None:
    """Make `state` that of `snapshot`."""
    cpu = state.cpu
    if (snapshot.target, snapshot.layout) != (cpu.package.name, cpu.package.layout_digest):
        raise EmulatorError(
            f"a snapshot of target {snapshot.target} can't be restored on {cpu.package.name}"
            if snapshot.target != cpu.package.name
            else f"the snapshot was taken with another version of target {snapshot.target}"
        )
    if len(snapshot.state) != len(cpu.state):
        raise EmulatorError("the snapshot's registers have another size")
    memories.restore(snapshot)
    cpu.state[:] = snapshot.state
    cpu.pc = snapshot.pc
    cpu.next_pc = snapshot.next_pc
    cpu.changed(translations=True)
