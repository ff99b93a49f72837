"""The log of VHDX images: how metadata changes survive a crash whole or not at all ([MS-VHDX] 2.3).

A change is a set of 4 KiB pages. `Log.write` writes them into the log, flushes, writes them to their
places, and flushes. An entry stays valid until the next one is, so that at any moment one of them can be
replayed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from runtime.block.errors import ImageCorrupt
from runtime.block.format.vhdx.header import Header, checked, sealed
from runtime.block.node import Buffer, Extent, ExtentKind, ProtocolNode
from runtime.records import field, record

PAGE = 4096
_ENTRY = struct.Struct("<4sIIIQII16sQQ")
_DESCRIPTOR = struct.Struct("<4s4sQQQ")
_FIRST_DESCRIPTORS = (PAGE - _ENTRY.size) // _DESCRIPTOR.size
_DESCRIPTORS = PAGE // _DESCRIPTOR.size
_DATA = struct.Struct("<4sI4084sI")


@record
class Entry:
    """A valid entry: `pages` to write, `zeroes` to make, as (offset in the file, ...)."""

    position: int  # in the log, bytes
    length: int
    tail: int
    sequence: int
    flushed_end: int  # the file had this size at least
    last_end: int  # and shall have this one
    pages: list[tuple[int, bytes]] = field(default_factory=list)
    zeroes: list[tuple[int, int]] = field(default_factory=list)


def active_entries(log: bytes, guid: bytes) -> list[Entry]:
    """The sequence to replay, oldest first; empty if the log holds none."""
    entries: dict[int, Entry] = {}
    position = 0
    while position < len(log):
        entry = _parse(log, position, guid)
        if entry is not None:
            entries[position] = entry
        position += PAGE
    ends = {(entry.position + entry.length) % len(log): entry for entry in entries.values()}
    for head in sorted(entries.values(), key=lambda entry: entry.sequence, reverse=True):
        chain = [head]
        while chain[-1].position != head.tail and len(chain) <= len(entries):
            before = ends.get(chain[-1].position)
            if before is None or before.sequence != chain[-1].sequence - 1:
                break
            chain.append(before)
        if chain[-1].position == head.tail:
            return chain[::-1]
    return []


def _parse(log: bytes, position: int, guid: bytes) -> Entry | None:
    """The entry at `position`; None unless all of it is valid. Its parts are told apart before its checksum
    is made,
    so that no entry contains another one's start.
    """
    if log[position : position + 4] != b"loge" or log[position + 32 : position + 48] != guid:
        return None
    _, _, length, tail, sequence, count, _, _, flushed, last = _ENTRY.unpack_from(log, position)
    if length % PAGE or not PAGE <= length <= len(log) or tail % PAGE or tail >= len(log) or not sequence:
        return None
    tables = 1 + max(0, -(-(count - _FIRST_DESCRIPTORS) // _DESCRIPTORS))
    if tables * PAGE > length:
        return None
    data = log[position : position + length]
    if len(data) < length:
        data += log[: length - len(data)]
    entry = Entry(position, length, tail, sequence, flushed, last)
    at = tables * PAGE
    for number in range(count):
        sign, trailing, leading, offset, own = _DESCRIPTOR.unpack_from(
            data, _ENTRY.size + number * _DESCRIPTOR.size
        )
        if own != sequence or offset % PAGE:
            return None
        if sign == b"zero":
            if leading % PAGE:
                return None
            entry.zeroes.append((offset, leading))
            continue
        if sign != b"desc" or at + PAGE > length:
            return None
        mark, high, body, low = _DATA.unpack_from(data, at)
        if mark != b"data" or high << 32 | low != sequence:
            return None
        entry.pages.append((offset, leading.to_bytes(8, "little") + body + trailing))
        at += PAGE
    return entry if at == length and checked(data) else None


def pending(file: ProtocolNode, header: Header) -> list[Entry]:
    """What is to be replayed. Raises ImageCorrupt if it can't be."""
    entries = active_entries(file.pread(header.log_offset, header.log_length), header.log)
    if not entries:
        return []
    head = entries[-1]
    if file.length() < head.flushed_end:
        raise ImageCorrupt(
            f"the file has been cut: it had {head.flushed_end} bytes",
            offset=header.log_offset + head.position + 48,
            field="FlushedFileOffset",
            value=head.flushed_end,
            where=file.name,
        )
    limit = max(file.length(), head.last_end)
    for entry in entries:
        for offset, length in [(offset, PAGE) for offset, _ in entry.pages] + entry.zeroes:
            if offset + length > limit:
                raise ImageCorrupt(
                    "the log changes something behind the file's end",
                    offset=header.log_offset + entry.position,
                    field="FileOffset",
                    value=offset,
                    where=file.name,
                )
    return entries


