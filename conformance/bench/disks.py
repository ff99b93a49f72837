"""Measures disk work against qemu-img: the same job on the same data, in turns.

The data is one third random, one third text, one third hole. It is read once before each run. Seconds are
the wall clock's, start-up included, because both programs use several processors; the processor time of both
is reported too. A ratio above 1 means that isagen is faster. Our modules are compiled before, as those of an
installed isagen are.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from runtime.errors import IsagenError

LARGE = "tables"
"""A QCOW2 image of 256 GiB that is nothing but tables: all is preallocated, and a hole of the file."""
FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx")
_QEMU_NAMES = {"vhd": "vpc"}
_PIECE = 1 << 20


class Job(NamedTuple):
    """A job: the words for both programs (``{in}``, ``{out}``: files) and the ratio that is asked for."""

    name: str
    source: str
    ours: tuple[str, ...]
    peer: tuple[str, ...]
    bar: float
    writes: bool = True


class Spent(NamedTuple):
    """Seconds on the wall and of processors, and the largest resident set in bytes."""

    wall: float
    processor: float
    memory: int


@dataclass
class Result:
    """The runs of a job, pairwise."""

    job: Job
    ours: list[Spent] = field(default_factory=list)
    peer: list[Spent] = field(default_factory=list)
    error: str = ""

    @property
    def ratio(self) -> float:
        """Median of the ratios of wall time, peer to ours."""
        return median(p.wall / o.wall for o, p in zip(self.ours, self.peer, strict=True))

    def as_json(self) -> dict[str, Any]:
        if self.error:
            return {"job": self.job.name, "error": self.error}
        return {
            "job": self.job.name,
            "bar": self.job.bar,
            "ratio": self.ratio,
            "seconds": median(spent.wall for spent in self.ours),
            "peer_seconds": median(spent.wall for spent in self.peer),
            "processor_seconds": median(spent.processor for spent in self.ours),
            "peer_processor_seconds": median(spent.processor for spent in self.peer),
            "memory": max(spent.memory for spent in self.ours),
        }


def convert_job(source: str, target: str, bar: float, *words: str) -> Job:
    """A conversion; `words` are options that both programs understand."""
    options = " ".join(words).replace("-o ", "")
    return Job(
        f"{source} to {target}{' ' + options if options else ''}",
        source,
        ("convert", "-f", source, "-O", target, *words, "{in}", "{out}"),
        ("convert", "-f", _qemu(source), "-O", _qemu(target), *words, "{in}", "{out}"),
        bar,
    )


def jobs() -> list[Job]:
    """The jobs that have a bar."""
    stream = "subformat=streamOptimized"
    return [
        convert_job("raw", "qcow2", 4.0, "-c"),
        convert_job("raw", "vmdk", 3.0, "-o", stream),
        convert_job("raw", "qcow2", 1.2, "-c", "-o", "compression_type=zstd"),
        *(convert_job("raw", target, 0.9) for target in FORMATS),
        *(convert_job(source, "raw", 0.9) for source in FORMATS[1:]),
        *(convert_job("qcow2", target, 0.9) for target in FORMATS[1:]),
        Job(
            "compare raw, qcow2",
            "raw",
            ("compare", "{in}", "{qcow2}"),
            ("compare", "{in}", "{qcow2}"),
            0.5,
            False,
        ),
        Job("check qcow2", "qcow2", ("check", "{in}"), ("check", "{in}"), 0.5, False),
        Job("check qcow2, 256 GiB of tables", LARGE, ("check", "{in}"), ("check", "{in}"), 0.5, False),
    ]


def pairs() -> list[Job]:
    """Every uncompressed pair of formats."""
    return [convert_job(source, target, 0.9) for source in FORMATS for target in FORMATS]


def _qemu(format: str) -> str:
    return _QEMU_NAMES.get(format, format)


def make_data(path: Path, size: int) -> None:
    """A sparse raw disk of `size` bytes: a third random, a third text, a third hole, by 8 MiB."""
    generator = random.Random(1)
    words = [generator.randbytes(generator.randrange(2, 9)).hex() for _ in range(4096)]
    with path.open("wb") as file:
        file.truncate(size)
        for at in range(0, size, _PIECE):
            kind = at // (8 * _PIECE) % 3
            if kind == 2:
                continue
            if kind == 0:
                data = generator.randbytes(_PIECE)
            else:
                text = " ".join(generator.choices(words, k=140_000)).encode()
                data = (text * (_PIECE // len(text) + 1))[:_PIECE]
            file.seek(at)
            file.write(data[: size - at])


def measure(
    chosen: Iterable[Job],
    folder: Path,
    size: int,
    rounds: int,
    report: Callable[[str], None] = lambda text: None,
) -> Iterator[Result]:
    """Run the jobs in `folder`, which needs about five times `size`; results as they come."""
    qemu = shutil.which("qemu-img")
    if qemu is None:
        raise IsagenError("the program qemu-img isn't installed", remedy="install the package qemu-utils")
    disks = {"raw": folder / "disk.raw"}
    report("making the data")
    make_data(disks["raw"], size)
    for job in chosen:
        result = Result(job)
        try:
            for needed in dict.fromkeys((job.source, *(f for f in FORMATS if f"{{{f}}}" in job.ours))):
                if needed not in disks:
                    disks[needed] = folder / f"disk.{needed}"
                    _make_disk(qemu, needed, disks)
            for number in range(rounds):
                report(f"{job.name}, round {number + 1}")
                ours = (sys.executable, "-m", "isagen", "image", *job.ours)
                result.ours.append(_timed(ours, job, disks, folder))
                result.peer.append(_timed((qemu, *job.peer), job, disks, folder))
        except subprocess.CalledProcessError as error:
            text = error.stderr.decode(errors="replace").strip() if error.stderr else str(error)
            result.error = text.splitlines()[-1] if text else str(error)
        yield result


def _make_disk(qemu: str, kind: str, disks: dict[str, Path]) -> None:
    target = str(disks[kind])
    if kind == LARGE:
        options = ("-o", "preallocation=metadata")
        words: tuple[str, ...] = (qemu, "create", "-f", "qcow2", *options, target, "256G")
    else:
        words = (qemu, "convert", "-O", _qemu(kind), str(disks["raw"]), target)
    subprocess.run(words, check=True, capture_output=True)


def _read_once(path: Path) -> None:
    """Into the page cache: whoever comes first mustn't wait for the disk alone."""
    with path.open("rb", buffering=0) as file:
        while file.read(8 * _PIECE):
            pass


def _timed(words: tuple[str, ...], job: Job, disks: dict[str, Path], folder: Path) -> Spent:
    """Run a program on a job's files."""
    target = folder / "target"
    target.unlink(missing_ok=True)
    names = {"{in}": str(disks[job.source]), "{out}": str(target)}
    names |= {f"{{{format}}}": str(path) for format, path in disks.items()}
    command = [names.get(word, word) for word in words]
    for path in disks.values():
        if str(path) in command and path != disks.get(LARGE):
            _read_once(path)
    start = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    assert child.stderr is not None
    with child.stderr:
        told = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command, stderr=told)
    target.unlink(missing_ok=True)
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
