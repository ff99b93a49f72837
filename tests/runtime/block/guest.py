"""What a guest knows about its disk: which bytes it wrote, and which of them were flushed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.block.node import FormatNode
from tests.runtime.block.recorder import SECTOR, Files, Operation


@dataclass(frozen=True)
class Change:
    """A mark: the guest began to change these bytes; `zero` means that they may read as zeroes too."""

    offset: int
    data: bytes
    zero: bool = False


@dataclass(frozen=True)
class Flushed:
    """A mark: a flush has come back."""


class Guest:
    """Does random things to `node` and remembers what must come of them, with marks in the log of `files`."""

    def __init__(self, node: FormatNode, files: Files | None, rng: random.Random, content: bytes) -> None:
        self.node = node
        self.files = files
        self.rng = rng
        self.content = bytearray(content)

    def _mark(self, mark: object) -> None:
        if self.files is not None:
            self.files.mark(mark)

    def write(self, offset: int, data: bytes) -> None:
        self._mark(Change(offset, data))
        self.node.pwrite(offset, data)
        self.content[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._mark(Change(offset, bytes(length)))
        self.node.write_zeroes(offset, length, unmap=unmap)
        self.content[offset : offset + length] = bytes(length)

    def discard(self, offset: int, length: int) -> None:
        before = bytes(self.content[offset : offset + length])
        self._mark(Change(offset, before, zero=True))
        self.node.discard(offset, length)
        after = self.node.pread(offset, length)
        assert all(new in (0, old) for new, old in zip(after, before, strict=True)), "discard made data up"
        self.content[offset : offset + length] = after
        self._mark(Change(offset, after))  # which of the two it is

    def flush(self) -> None:
        self.node.flush()
        self._mark(Flushed())

    def compressed(self, offset: int, length: int) -> bool:
        """Write whole clusters compressed, where the format can. False if it can't."""
        try:
            compression = self.node.compression
        except Exception:
            return False
        if compression is None:
            return False
        size = compression.cluster_size
        offset = offset // size * size
        length = min(-(-length // size) * size, len(self.content) - offset)
        data = (self.rng.randbytes(40) * (length // 40 + 1))[:length]
        self._mark(Change(offset, data))
        self.node.write_compressed(offset, data)
        self.content[offset : offset + length] = data
        return True

    def place(self) -> tuple[int, int]:
        """A random range, aligned more often than not."""
        size = len(self.content)
        offset = self.rng.randrange(size)
        length = self.rng.choice((1, SECTOR, 4096, 65536, self.rng.randrange(1, 200_000)))
        if self.rng.random() < 0.7:
            unit = self.rng.choice((SECTOR, 4096, 65536))
            offset, length = offset // unit * unit, max(unit, length // unit * unit)
        return offset, min(length, size - offset)

    def act(self) -> None:
        """One random request."""
        what = self.rng.choice(("write", "write", "write", "zero", "discard", "compressed", "flush"))
        offset, length = self.place()
        if what == "write":
            self.write(offset, self.rng.randbytes(length))
        elif what == "zero":
            self.zero(offset, length, unmap=self.rng.random() < 0.5)
        elif what == "discard":
            self.discard(offset, length)
        elif what == "compressed":
            self.compressed(offset, length)
        else:
            self.flush()


class Durable:
    """What a disk may hold after a crash at a moment of the log. Moments must not go back."""

    def __init__(self, content: bytes) -> None:
        self._at = 0
        self._now = bytearray(content)  # after all requests that had begun
        self._sure = bytearray(content)  # at the last flush
        self._maybe: dict[int, set[bytes]] = {}

    def advance(self, log: Sequence[Operation], moment: int) -> None:
        for operation in log[self._at : moment]:
            mark = operation.mark
            if isinstance(mark, Change):
                self._change(mark)
            elif isinstance(mark, Flushed):
                self._sure[:] = self._now
                self._maybe.clear()
        self._at = moment

    def _change(self, change: Change) -> None:
        end = change.offset + len(change.data)
        before = bytes(self._now)
        self._now[change.offset : end] = change.data
        for start in range(change.offset // SECTOR * SECTOR, end, SECTOR):
            values = self._maybe.setdefault(start, set())
            values.add(bytes(self._now[start : start + SECTOR]))
            if change.zero:
                wiped = bytearray(before[start : start + SECTOR])
                low, high = max(change.offset, start) - start, min(end, start + SECTOR) - start
                wiped[low:high] = bytes(high - low)
                values.add(bytes(wiped))

    def compare(self, content: bytes) -> str | None:
        """None if `content` is possible, else what isn't."""
        if content == self._sure:
            return None
        for start in range(0, len(content), SECTOR):
            sector, sure = content[start : start + SECTOR], self._sure[start : start + SECTOR]
            if sector == sure:
                continue
            maybe = self._maybe.get(start, set())
            # Requests that share a sector may be kept one without the other.
            if sector not in maybe and not all(
                byte == sure[at] or any(byte == other[at] for other in maybe)
                for at, byte in enumerate(sector)
            ):
                return f"sector {start // SECTOR} holds what was neither flushed nor written since"
        return None
