"""Building targets: decides what must be built, runs the steps, and publishes a finished target all at once.

A target's folder holds what `isagen.steps` writes and ``build.json``: the fingerprint of what it was built
from, and the hash of each file. It is written beside its place and renamed into it, so that there is a whole
target or none; a spec with mistakes leaves no file behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isagen import paths
from isagen.fingerprint import Fingerprints, engine_digest, specs_digest
from isagen.targets import TargetSource

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from isagen.steps import Report

MANIFEST = "build.json"


@dataclass(frozen=True)
class Result:
    """What became of a target. status: "built", "unchanged" or "checked"."""

    target: str
    family: str
    status: str
    executors: int
    forms: int
    seconds: float
    folder: Path | None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "family": self.family,
            "status": self.status,
            "executors": self.executors,
            "forms": self.forms,
            "seconds": round(self.seconds, 3),
            "folder": str(self.folder) if self.folder else None,
            "notes": list(self.notes),
        }


def silent(target: str, what: str, done: int, total: int) -> None:
    """A `Report` that shows nothing."""


def build(
    targets: Sequence[TargetSource],
    *,
    check_only: bool = False,
    force: bool = False,
    jobs: int | None = None,
    report: Report = silent,
) -> Iterator[Result]:
    """Build the targets that changed, one after the other, each on `jobs` cores (all by default).

    Raises `IsagenError` of the generator for mistakes in specs; targets before that are built.
    """
    workers = Workers(jobs or len(os.sched_getaffinity(0)))
    with workers:
        yield from build_each(targets, workers, check_only, force, report)


def collect_rarely() -> None:
    """A build makes millions of small objects that stay: looking for garbage among them is a tenth of it."""
    gc.set_threshold(100_000, 20, 100)


class Workers:
    """The pool of processes that compile, started when it is first asked for."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            self._pool = ProcessPoolExecutor(
                self.jobs, mp_context=get_context("spawn"), initializer=collect_rarely
            )
        return self._pool

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)


def build_each(
    targets: Sequence[TargetSource], workers: Workers, check_only: bool, force: bool, report: Report
) -> Iterator[Result]:
    fingerprints = Fingerprints()
    for target in targets:
        fingerprint = fingerprints.of(target)
        start = time.perf_counter()
        folder = paths.generated_root() / target.name
        done = None if force or check_only else unchanged(target, folder, fingerprint)
        if done is not None:
            yield done
            continue
        from isagen import steps

        collect_rarely()
        if check_only:
            checked = steps.check(target, report)
            elapsed = time.perf_counter() - start
            yield Result(
                target.name,
                target.family,
                "checked",
                checked.executors,
                checked.forms,
                elapsed,
                None,
                checked.notes,
            )
            continue
        with locked(paths.generated_root()), workplace(paths.generated_root()) as temporary:
            # Another process may have built it while this one waited for the lock.
            done = None if force else unchanged(target, folder, fingerprint)
            if done is not None:
                yield done
                continue
            made = steps.build(target, temporary, workers.pool(), report)
            write_manifest(temporary, target.family, fingerprint, made.executors, made.forms)
            publish(temporary, folder)
        compile_modules()
        elapsed = time.perf_counter() - start
        yield Result(
            target.name, target.family, "built", made.executors, made.forms, elapsed, folder, made.notes
        )


def compile_modules() -> None:
    """Have Python's compiled form of what runs targets beside it, as installing a package does: users may
    have told Python not to write it by itself, and each start would compile everything.
    """
    import compileall

    for package in ("isagen", "machines", "runtime"):
        compileall.compile_dir(paths.ROOT / package, quiet=2)


def unchanged(target: TargetSource, folder: Path, fingerprint: str) -> Result | None:
    """The result for a target that is built from what `fingerprint` stands for, with all its files as they
    were.
    """
    known = read_manifest(folder)
    if known is None or known["fingerprint"] != fingerprint or not is_intact(folder, known):
        return None
    return Result(target.name, target.family, "unchanged", known["executors"], known["forms"], 0.0, folder)


# --- the manifest -------------------------------------------------------------------------------------


def files_in(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a built target, by its path in the folder."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name != MANIFEST and "__pycache__" not in name:
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def write_manifest(folder: Path, family: str, fingerprint: str, executors: int, forms: int) -> None:
    manifest = {
        "fingerprint": fingerprint,
        "engine": engine_digest(),
        "family": family,
        "specs": specs_digest(family),
        "executors": executors,
        "forms": forms,
        "files": files_in(folder),
        "checks": {file.name: zlib.crc32(file.read_bytes()) for file in folder.iterdir() if file.is_file()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """A built target's manifest; None where there is none that can be used."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    wanted = {
        "fingerprint": str,
        "engine": str,
        "family": str,
        "specs": str,
        "executors": int,
        "forms": int,
        "files": dict,
    }
    if not isinstance(manifest, dict):
        return None
    return manifest if all(isinstance(manifest.get(k), kind) for k, kind in wanted.items()) else None


def is_intact(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether the target's files are those that were built."""
    try:
        return bool(files_in(folder) == manifest["files"])
    except OSError:
        return False


# --- publishing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """One build at a time writes into `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """A new folder inside `root`, removed afterwards if it is still there. Those that killed builds left
    go too.
    """
    for old in root.glob(".building-*"):
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".building-", dir=root))
    try:
        inner = folder / "package"
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(new: Path, place: Path) -> None:
    """Put the folder `new` at `place`; what was there goes."""
    old = new.parent / "old"
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
