"""Measuring programs under several machines, in turns, so that a busy host disturbs all alike."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from conformance.bench.compile import Platform

COLD: Final = "isagen, cold"
"""A run of ours with an empty code cache; that of "isagen" has what this one left."""
OURS: Final = (COLD, "isagen")
TIMEOUT: Final = 900
"""Seconds after which a program is given up."""

_COUNT = re.compile(r"isagen: (\d+) instructions")


@dataclass
class Run:
    """One run: processor seconds (user and system), output and status, instructions if it counts them."""

    seconds: float
    output: bytes
    status: int
    errors: str
    instructions: int | None = None


@dataclass
class Result:
    """A program's runs under each contender, or why they don't count."""

    program: str
    target: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    instructions: int = 0
    error: str = ""

    def mips(self, contender: str) -> list[float]:
        """Guest instructions a second, in millions, of each run."""
        return [self.instructions / seconds / 1e6 for seconds in self.seconds.get(contender, [])]

    def ratios(self, peer: str, ours: str = "isagen") -> list[float]:
        """Our speed over the peer's, round by round; `ours`: of which of our runs."""
        pairs = zip(self.seconds.get(ours, []), self.seconds.get(peer, []), strict=False)
        return [theirs / ours for ours, theirs in pairs]

    def as_json(self) -> dict[str, Any]:
        return {
            "program": self.program,
            "target": self.target,
            "instructions": self.instructions,
            "seconds": self.seconds,
            "mips": {name: spread(self.mips(name)) for name in self.seconds},
            "ratio": {name: spread(self.ratios(name)) for name in self.seconds if name not in OURS},
            "cold_ratio": {
                name: spread(self.ratios(name, COLD)) for name in self.seconds if name not in OURS
            },
            "error": self.error,
        }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """The smallest, median and largest value."""
    if not values:
        return None
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def geometric_mean(values: Sequence[float]) -> float | None:
    """The geometric mean; None of nothing."""
    return statistics.geometric_mean(values) if values else None


def contenders(wanted: Sequence[str]) -> list[str]:
    """Those of `wanted` that can run here, in their order: Unicorn may be absent."""
    return [name for name in wanted if name != "unicorn" or importlib.util.find_spec("unicorn") is not None]


def command(contender: str, program: Path, target: str, platform: Platform) -> list[str]:
    """The command line that runs `program`."""
    if contender == "qemu":
        return [*platform.qemu, str(program)]
    if contender == "unicorn":
        return [sys.executable, "-m", "conformance.bench.under_unicorn", str(program)]
    ours = [sys.executable, "-m", "isagen"]
    if platform.board:
        return [*ours, "boot", platform.board, "--bios", "none", "--count", "--kernel", str(program)]
    return [*ours, "run", "--target", target, "--count", str(program)]


def run_once(words: Sequence[str], **variables: str) -> Run:
    """Run a command and measure its processor time; `variables` of its environment."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "PYTHONPATH": path, **variables},
        )
    except subprocess.TimeoutExpired:
        return Run(float(TIMEOUT), b"", -1, f"not done after {TIMEOUT} s")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    errors = done.stderr.decode(errors="replace")
    count = _COUNT.search(errors)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, done.stdout, done.returncode, errors, int(count[1]) if count else None)


def measure(
    programs: Sequence[tuple[str, Path]],
    target: str,
    platform: Platform,
    names: Sequence[str],
    rounds: int,
    report: Callable[[str], None],
) -> list[Result]:
    """Run each program `rounds` times under each contender in turns, with a code cache of each round's own. A
    program that differs from qemu's run has an error.
    """
    results = [Result(name, target) for name, _ in programs]
    for number in range(rounds):
        for result, (name, path) in zip(results, programs, strict=True):
            if result.error:
                continue
            outcomes: dict[str, Run] = {}
            with tempfile.TemporaryDirectory(prefix="isagen-bench-") as kept:
                for contender in names:
                    report(f"round {number + 1} of {rounds}: {name} under {contender}")
                    words = command(contender, path, target, platform)
                    outcomes[contender] = run_once(words, ISAGEN_CODE_CACHE=kept)
            record(result, outcomes)
    return results


def record(result: Result, outcomes: dict[str, Run]) -> None:
    """Add a round's runs to a result, if all did the same."""
    expected = outcomes.get("qemu") or next(iter(outcomes.values()))
    for contender, run in outcomes.items():
        if (run.output, run.status) != (expected.output, expected.status) or run.status != 0:
            lines = [line for line in run.errors.strip().splitlines() if "instructions" not in line]
            result.error = (
                f"under {contender}: status {run.status}, {lines[-1] if lines else 'another output'}"
            )
            return
    for contender, run in outcomes.items():
        result.seconds.setdefault(contender, []).append(run.seconds)
        if run.instructions is not None:
            result.instructions = run.instructions
