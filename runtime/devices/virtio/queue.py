"""Split virtqueues (virtio 1.2, section 2.7), robust against drivers that lie.

Everything in a queue is the guest's to write, at any time. Each value is read once and checked; a chain is at
most `size` descriptors long and has as many bytes in all as the device allows. What breaks the rules raises
`QueueError`: the device then asks for a reset (section 2.1.1, DEVICE_NEEDS_RESET).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from runtime.devices.device import State
from runtime.devices.virtio.memory import GuestMemory
from runtime.errors import IsagenError

NEXT, WRITE, INDIRECT = 1, 2, 4
"""Flags of a descriptor (2.7.5)."""
NO_INTERRUPT: Final = 1
"""Flag of the available ring (2.7.6)."""
DESCRIPTOR: Final = struct.Struct("<QIHH")
LARGEST: Final = 1024
"""Most descriptors of a queue."""


class QueueError(IsagenError):
    """The driver broke the rules of a virtqueue."""


class QueueState(State):
    size: int = 0
    ready: bool = False
    event_index: bool = False
    """VIRTIO_F_EVENT_IDX was negotiated."""
    descriptors: int = 0
    driver: int = 0
    device: int = 0
    taken: int = 0
    used: int = 0
    announced: int | None = None
    """`used` when the driver was asked last whether it wants to hear of it."""


@dataclass(slots=True)
class Chain:
    """A request: buffers to read from, then buffers to write to, as (address, length)."""

    head: int
    memory: GuestMemory
    readable: list[tuple[int, int]] = field(default_factory=list)
    writable: list[tuple[int, int]] = field(default_factory=list)
    written: int = 0

    @property
    def readable_size(self) -> int:
        """Bytes that the driver sends."""
        return sum(length for _, length in self.readable)

    @property
    def writable_size(self) -> int:
        """Bytes that the driver has room for."""
        return sum(length for _, length in self.writable)

    def read(self, most: int | None = None) -> bytes:
        """What the driver sends, at most `most` bytes of it."""
        left = self.readable_size if most is None else most
        parts = []
        for address, length in self.readable:
            if left <= 0:
                break
            parts.append(self.memory.read(address, min(length, left)))
            left -= length
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def skip(self, size: int) -> None:
        """Leave out the first `size` readable bytes from now on."""
        while size and self.readable:
            address, length = self.readable[0]
            if length > size:
                self.readable[0] = address + size, length - size
                return
            size -= length
            del self.readable[0]

    def readable_views(self) -> list[memoryview]:
        """What the driver sends, as it lies in the guest's memory; to be used at once."""
        return [view for place in self.readable for view in self.memory.views(*place)]

    def writable_views(self, size: int) -> list[memoryview]:
        """The first `size` bytes of the room, in the guest's memory, to be filled at once; they count as
        written.
        """
        views, left = [], size
        for address, length in self.writable:
            if left <= 0:
                break
            views += self.memory.views(address, min(length, left), writable=True)
            left -= length
        self.written = max(self.written, size)
        return views

    def write(self, data: bytes | bytearray | memoryview, offset: int = 0) -> None:
        """Put bytes at an offset of the room; those beyond it are dropped."""
        view = memoryview(data).cast("B")
        at = 0
        for address, length in self.writable:
            if not view:
                break
            skip = max(0, offset - at)
            at += length
            if skip < length:
                part = view[: length - skip]
                self.memory.write(address + skip, part)
                view = view[len(part) :]
                offset += len(part)
        self.written = max(self.written, offset)