def replay(file: ProtocolNode, entries: list[Entry]) -> None:
    """Write what the log holds to its places, durably."""
    if entries and not file.fixed_length and file.length() < entries[-1].last_end:
        file.resize(entries[-1].last_end)
    for entry in entries:
        for offset, length in entry.zeroes:
            file.write_zeroes(offset, length)
        for offset, page in entry.pages:
            file.pwrite(offset, page)
    file.flush()


class Log:
    """The log of an image open for writing. Nothing is in it at first."""

    def __init__(self, file: ProtocolNode, header: Header, guid: bytes) -> None:
        self._file = file
        self._offset = header.log_offset
        self._length = header.log_length
        self._guid = guid
        self._position = 0
        self._sequence = 1
        # So that an entry never lies on the one before.
        self.capacity = max(1, self._length // PAGE // 4 - 3)

    def write(self, pages: Mapping[int, bytes]) -> Iterator[None]:
        """Change pages (offset: 4096 bytes), `capacity` of them atomically. Yields between log and places
        once the
        first entry is durable: then the header may name the log.
        """
        offsets = sorted(pages)
        for first in range(0, len(offsets), self.capacity):
            part = offsets[first : first + self.capacity]
            entry = self._pack([(offset, pages[offset]) for offset in part])
            if self._position + len(entry) > self._length:
                self._position = 0
                entry = self._pack([(offset, pages[offset]) for offset in part])
            self._file.pwrite(self._offset + self._position, entry)
            self._file.flush()
            yield
            for offset in part:
                self._file.pwrite(offset, pages[offset])
            self._file.flush()
            self._position += len(entry)
            self._sequence += 1

    def _pack(self, pages: list[tuple[int, bytes]]) -> bytes:
        tables = 1 + max(0, -(-(len(pages) - _FIRST_DESCRIPTORS) // _DESCRIPTORS))
        record = bytearray((tables + len(pages)) * PAGE)
        size = self._file.length()
        _ENTRY.pack_into(
            record,
            0,
            b"loge",
            0,
            len(record),
            self._position,
            self._sequence,
            len(pages),
            0,
            self._guid,
            size,
            size,
        )
        for number, (offset, page) in enumerate(pages):
            leading = int.from_bytes(page[:8], "little")
            _DESCRIPTOR.pack_into(
                record,
                _ENTRY.size + number * _DESCRIPTOR.size,
                b"desc",
                page[-4:],
                leading,
                offset,
                self._sequence,
            )
            _DATA.pack_into(
                record,
                (tables + number) * PAGE,
                b"data",
                self._sequence >> 32,
                page[8:-4],
                self._sequence & 0xFFFFFFFF,
            )
        return sealed(record)


class ReplayedFile(ProtocolNode):
    """A file as it is after replaying its log, without writing it: for images opened read only."""

    def __init__(self, file: ProtocolNode, entries: list[Entry]) -> None:
        self._file = file
        self.name = file.name
        self.read_only = True
        self.fixed_length = file.fixed_length
        self._length = max(file.length(), entries[-1].last_end)
        self._pages: dict[int, bytes] = {}
        self._zeroes: list[tuple[int, int]] = []
        for entry in entries:
            for offset, length in entry.zeroes:
                for page in [p for p in self._pages if offset <= p < offset + length]:
                    del self._pages[page]
                self._zeroes.append((offset, length))
            self._pages.update(entry.pages)

    def length(self) -> int:
        return self._length

    def allocated(self) -> int:
        return self._file.allocated()

    def pread(self, offset: int, length: int) -> bytes:
        data = bytearray(self._file.pread(offset, length))
        end = offset + length
        for start, size in self._zeroes:
            low, high = max(offset, start), min(end, start + size)
            if low < high:
                data[low - offset : high - offset] = bytes(high - low)
        first = offset // PAGE * PAGE
        if (end - first) // PAGE > len(self._pages):
            touched = [page for page in self._pages if first <= page < end]
        else:
            touched = [page for page in range(first, end, PAGE) if page in self._pages]
        for page in touched:
            low, high = max(offset, page), min(end, page + PAGE)
            data[low - offset : high - offset] = self._pages[page][low - page : high - page]
        return bytes(data)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._length - offset if length is None else length
        if self._pages or self._zeroes:
            # What the file says of itself doesn't hold where the log has something else.
            if size:
                yield Extent(offset, size, ExtentKind.DATA)
            return
        yield from self._file.extents(offset, size)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()
