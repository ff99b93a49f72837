"""Build targets from their specs: decoder, interpreter, assembler, disassembler and register description of
each.

A family's name stands for all its targets (arm, ppc and sparc are families and targets: --target names one
target alone). What hasn't changed since it was built is left alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isagen import build, paths
from isagen.options import positive
from isagen.targets import select

PACKAGES = ("isagen", "machines", "runtime")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="FAMILY|TARGET|all", help="what to build")
    parser.add_argument(
        "--target",
        action="append",
        metavar="T",
        help="of these, only this target (may be repeated)",
    )
    parser.add_argument(
        "--with",
        dest="extra",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="add a spec file; the result is a target of its own, named TARGET_FILE (may be repeated)",
    )
    parser.add_argument("--check", action="store_true", help="only check the specs")
    parser.add_argument("--force", action="store_true", help="build even what hasn't changed")
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output")
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes to use (default: one a core)")


def run(arguments: argparse.Namespace) -> int:
    targets = select(arguments.names, arguments.extra, arguments.target)
    results = []
    with progress(arguments.json) as report:
        for result in build.build(
            targets,
            check_only=arguments.check,
            force=arguments.force,
            jobs=arguments.jobs,
            report=report,
        ):
            results.append(result)
            report.finished(result)
    if any(result.status == "built" for result in results):
        keep_bytecode()
    if arguments.json:
        import json

        print(json.dumps({"targets": [result.as_json() for result in results]}, indent=1))
    return 0


def keep_bytecode() -> None:
    """Have Python's bytecode of all that runs targets beside it, as an installed package has.

    A checkout, or a Python that was told to write none (PYTHONDONTWRITEBYTECODE), would compile it at each
    start, which takes longer than all else then. Where it can't be written it isn't.
    """
    import compileall

    for package in PACKAGES:
        compileall.compile_dir(paths.ROOT / package, quiet=2)


def describe(result: build.Result) -> str:
    """One line about a target."""
    numbers = f"{result.forms} forms, {result.executors} executors"
    if result.status == "unchanged":
        return f"{result.target}: unchanged ({numbers})"
    return f"{result.target}: {result.status} in {result.seconds:.1f} s ({numbers})"


class progress:
    """Shows what is going on: a bar on a terminal, lines elsewhere, nothing but notes with JSON. Call it as
    a `Report`.

    The bar's library is imported when there is something to show.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.task: Any = None
        self.target = ""
        self.update: Callable[[str, str, int, int], None] = (
            self._on_terminal if sys.stderr.isatty() and not quiet else lambda *_: None
        )

    def __enter__(self) -> progress:
        return self

    def __call__(self, target: str, what: str, done: int, total: int) -> None:
        self.update(target, what, done, total)

    def _on_terminal(self, target: str, what: str, done: int, total: int) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self.bar = Progress(
                TextColumn("{task.fields[target]:<10}"),
                BarColumn(bar_width=30),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self.bar.start()
        if self.task is None or target != self.target:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(what, total=None, target=target)
            self.target = target
        self.bar.update(self.task, description=what, completed=done, total=total or None)

    def finished(self, result: build.Result) -> None:
        if self.bar is not None and self.task is not None and result.target == self.target:
            self.bar.remove_task(self.task)
            self.task = None
        if result.status == "checked":
            for note in result.notes:
                self._print(note)
        if not self.quiet:
            self._print(describe(result))

    def _print(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(line + "\n")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
