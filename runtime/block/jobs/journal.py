"""The journal of an unfinished conversion: a small file beside the target that lets it go on.

It says what is being converted into what, and up to which offset the target is complete. That holds when the
process dies; whether it also holds after the machine died is told by `synced` and the kernel's boot identity.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

from runtime.block.errors import ImageError
from runtime.records import asdict, record, replace

VERSION = 1
_MAXIMUM_SIZE = 1 << 20
_ROOM = 4096  # bytes that the file has at least


@record(frozen=True)
class Entry:
    """What a journal holds. `source` and `target` describe the two (JSON values, compared as a whole); `work`
    is the file that is written; `offset` bytes are complete, `synced` of them on stable storage.
    """

    source: dict[str, Any]
    target: dict[str, Any]
    work: str
    offset: int = 0
    synced: int = 0
    boot: str = ""

    @property
    def usable(self) -> int:
        """Bytes that can be relied on now."""
        return self.offset if self.boot == boot_identity() else self.synced


def boot_identity() -> str:
    """A string that changes whenever the machine starts."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def path_of(target: Path) -> Path:
    """Where the journal of a conversion to `target` is."""
    return target.with_name(f".{target.name}.convert")


class Journal:
    """The journal file while a conversion runs. It says nothing until the first `advance`."""

    def __init__(self, path: Path, entry: Entry) -> None:
        self.path = path
        self.entry = entry
        self.told = False
        if not path.exists():
            # Storage of its own: a full disk won't keep us from noting how far we came.
            path.write_bytes(b" " * _ROOM)

    def advance(self, offset: int, *, synced: bool) -> None:
        """`offset` bytes are complete now."""
        self.entry = replace(
            self.entry,
            offset=offset,
            synced=offset if synced else self.entry.synced,
            boot=self.entry.boot or boot_identity(),
        )
        self._write()
        self.told = True

    def _write(self) -> None:
        import json

        text = json.dumps({"version": VERSION, **asdict(self.entry)}).encode().ljust(_ROOM)
        fresh = self.path.with_name(self.path.name + "~")
        try:
            try:
                self._store(fresh, text)
                fresh.replace(self.path)
            except OSError as error:
                fresh.unlink(missing_ok=True)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                with self.path.open("r+b") as file:
                    file.write(text)
                    file.truncate()
        except OSError as error:
            raise ImageError(
                f"the journal can't be written: {error.strerror}", where=str(self.path)
            ) from None

    def _store(self, path: Path, text: bytes) -> None:
        with path.open("wb") as file:
            file.write(text)
            file.flush()
            if self.entry.synced:
                os.fsync(file.fileno())

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def load(path: Path) -> Entry | None:
    """The journal at `path`, None if there is none that makes sense."""
    import json

    try:
        if path.stat().st_size > _MAXIMUM_SIZE:
            return None
        values = json.loads(path.read_text())
        if values.pop("version") != VERSION:
            return None
        entry = Entry(**values)
        return entry if entry.offset >= 0 and entry.synced >= 0 else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
