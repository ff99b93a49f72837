"""LUKS version 1 disks: a header with key slots, behind it the disk, every sector encrypted in place.

What was never written decrypts to noise, so holes are data. `amend` adds and removes passphrases.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runtime.block.crypto import luks
from runtime.block.crypto.keyslots import amend_slots
from runtime.block.crypto.sectors import SECTOR, SectorCipher
from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageCorrupt, ImageKeyError
from runtime.block.node import Buffer, Extent, ExtentKind, FormatNode, Preallocation, ProtocolNode, Repair

if TYPE_CHECKING:
    from runtime.block.options import CreateOptions
    from runtime.block.report import CheckReport, ImageInfo

_PIECE = 1 << 20


class LuksNode(FormatNode):
    """A LUKS1 disk. Without a passphrase (for `info` and `check`) it can't be read or written."""

    format = "luks"
    starts_zeroed = False

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        self.file = file
        self.name = file.name
        self.read_only = not context.writable
        self.header = luks.parse(file.pread(0, luks.HEADER_SIZE))
        self._offset = self.header.payload_offset
        if file.length() < self._offset:
            raise ImageCorrupt(
                "the file ends before the payload",
                offset=104,
                field="payload-offset",
                value=self._offset // SECTOR,
                where=self.name,
            )
        self._lock = threading.Lock()
        self._key: bytes | None = None
        self._unlocked: SectorCipher | None = None
        if context.passphrase is not None:
            self._key, self._unlocked = luks.unlock(self.header, file.pread, context.passphrase())

    @property
    def _cipher(self) -> SectorCipher:
        if self._unlocked is None:
            raise ImageKeyError(
                "the disk is encrypted and no passphrase is given",
                where=self.name,
                remedy="passphrase= in Python, --passphrase-file on the command line",
            )
        return self._unlocked

    def length(self) -> int:
        # A cut sector can't be decrypted.
        return (self.file.length() - self._offset) // SECTOR * SECTOR

    def pread(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        done = 0
        while done < len(target):
            sector, skip = divmod(offset + done, SECTOR)
            part = min(_PIECE - skip, len(target) - done)
            size = -(-(skip + part) // SECTOR) * SECTOR
            plain = self._cipher.decrypt(sector, self.file.pread(self._offset + sector * SECTOR, size))
            target[done : done + part] = plain[skip : skip + part]
            done += part

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        view = memoryview(data).cast("B")
        self.in_range_or_raise(offset, len(view))
        for at in range(0, len(view), _PIECE):
            self._write_piece(offset + at, view[at : at + _PIECE])

    def _write_piece(self, offset: int, view: memoryview) -> None:
        sector, skip = divmod(offset, SECTOR)
        size = -(-(skip + len(view)) // SECTOR) * SECTOR
        if not skip and size == len(view):
            self.file.pwrite(self._offset + offset, self._cipher.encrypt(sector, view))
            return
        # Two writers may share a sector.
        with self._lock:
            start = sector * SECTOR
            plain = bytearray(self._cipher.decrypt(sector, self.file.pread(self._offset + start, size)))
            plain[skip : skip + len(view)] = view
            self.file.pwrite(self._offset + start, self._cipher.encrypt(sector, plain))

    def flush(self) -> None:
        self.file.flush()

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        old = self.length()
        length = _whole_sectors(length)
        self.file.resize(self._offset + length, shrink=shrink, preallocation=preallocation)
        if length > old:
            self.write_zeroes(old, length - old)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self.length() - offset if length is None else length
        self.in_range_or_raise(offset, size)
        if size:
            yield Extent(offset, size, ExtentKind.DATA)

    def check(self, repair: Repair | None = None) -> CheckReport:
        """The header was checked when it was opened; here, whether key slots overlap something."""
        from runtime.block.report import CheckReport

        report = CheckReport(filename=self.name, format=self.format, image_end_offset=self.file.length())
        areas = sorted(
            (slot.offset, slot.offset + self.header.material_size(slot), index)
            for index, slot in enumerate(self.header.slots)
            if slot.active
        )
        if not areas:
            report.note("corruption", "no key slot is enabled: nothing can open the disk")
        end = 0
        for start, stop, index in areas:
            if start < end or stop > self._offset:
                report.note(
                    "corruption", f"key slot {index} overlaps its neighbour or the payload", offset=start
                )
            end = stop
        return report

    def info(self) -> ImageInfo:
        from runtime.block.report import ImageInfo

        header = self.header
        chaining, _, vector = header.mode.partition("-")
        specific: dict[str, Any] = {
            "ivgen-alg": vector.partition(":")[0],
            "hash-alg": header.hash,
            "cipher-alg": f"{header.cipher}-{header.key_size * (4 if chaining == 'xts' else 8)}",
            "uuid": header.uuid,
            "cipher-mode": chaining,
            "slots": [
                {"active": True, "iters": slot.iterations, "key-offset": slot.offset, "stripes": slot.stripes}
                if slot.active
                else {"active": False, "key-offset": slot.offset}
                for slot in header.slots
            ],
            "payload-offset": header.payload_offset,
            "master-key-iters": header.digest_iterations,
        }
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self.length(),
            actual_size=self.file.allocated(),
            encrypted=True,
            format_specific={"type": "luks", "data": specific},
        )

    def amend(self, options: dict[str, object]) -> None:
        """Add a passphrase (``state`` "active", ``new-secret``) or remove one ("inactive", ``old-secret`` or
        ``keyslot``). Secrets are the passphrases themselves; ``iter-time`` is in milliseconds.
        """
        self.writable_or_raise()

        def key() -> bytes:
            _ = self._cipher
            assert self._key is not None
            return self._key

        self.header = amend_slots(self.header, self.file.pread, self._store, key, options, name=self.name)

    def _store(self, offset: int, data: bytes) -> None:
        self.file.pwrite(offset, data)
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def _whole_sectors(size: int) -> int:
    """Only whole sectors can be encrypted: sizes are rounded up."""
    return -(-size // SECTOR) * SECTOR


class LuksDriver(Driver):
    name = "luks"

    def open(self, file: ProtocolNode, context: OpenContext) -> LuksNode:
        return LuksNode(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.luks_options import LuksOptions

        return LuksOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.luks_options import LuksOptions

        assert isinstance(options, LuksOptions)
        if context.passphrase is None:
            raise ImageKeyError(
                "a LUKS disk needs a passphrase",
                where=file.name,
                remedy="passphrase= in Python, --passphrase-file on the command line",
            )
        region, _ = luks.create(
            context.passphrase(),
            mode=options.mode,
            hash_name=options.hash_alg,
            key_size=options.key_size,
            iteration_time=options.iter_time / 1000,
        )
        file.pwrite(0, region)
        file.resize(len(region) + _whole_sectors(size), preallocation=options.preallocation)
        file.flush()


DRIVER = LuksDriver()
