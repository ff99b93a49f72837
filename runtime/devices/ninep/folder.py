"""A folder of the host, of which nothing outside can be reached: names are looked up one by one below it, and
no symbolic link is followed (the guest follows those that lead inside by itself).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as HostPath
from typing import Final

from runtime.errors import IsagenError

Path = tuple[bytes, ...]
"""Names from the folder on; the folder itself is ()."""

LONGEST_NAME, LONGEST_PATH = 255, 4096
PERMISSIONS: Final = 0o1777
"""Mode bits that a guest may set: none that make the host run something with other rights."""


def failure(number: int) -> OSError:
    """An error by its number."""
    return OSError(number, os.strerror(number))


def checked(name: bytes) -> bytes:
    """A name for something new, or to be removed. Raises OSError for one that would lead elsewhere."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise failure(errno.EINVAL)
    if len(name) > LONGEST_NAME:
        raise failure(errno.ENAMETOOLONG)
    return name


class Folder:
    """Operations by path; all raise OSError. Descriptors that they return are the caller's to close."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.read_only = read_only
        try:
            self._root = os.open(HostPath(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            what = f"this folder can't be shared: {(error.strerror or str(error)).lower()}"
            raise IsagenError(what, where=os.fspath(path)) from error
        self.device = os.fstat(self._root).st_dev

    def close(self) -> None:
        """Give the folder back."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def writable_or_raise(self) -> None:
        """Raises EROFS where the share is read-only."""
        if self.read_only:
            raise failure(errno.EROFS)

    # --- looking up -------------------------------------------------------------------------------------

    @contextmanager
    def place(self, path: Path) -> Iterator[tuple[int, bytes]]:
        """A descriptor of the folder that holds `path`, and the name in it; b"." for the root."""
        if not path:
            yield self._root, b"."
            return
        name = checked(path[-1])
        opened = self._descend(path[:-1])
        try:
            yield opened, name
        finally:
            os.close(opened)

    def _descend(self, path: Path) -> int:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.open(b".", flags, dir_fd=self._root)
        for name in path:
            before = here
            try:
                here = os.open(checked(name), flags, dir_fd=before)
            finally:
                os.close(before)
        return here

    def look(self, path: Path) -> os.stat_result:
        """What is there; a link is described itself."""
        with self.place(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    @contextmanager
    def found(self, path: Path) -> Iterator[tuple[int, str]]:
        """A descriptor that only names what is there (O_PATH), and a path by which it can be opened."""
        with self.place(path) as (folder, name):
            there = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            yield there, f"/proc/self/fd/{there}"
        finally:
            os.close(there)

    def open(self, path: Path, flags: int) -> int:
        """Open a regular file or a folder; nothing else, which could do something or block."""
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self.writable_or_raise()
        with self.found(path) as (there, again):
            mode = os.fstat(there).st_mode
            if stat.S_ISDIR(mode):
                return os.open(again, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if stat.S_ISLNK(mode):
                raise failure(errno.ELOOP)
            if not stat.S_ISREG(mode):
                raise failure(errno.ENXIO)
            return os.open(again, flags | os.O_CLOEXEC)

    # --- changing ---------------------------------------------------------------------------------------

    def create(self, path: Path, flags: int, mode: int) -> int:
        """A new file, opened; with O_EXCL it must not be there."""
        self.writable_or_raise()
        with self.place(path) as (folder, name):
            try:
                new = os.open(
                    name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & PERMISSIONS, dir_fd=folder
                )
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                return self.open(path, flags)
        os.fchmod(new, mode & PERMISSIONS)  # whatever our own umask is
        return new

    def make_folder(self, path: Path, mode: int) -> None:
        """A new folder."""
        self.writable_or_raise()
        with self.place(path) as (folder, name):
            os.mkdir(name, 0o700, dir_fd=folder)
        with self.found(path) as (_, again):
            HostPath(again).chmod(mode & PERMISSIONS)

    def make_link(self, path: Path, target: bytes) -> None:
        """A symbolic link, wherever it leads: only guests follow it."""
        self.writable_or_raise()
        with self.place(path) as (folder, name):
            os.symlink(target, name, dir_fd=folder)

    def make_special(self, path: Path, mode: int) -> None:
        """A file, FIFO or socket; devices are refused."""
        self.writable_or_raise()
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
            raise failure(errno.EPERM)
        with self.place(path) as (folder, name):
            os.mknod(name, kind | mode & PERMISSIONS, dir_fd=folder)

    def link(self, old: Path, new: Path) -> None:
        """A second name."""
        self.writable_or_raise()
        with self.place(old) as (source, name), self.place(new) as (folder, other):
            os.link(name, other, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)

    def rename(self, old: Path, new: Path) -> None:
        """Another name or place."""
        self.writable_or_raise()
        if not old or not new:
            raise failure(errno.EBUSY)
        with self.place(old) as (source, name), self.place(new) as (folder, other):
            os.rename(name, other, src_dir_fd=source, dst_dir_fd=folder)

    def remove(self, path: Path, *, folder: bool | None = None) -> None:
        """Remove a folder, or something else; None: whatever it is."""
        self.writable_or_raise()
        if not path:
            raise failure(errno.EBUSY)
        if folder is None:
            folder = stat.S_ISDIR(self.look(path).st_mode)
        with self.place(path) as (parent, name):
            (os.rmdir if folder else os.unlink)(name, dir_fd=parent)

    def target(self, path: Path) -> bytes:
        """Where a symbolic link leads."""
        with self.place(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def change_mode(self, path: Path, mode: int) -> None:
        """Permissions; those of links can't be changed."""
        self.writable_or_raise()
        with self.found(path) as (there, again):
            if stat.S_ISLNK(os.fstat(there).st_mode):
                raise failure(errno.EOPNOTSUPP)
            HostPath(again).chmod(mode & PERMISSIONS)

    def change_owner(self, path: Path, user: int, group: int) -> None:
        """Owner and group, -1 as it is. Where we may not do so, it stays: guests' programs expect success."""
        self.writable_or_raise()
        with self.place(path) as (folder, name):
            try:
                os.chown(name, user, group, dir_fd=folder, follow_symlinks=False)
            except PermissionError:
                return

    def change_times(self, path: Path, accessed: int, modified: int) -> None:
        """Times in nanoseconds since 1970."""
        self.writable_or_raise()
        with self.place(path) as (folder, name):
            os.utime(name, ns=(accessed, modified), dir_fd=folder, follow_symlinks=False)

    def truncate(self, path: Path, size: int) -> None:
        """Change a file's size."""
        opened = self.open(path, os.O_WRONLY)
        try:
            os.ftruncate(opened, size)
        finally:
            os.close(opened)

    def space(self) -> os.statvfs_result:
        """The file system's size and room."""
        return os.fstatvfs(self._root)
