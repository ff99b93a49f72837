"""Start-up: a program that prints a line, and a script of short ones, beside qemu-user's and Python's own."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.errors import IsagenError

TIMEOUT: Final = 300
SCRIPT: Final = (
    "for i in 1 2 3 4 5; do echo $i; done | sort -r | head -2; seq 2000 | md5sum;"
    " echo 'a b c' | awk '{ print $2 }'; find . -maxdepth 1 | wc -l > /dev/null; expr 6 '*' 7"
)
"""What busybox's shell runs: its applets are forks of it, under qemu-user as here."""


@dataclass
class Start:
    """A job: command lines by contender, and the wall and processor seconds of each run."""

    name: str
    commands: dict[str, list[str]]
    wall: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Medians."""
        return {
            "name": self.name,
            "error": self.error,
            "seconds": {who: statistics.median(values) for who, values in self.wall.items()},
            "processor": {who: statistics.median(values) for who, values in self.processor.items()},
        }


def jobs(hello: Path, qemu: str, busybox: Path | None) -> list[Start]:
    """Hello, and the script where a static busybox is at hand."""
    emulator = shutil.which(qemu)
    if emulator is None:
        raise IsagenError(f"the program {qemu} is absent", remedy="install qemu-user")
    ours = [sys.executable, "-m", "isagen", "run"]
    found = [
        Start(
            "hello",
            {
                "isagen": [*ours, str(hello)],
                "qemu": [emulator, str(hello)],
                "python": [sys.executable, "-c", "pass"],
            },
        )
    ]
    if busybox is not None:
        words = [str(busybox), "sh", "-c", SCRIPT]
        found.append(Start("busybox", {"isagen": [*ours, *words], "qemu": [emulator, *words]}))
    return found


def measure(chosen: Sequence[Start], rounds: int, report: Callable[[str], None]) -> None:
    """Run each `rounds` times, in turns. A job whose output differs from qemu's has an error."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    for number in range(rounds):
        for job in chosen:
            outputs = {}
            for who, words in job.commands.items():
                report(f"round {number + 1} of {rounds}: {job.name} under {who}")
                before, start = os.times(), time.perf_counter()
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, env=environment
                )
                job.wall.setdefault(who, []).append(time.perf_counter() - start)
                after = os.times()
                spent = after.children_user + after.children_system
                spent -= before.children_user + before.children_system
                job.processor.setdefault(who, []).append(spent)
                if done.returncode:
                    job.error = f"{who} ended with status {done.returncode}"
                if who != "python":
                    outputs[who] = done.stdout
            if len(set(outputs.values())) > 1:
                job.error = "isagen and qemu printed different things"
