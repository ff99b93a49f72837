"""Units of work: picklable, independent, run anywhere that the project is installed."""

from __future__ import annotations

import importlib
import shlex
from dataclasses import dataclass

from conformance.results import Row
from conformance.setup import Setup

SUITES = {
    "states": "conformance.suites.states",
    "encodings": "conformance.suites.encodings",
    "vectors": "conformance.suites.vectors",
    "elf": "conformance.suites.elf",
}


@dataclass(frozen=True)
class Options:
    """A campaign's options. `forms` is a pattern; `case` runs one case alone; folders are "" if not given."""

    cases: int = 2000
    seed: int = 1
    forms: str = "*"
    case: int | None = None
    peers: bool = True
    vectors: str = ""
    elf: str = ""


@dataclass(frozen=True)
class Task:
    """Items of a suite on a target."""

    suite: str
    setup: Setup
    options: Options
    items: tuple[str, ...]


def run_task(task: Task) -> list[Row]:
    """Run a task in this process: a row for each item."""
    rows: list[Row] = importlib.import_module(SUITES[task.suite]).run(task)
    return rows


def command_for(task: Task, item: str, case: int | None = None, *extra: str) -> str:
    """The command line that repeats one item, or one case of it."""
    setup = task.setup
    words = ["isagen", "conformance", setup.family, "--target", setup.target]
    words += [word for file in setup.extra for word in ("--with", file)]
    words += ["--suite", task.suite]
    words += ["--forms", item, "--seed", str(task.options.seed)]
    if case is not None:
        words += ["--case", str(case)]
    return shlex.join([*words, *extra])