class Queue:
    """One virtqueue of a device; `largest`: most bytes of a request."""

    def __init__(self, memory: GuestMemory, largest: int) -> None:
        self._memory = memory
        self._largest = largest
        self.state = QueueState()

    def _u16(self, address: int) -> int:
        return int.from_bytes(self._memory.read(address, 2), "little")

    def _available(self) -> int:
        """How many requests wait."""
        state = self.state
        waiting = (self._u16(state.driver + 2) - state.taken) % 65536
        if waiting > state.size:
            raise QueueError("the available ring is ahead by more than the queue's size")
        return waiting

    @property
    def has_requests(self) -> bool:
        """Whether a request waits. Raises QueueError, and AddressError of the memory."""
        return self.state.ready and self._available() > 0

    def requests(self) -> Iterator[Chain]:
        """The requests that the driver made available. Raises QueueError, and AddressError of the memory."""
        while (chain := self.next_request()) is not None:
            yield chain

    def next_request(self) -> Chain | None:
        """One request, if there is one; if not, the driver is asked to tell of the next one."""
        state = self.state
        if not state.ready:
            return None
        if not self._available():
            if not state.event_index:
                return None
            place = state.device + 4 + 8 * state.size  # avail_event (2.7.10)
            self._memory.write(place, struct.pack("<H", state.taken))
            if not self._available():
                return None
        head = self._u16(state.driver + 4 + 2 * (state.taken % state.size))
        state.taken = (state.taken + 1) % 65536
        return self._chain(head)

    def put_back(self) -> None:
        """The request that was taken last is not served yet: it comes again."""
        self.state.taken = (self.state.taken - 1) % 65536

    def _chain(self, head: int) -> Chain:
        table, size = self.state.descriptors, self.state.size
        chain = Chain(head, self._memory)
        number, seen, total = head, 0, 0
        indirect = b""
        """The table of an indirect descriptor, read at once."""
        while True:
            if number >= size:
                raise QueueError(f"descriptor {number} of {size}")
            seen += 1
            if seen > size:
                raise QueueError("a chain of descriptors goes round")
            if indirect:
                address, length, flags, following = DESCRIPTOR.unpack_from(indirect, DESCRIPTOR.size * number)
            else:
                row = self._memory.read(table + DESCRIPTOR.size * number, DESCRIPTOR.size)
                address, length, flags, following = DESCRIPTOR.unpack(row)
            if flags & INDIRECT:
                if indirect or flags & NEXT or not length or length % DESCRIPTOR.size:
                    raise QueueError("an indirect descriptor where none may be")
                size, number, seen = length // DESCRIPTOR.size, 0, 0
                if size > LARGEST:
                    raise QueueError(f"an indirect table of {size} descriptors")
                indirect = self._memory.read(address, length)
                continue
            total += length
            if total > self._largest:
                raise QueueError(f"a request of more than {self._largest >> 20} MiB")
            if flags & WRITE:
                _append(chain.writable, address, length)
            elif chain.writable:
                raise QueueError("a readable buffer behind a writable one")
            else:
                _append(chain.readable, address, length)
            if not flags & NEXT:
                return chain
            number = following

    def complete(self, chain: Chain) -> None:
        """Hand a request back to the driver; `Chain.written` says how much was written."""
        state = self.state
        place = state.device + 4 + 8 * (state.used % state.size)
        self._memory.write(place, struct.pack("<II", chain.head, min(chain.written, 0xFFFFFFFF)))
        state.used = (state.used + 1) % 65536
        self._memory.write(state.device + 2, struct.pack("<H", state.used))

    def wants_interrupt(self) -> bool:
        """Whether the driver wants to be told of buffers used since this was asked last (2.7.7, 2.7.10)."""
        state = self.state
        if not state.event_index:
            return not self._u16(state.driver) & NO_INTERRUPT
        last, state.announced = state.announced, state.used
        if last is None:
            return True
        event = self._u16(state.driver + 4 + 2 * state.size)  # used_event
        return (state.used - event - 1) % 65536 < (state.used - last) % 65536


def _append(places: list[tuple[int, int]], address: int, length: int) -> None:
    """Add a buffer; one that goes on where the last ended becomes part of it."""
    if places and places[-1][0] + places[-1][1] == address:
        places[-1] = places[-1][0], places[-1][1] + length
    else:
        places.append((address, length))
