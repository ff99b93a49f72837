"""Which of the host's files a guest's paths name.

Without options the guest's files are the host's. With a sysroot, absolute paths that exist there are taken
from there (as qemu-user's -L does). With a root, all paths are resolved inside it by the host's kernel
(openat2(2), RESOLVE_IN_ROOT), so that neither links nor ``..`` lead out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from runtime.errors import IsagenError
from runtime.linux import host
from runtime.linux.errors import SystemCallError

AT_FDCWD = -100
IN_ROOT = host.RESOLVE_IN_ROOT | host.RESOLVE_NO_MAGICLINKS
DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
"""Of ``/dev``: the host's also where a root has none."""
MERGED = (b"bin", b"lib", b"lib64", b"lib32", b"sbin")
"""Folders that are links into ``/usr`` on merged systems, which a sysroot of unpacked packages lacks."""

Place = tuple[bytes, int | None]
"""A path of the host and the directory descriptor that it is relative to."""


class Namespace:
    """`root` and `sysroot` are directories of the host. Raises IsagenError for what they can't be."""

    def __init__(self, root: str | None = None, sysroot: str | None = None) -> None:
        self.root = _directory(root, "--root") if root is not None else None
        self.sysroot = _directory(sysroot, "--sysroot") if sysroot is not None else None
        self.root_name = os.fsencode(os.path.realpath(root)) if root is not None else b""
        for descriptor in (self.root, self.sysroot):
            if descriptor is not None:
                try:
                    os.close(host.openat2(descriptor, b".", os.O_PATH | os.O_CLOEXEC, 0, IN_ROOT))
                except OSError as error:
                    if error.errno in (errno.ENOSYS, errno.EPERM):
                        raise IsagenError(
                            "--root and --sysroot need openat2, which this kernel doesn't have or allow",
                            remedy="take Linux 5.6 or later",
                        ) from None
                    raise

    def enter(self) -> None:
        """A guest begins here: in the root, where there is one."""
        if self.root is not None:
            os.fchdir(self.root)

    # --- names of open files --------------------------------------------------------------------------

    def name_of(self, descriptor: int) -> bytes:
        """The guest's name of what the host's descriptor is: a path, or such as ``pipe:[1]``."""
        return self.guest_name(os.readlink(b"/proc/self/fd/%d" % descriptor))  # noqa: PTH115

    def guest_name(self, path: bytes) -> bytes:
        if self.root is None or not path.startswith(b"/"):
            return path
        if path == self.root_name:
            return b"/"
        prefix = self.root_name.rstrip(b"/") + b"/"
        return path[len(prefix) - 1 :] if path.startswith(prefix) else b"(unreachable)"

    def working_directory(self) -> bytes:
        """Raises OSError (ENOENT) where it was removed."""
        return self.guest_name(os.getcwdb())  # noqa: PTH109

    def absolute(self, directory: int | None, path: bytes) -> bytes:
        """The guest's path, absolute: `directory` is the host's descriptor it is relative to."""
        if path.startswith(b"/"):
            return path
        base = self.working_directory() if directory is None else self.name_of(directory)
        return base.rstrip(b"/") + b"/" + path

    # --- resolving ------------------------------------------------------------------------------------

    def open(self, directory: int | None, path: bytes, flags: int, mode: int) -> int:
        """Open a file. `directory` is a host descriptor, None the working directory. Raises OSError."""
        if not path:
            raise SystemCallError(errno.ENOENT)
        flags |= os.O_CLOEXEC | os.O_NOCTTY
        if self.root is not None:
            inside = self.absolute(directory, path)
            try:
                return host.openat2(self.root, inside.lstrip(b"/") or b".", flags, mode, IN_ROOT)
            except FileNotFoundError:
                if _is_device(inside):
                    return os.open(inside, flags & ~os.O_CREAT)
                raise
        if self.sysroot is not None and path.startswith(b"/"):
            with contextlib.suppress(OSError):
                os.close(self._in_sysroot(path, os.O_PATH | flags & os.O_NOFOLLOW))
                return self._in_sysroot(
                    path, flags & ~(os.O_CREAT | os.O_EXCL) if flags & os.O_CREAT else flags
                )
        return os.open(path, flags, mode, dir_fd=directory)

    def _in_sysroot(self, path: bytes, flags: int) -> int:
        assert self.sysroot is not None
        inside = path.lstrip(b"/") or b"."
        try:
            return host.openat2(self.sysroot, inside, flags | os.O_CLOEXEC, 0, IN_ROOT)
        except FileNotFoundError:
            if inside.split(b"/")[0] not in MERGED:
                raise
        return host.openat2(self.sysroot, b"usr/" + inside, flags | os.O_CLOEXEC, 0, IN_ROOT)

    @contextlib.contextmanager
    def place(self, directory: int | None, path: bytes, follow: bool) -> Iterator[Place]:
        """The host's path for one of the guest's: behind links if `follow`, else the name itself.

        Raises ENOENT for the empty path, and OSError for what can't be resolved.
        """
        if not path:
            raise SystemCallError(errno.ENOENT)
        descriptor = -1
        try:
            if self.root is not None:
                inside = self.absolute(directory, path)
                if follow:
                    try:
                        descriptor = self._in_root(inside)
                    except FileNotFoundError:
                        if not _is_device(inside):
                            raise
                        yield inside, None
                        return
                    yield b"/proc/self/fd/%d" % descriptor, None
                else:
                    folder, name = _split(inside)
                    descriptor = self._in_root(folder, os.O_DIRECTORY)
                    yield name, descriptor
                return
            if self.sysroot is not None and path.startswith(b"/"):
                with contextlib.suppress(OSError):
                    descriptor = self._in_sysroot(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
                if descriptor >= 0 and follow:
                    yield b"/proc/self/fd/%d" % descriptor, None
                    return
                if descriptor >= 0:
                    os.close(descriptor)
                    folder, name = _split(path)
                    descriptor = self._in_sysroot(folder, os.O_PATH | os.O_DIRECTORY)
                    yield name, descriptor
                    return
            yield path, directory
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _in_root(self, path: bytes, flags: int = 0) -> int:
        assert self.root is not None
        return host.openat2(
            self.root, path.lstrip(b"/") or b".", os.O_PATH | os.O_CLOEXEC | flags, 0, IN_ROOT
        )


def _directory(path: str, option: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise IsagenError(f"{option} {path}: {error.strerror}", remedy="give a directory") from None


def _split(path: bytes) -> tuple[bytes, bytes]:
    """The folder and the name in it. Of paths that end in ``.``, ``..`` or nothing: themselves, and ``.``."""
    stripped = path.rstrip(b"/")
    folder, _, name = stripped.rpartition(b"/")
    if name in (b"", b".", b".."):
        return stripped or b"/", b"."
    # A slash behind the name asks for a directory: it stays.
    return folder or b"/", name + path[len(stripped) :][:1]


def _is_device(path: bytes) -> bool:
    return path in {b"/dev/" + name for name in DEVICES}
