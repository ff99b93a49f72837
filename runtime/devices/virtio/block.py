"""The block device (virtio 1.2, section 5.2): read, write, flush, discard, write zeroes; several queues."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from runtime.devices.virtio.device import VirtioDevice
from runtime.devices.virtio.queue import Chain
from runtime.errors import IsagenError
from runtime.memory.space import AddressError

SECTOR: Final = 512

F_SEG_MAX: Final = 1 << 2
F_RO: Final = 1 << 5
F_BLK_SIZE: Final = 1 << 6
F_FLUSH: Final = 1 << 9
F_MQ: Final = 1 << 12
F_DISCARD: Final = 1 << 13
F_WRITE_ZEROES: Final = 1 << 14

T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
"""Types of requests (5.2.6)."""
S_OK, S_IOERR, S_UNSUPP = 0, 1, 2
"""Status byte at the end of a request."""
HEADER: Final = struct.Struct("<IIQ")
RANGE: Final = struct.Struct("<QII")
UNMAP: Final = 1
SEGMENTS: Final = 254
RANGES: Final = 16
LARGEST_RANGE: Final = (1 << 30) // SECTOR
CONFIG: Final = struct.Struct("<QII4sIBBHIHHIIIIIB3x")
SERIAL_SIZE: Final = 20


class Disk(Protocol):
    """What holds the sectors: `runtime.block`'s images. Errors are OSError or IsagenError."""

    def length(self) -> int: ...

    @property
    def read_only(self) -> bool: ...

    def pread(self, offset: int, size: int, /) -> bytes | bytearray | memoryview: ...

    def read_into(self, offset: int, target: memoryview, /) -> None: ...

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, /) -> object: ...

    def write_zeroes(self, offset: int, length: int, /, *, unmap: bool) -> object: ...

    def discard(self, offset: int, length: int, /) -> object: ...

    def flush(self) -> object: ...


class BadRequest(Exception):
    """A request that gets S_IOERR."""


class Unsupported(Exception):
    """A request that gets S_UNSUPP."""


class Block(VirtioDevice):
    """A disk; its length is cut to whole sectors."""

    device_id: ClassVar = 2
    queue_size: ClassVar = 256

    def __init__(self, disk: Disk, *, serial: str = "", queues: int = 1) -> None:
        super().__init__()
        self._disk = disk
        self._serial = serial.encode()[:SERIAL_SIZE].ljust(SERIAL_SIZE, b"\0")
        self.queue_count = queues

    def wrap(self, wrap: Callable[[Disk], Disk]) -> None:
        """Put something in front of the disk."""
        self._disk = wrap(self._disk)

    @property
    def sectors(self) -> int:
        """The capacity."""
        return self._disk.length() // SECTOR

    @property
    def offered(self) -> int:
        writable = F_RO if self._disk.read_only else F_DISCARD | F_WRITE_ZEROES
        return F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (F_MQ if self.queue_count > 1 else 0) | writable

    def config(self) -> bytes:
        limits = LARGEST_RANGE, RANGES
        return CONFIG.pack(
            *(self.sectors, 0, SEGMENTS, bytes(4), SECTOR),
            *(0, 0, 0, 0),
            *(0, self.queue_count),
            *(*limits, 1, *limits, 1),
        )

    def notify(self, queue: int) -> None:
        for chain in self.queues[queue].requests():
            self._serve(chain)
            self.queues[queue].complete(chain)
        self.used(self.queues[queue])

    def _serve(self, chain: Chain) -> None:
        room = chain.writable_size - 1
        if room < 0 or chain.readable_size < HEADER.size:
            return  # no place for the status, or nothing asked
        try:
            status = self._request(chain, room)
        except (OSError, IsagenError, BadRequest) as error:
            if isinstance(error, AddressError):
                raise  # the driver's buffers, not the disk
            status = S_IOERR
        except Unsupported:
            status = S_UNSUPP
        chain.write(bytes([status]), room)

    def _request(self, chain: Chain, room: int) -> int:
        kind, _, sector = HEADER.unpack(chain.read(HEADER.size))
        chain.skip(HEADER.size)
        if kind == T_IN:
            self._read(chain, self._place(sector, room), room)
        elif kind == T_OUT:
            self._write(chain, self._place(sector, chain.readable_size))
        elif kind == T_FLUSH:
            self._disk.flush()
        elif kind == T_GET_ID:
            chain.write(self._serial[:room])
        elif kind in (T_DISCARD, T_WRITE_ZEROES):
            self._writable()
            self._ranges(kind, chain.read(RANGES * RANGE.size + 1))
        else:
            raise Unsupported
        return S_OK

    def _read(self, chain: Chain, place: int, size: int) -> None:
        """Straight into the guest's memory where it is in one piece: a call for each piece takes longer."""
        views = chain.writable_views(size)
        if len(views) == 1:
            self._disk.read_into(place, views[0])
            return
        data = memoryview(self._disk.pread(place, size))
        for view in views:
            view[:], data = data[: len(view)], data[len(view) :]

    def _write(self, chain: Chain, place: int) -> None:
        self._writable()
        views = chain.readable_views()
        if views:
            self._disk.pwrite(place, views[0] if len(views) == 1 else b"".join(views))

    def _place(self, sector: int, size: int) -> int:
        if size % SECTOR or sector + size // SECTOR > self.sectors:
            raise BadRequest
        return sector * SECTOR

    def _writable(self) -> None:
        if self._disk.read_only:
            raise BadRequest

    def _ranges(self, kind: int, data: bytes) -> None:
        if not data or len(data) % RANGE.size or len(data) > RANGES * RANGE.size:
            raise BadRequest
        for sector, count, flags in RANGE.iter_unpack(data):
            if flags & ~(UNMAP if kind == T_WRITE_ZEROES else 0):
                raise Unsupported  # 5.2.6.2
            if count > LARGEST_RANGE or sector + count > self.sectors:
                raise BadRequest
            if kind == T_DISCARD:
                self._disk.discard(sector * SECTOR, count * SECTOR)
            else:
                self._disk.write_zeroes(sector * SECTOR, count * SECTOR, unmap=bool(flags & UNMAP))
