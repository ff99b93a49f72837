"""Debian's programs of other architectures, as trees of files: fetched with apt by package name.

The mirror is the one that this machine's apt uses. Lists, downloads and trees are kept in the user's cache
folder (``$XDG_CACHE_HOME/isagen/debian``), apart from those of the machine's own apt; nothing is installed,
and nobody has to be root. (apt.conf(5) for the options, sources.list(5) for the one line.)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TIMEOUT = 300
"""Seconds for a call of apt."""


class FetchError(Exception):
    """Packages couldn't be fetched; the message says why."""


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isagen" / "debian"


def tree(
    suites: Sequence[str], architecture: str, packages: Sequence[str], folder: Path | None = None
) -> Path:
    """The root directory of a system that has these packages and what they depend on, unpacked but not
    configured. They are those of the first suite that can be had: a mirror's lists may not fit each other for
    a while. Raises `FetchError`.
    """
    words = " ".join((*suites, architecture, *sorted(packages)))
    return kept(words, suites, architecture, lambda apt, root: fetch(apt, packages, root), folder)


def kernel(
    suites: Sequence[str], architecture: str, modules: Sequence[str], folder: Path | None = None
) -> Path:
    """A tree with /boot of Debian's kernel for an architecture, and with some of its modules where they lie.
    The package alone is fetched. Raises `FetchError`.
    """
    words = " ".join((*suites, architecture, "kernel", *modules))
    return kept(words, suites, architecture, lambda apt, root: fetch_kernel(apt, root, modules), folder)


Fetch = Callable[["Apt", Path], None]
"""Makes a new tree. Raises `FetchError`."""


def kept(words: str, suites: Sequence[str], architecture: str, make: Fetch, folder: Path | None) -> Path:
    """The tree that `make` makes from the first suite that can be had, made once for the same `words`."""
    folder = folder or default_folder()
    target = folder / f"{architecture}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"), tempfile.TemporaryDirectory(dir=folder) as temporary:
            if not target.exists():  # another process was faster
                fetch_from_any(suites, architecture, make, Path(temporary), folder / "apt").rename(target)
    return target


def fetch_from_any(
    suites: Sequence[str], architecture: str, make: Fetch, temporary: Path, state: Path
) -> Path:
    """The new tree, a folder in `temporary`. Raises `FetchError`."""
    failures = []
    for suite in suites:
        try:
            make(Apt(state, suite, architecture), temporary / suite)
            return temporary / suite
        except FetchError as error:
            failures.append(f"{suite}: {error}")
    raise FetchError("\n".join(failures))


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Only one process at a time gets in."""
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Apt:
    """apt-get with a state of its own for one suite and architecture, in which nothing is installed."""

    def __init__(self, folder: Path, suite: str, architecture: str) -> None:
        if not shutil.which("apt-get"):
            raise FetchError("there is no apt-get")
        self.folder = folder / f"{suite}-{architecture}"
        self.architecture = architecture
        self.archives = self.folder / "cache" / "archives"
        self._updated = self.folder / "updated"
        for directory in (self.folder / "lists" / "partial", self.archives / "partial"):
            directory.mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        sources = self.folder / "sources.list"
        sources.write_text(f"deb {mirror()} {suite} main\n")
        self._command = ["apt-get", "-q", "-y", "--no-install-recommends"]
        for option in (
            f"Dir::Etc::SourceList={sources}",
            "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State={self.folder}",
            f"Dir::State::Status={self.folder / 'status'}",
            f"Dir::Cache={self.folder / 'cache'}",
            f"APT::Architecture={architecture}",
            f"APT::Architectures={architecture}",
            "APT::Sandbox::User=",
            "Acquire::Languages=none",
            "Acquire::Retries=5",
        ):
            self._command += ["-o", option]

    def run(self, *words: str, into: Path | None = None) -> str:
        """What apt says; `into`: the folder that it works in. Raises `FetchError`."""
        try:
            done = subprocess.run(
                [*self._command, *words],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
                cwd=into,
            )
        except subprocess.TimeoutExpired:
            raise FetchError(f"apt-get {words[0]} took more than {TIMEOUT} s") from None
        if done.returncode:
            raise FetchError(f"apt-get {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def update(self) -> None:
        """Get the lists of packages."""
        # Without "any" a mirror that can't be reached is only warned of.
        self.run("update", "--error-on=any")
        self._updated.touch()

    def alone(self, package: str, pattern: str) -> Path:
        """The file of one package, that of `package` and its needs whose name begins with `pattern`."""
        if not self._updated.exists():
            self.update()
        self.run("clean")
        listed = self.run("install", "--print-uris", package)
        found = re.search(rf"^'\S+' ({pattern}[^_\s]*)_", listed, re.MULTILINE)
        if found is None:
            raise FetchError(f"{package} needs no {pattern}...")
        self.run("download", found[1], into=self.archives)
        return next(self.archives.glob(f"{found[1]}_*.deb"))

    def download(self, packages: Sequence[str]) -> list[Path]:
        """The files of the packages and of all that they depend on."""
        if not self._updated.exists():
            self.update()
        self.run("clean")
        try:
            self.run("install", "--download-only", *packages)
        except FetchError:  # the lists may be of long ago, and the packages no longer there
            self.update()
            self.run("install", "--download-only", *packages)
        return sorted(self.archives.glob("*.deb"))


def mirror() -> str:
    """The address from which this machine's apt gets Debian's main archive. Raises `FetchError`."""
    listed = subprocess.run(
        ["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=False
    ).stdout
    for address, suite in re.findall(r"^'(\S+?)/dists/([^/\s]+)/InRelease'", listed, re.MULTILINE):
        if not re.search(r"security|updates|backports", suite) and re.search(r"debian/?$", address):
            return str(address)
    raise FetchError("this machine's apt has no source of Debian packages")


def fetch(apt: Apt, packages: Sequence[str], root: Path) -> None:
    """Unpack the packages and what they need into the new directory `root`."""
    root.mkdir()
    # In trees whose /bin is in /usr (all of Debian 12 and later), packages may name either.
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in apt.download(packages):
        unpack(package, root)
    apt.run("clean")


def fetch_kernel(apt: Apt, root: Path, modules: Sequence[str]) -> None:
    """Unpack /boot of the architecture's kernel, and these modules, into the new directory `root`."""
    root.mkdir()
    package = apt.alone(f"linux-image-{apt.architecture}", r"linux-image-\d")
    unpack(package, root, "./boot", *(f"*/{name}.ko*" for name in modules))
    apt.run("clean")


def unpack(package: Path, root: Path, *names: str) -> None:
    """Unpack a package, or what of it has these names (`*` stands for anything). Raises `FetchError`."""
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    unpacked = subprocess.run(
        ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root, "--wildcards", *names],
        stdin=archive.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    if archive.wait() or unpacked.returncode:
        raise FetchError(f"{package.name} can't be unpacked: {unpacked.stderr.strip()}")
