"""Compiled regions kept on disk, so that the next run need not compile them again.

A file's name is the hash of everything that its code depends on: the region's description, the target's
templates and layout, the translator's own text, LLVM's version, the host's processor, the mode. Its content
begins with a hash of that name and of the code: a file that is damaged, cut short or in another's place is
ignored. Only files and folders that belong to the user, and that nobody else may write, are used at all.

Files are written beside their place and then renamed, so that several emulators may share the folder. When
there is too much, those go that were not used for the longest time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "ISAGEN_CODE_CACHE"
"""The environment's variable that names the folder; ``off``: keep nothing."""
LIMIT: Final = 128 << 20
"""Most bytes that are kept."""
MAGIC: Final = b"isagen region 1\n"
_HASH_SIZE: Final = hashlib.sha256().digest_size
_PRUNE_EACH: Final = 32
"""After so many new files the folder's size is looked at."""


def default_folder(environment: Mapping[str, str]) -> Path | None:
    """Where regions are kept; None: nowhere."""
    named = environment.get(VARIABLE)
    if named:
        return None if named == "off" else Path(named)
    base = environment.get("XDG_CACHE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "isagen" / "regions"
    home = environment.get("HOME")
    return Path(home) / ".cache" / "isagen" / "regions" if home else None


def is_safe(status: os.stat_result) -> bool:
    """Whether a file or folder is the user's, and nobody else may write it."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class Store:
    """A folder of compiled regions. Trouble with it never shows but in `found` and `kept`."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self.found = 0
        """Regions that were read."""
        self.kept = 0
        """Regions that were written."""
        self._usable = self._prepare()

    def _prepare(self) -> bool:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.folder.lstat()
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and is_safe(status)

    def _place(self, key: str) -> Path:
        return self.folder / f"{key}.region"

    @staticmethod
    def _digest(key: str, code: bytes) -> bytes:
        return hashlib.sha256(MAGIC + key.encode() + b"\n" + code).digest()

    def get(self, key: str) -> bytes:
        """The code for a key; empty if there is none that can be trusted."""
        if not self._usable:
            return b""
        try:
            file = os.open(self._place(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or not is_safe(status) or status.st_size > self.limit:
                return b""
            with os.fdopen(os.dup(file), "rb") as stream:
                data = stream.read()
            head = len(MAGIC) + _HASH_SIZE
            code = data[head:]
            if not code or data[:head] != MAGIC + self._digest(key, code):
                return b""
            with contextlib.suppress(OSError):
                os.utime(file)
        except OSError:
            return b""
        finally:
            os.close(file)
        self.found += 1
        return code

    def put(self, key: str, code: bytes) -> None:
        """Keep the code of a region."""
        if not self._usable or len(code) > self.limit // 16:
            return
        name = self.folder / f".new-{os.getpid()}-{id(self):x}"
        try:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(MAGIC + self._digest(key, code) + code)
            name.replace(self._place(key))
        except OSError:
            with contextlib.suppress(OSError):
                name.unlink()
            return
        self.kept += 1
        if self.kept % _PRUNE_EACH == 1:
            self.prune()

    def prune(self) -> None:
        """Remove what was not used for the longest time until three quarters of the limit are left."""
        rows: list[tuple[float, int, str]] = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(".region") or entry.name.startswith(".new-"):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        rows.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in rows)
        if total <= self.limit:
            return
        for _, size, path in sorted(rows):
            if total <= self.limit * 3 // 4:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink()
                total -= size
