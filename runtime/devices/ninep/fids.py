"""What a guest holds on to: fids, with the host's files that are open for them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from runtime.devices.ninep.folder import Folder, Path, failure

MOST_FIDS: Final = 1 << 17
MOST_FILES: Final = 256
"""Files of the host that are open at a time; others are opened again when they are needed."""
REOPENED: Final = ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)


@dataclass(slots=True)
class Attribute:
    """A fid that stands for an extended attribute: its value, read, or being written."""

    value: bytes
    name: bytes = b""
    """Of the attribute to set; b"": it is read."""
    size: int = 0
    flags: int = 0


@dataclass(slots=True)
class Fid:
    """A place in the folder; opened if `flags` is not None."""

    path: Path
    flags: int | None = None
    listing: list[bytes] | None = None
    """A folder's names, as they were when reading began."""
    attribute: Attribute | None = None


class Fids:
    """Fids by number."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._fids: dict[int, Fid] = {}
        self._files: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._fids

    def get(self, number: int) -> Fid:
        """Raises OSError (EBADF) for one that isn't there."""
        found = self._fids.get(number)
        if found is None:
            raise failure(errno.EBADF)
        return found

    def add(self, number: int, fid: Fid) -> None:
        """A new one. Raises OSError where the number is in use."""
        if number in self._fids:
            raise failure(errno.EINVAL)
        if len(self._fids) >= MOST_FIDS:
            raise failure(errno.ENFILE)
        self._fids[number] = fid

    def replace(self, number: int, fid: Fid) -> None:
        """Another one under a number that is in use."""
        self._close(number)
        self._fids[number] = fid

    def drop(self, number: int) -> Fid:
        """Forget one, which is returned. Raises OSError (EBADF)."""
        fid = self.get(number)
        self._close(number)
        del self._fids[number]
        return fid

    def clear(self) -> None:
        """Forget all."""
        for number in list(self._files):
            self._close(number)
        self._fids.clear()

    def moved(self, old: Path, new: Path) -> None:
        """What was below `old` is below `new` now."""
        for fid in self._fids.values():
            if fid.path[: len(old)] == old:
                fid.path = new + fid.path[len(old) :]

    # --- open files -------------------------------------------------------------------------------------

    def opened(self, number: int, file: int) -> None:
        """The file of a fid was opened."""
        self._close(number)
        self._files[number] = file
        if len(self._files) > MOST_FILES:
            self._make_room()

    def _make_room(self) -> None:
        """Close the file that wasn't used for the longest time and can be opened again."""
        for number, file in self._files.items():
            if os.fstat(file).st_nlink and number != next(reversed(self._files)):
                self._close(number)
                return

    def file(self, number: int) -> int | None:
        """The file of a fid that is open now, if there is one."""
        return self._files.get(number)

    def open_file(self, number: int) -> int:
        """The same; opened again if need be. Raises OSError, EBADF where the guest hasn't opened it."""
        file = self._files.get(number)
        if file is not None:
            self._files.move_to_end(number)
            return file
        fid = self.get(number)
        if fid.flags is None:
            raise failure(errno.EBADF)
        file = self._folder.open(fid.path, fid.flags & REOPENED)
        self.opened(number, file)
        return file

    def _close(self, number: int) -> None:
        file = self._files.pop(number, None)
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)

    # --- state ------------------------------------------------------------------------------------------

    def save(self) -> list[dict[str, Any]]:
        """All fids, as JSON's types; names as hexadecimal digits, since they are bytes."""
        return [
            {
                "fid": number,
                "path": [name.hex() for name in fid.path],
                "flags": fid.flags,
                "listing": None if fid.listing is None else [name.hex() for name in fid.listing],
                "attribute": None
                if (held := fid.attribute) is None
                else [held.value.hex(), held.name.hex(), held.size, held.flags],
            }
            for number, fid in self._fids.items()
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Take over what `save` returned. Files are opened when they are used."""
        self.clear()
        for row in state:
            held, listing = row["attribute"], row["listing"]
            self._fids[int(row["fid"])] = Fid(
                path=tuple(bytes.fromhex(name) for name in row["path"]),
                flags=row["flags"],
                listing=None if listing is None else [bytes.fromhex(name) for name in listing],
                attribute=None
                if held is None
                else Attribute(bytes.fromhex(held[0]), bytes.fromhex(held[1]), held[2], held[3]),
            )
