"""Test built targets against the evaluator, independent tools and recorded results.

Suites: states (every instruction form on random and corner operands: evaluator = engine = Unicorn), encodings
(assembler and disassembler against LLVM's), vectors (--vectors: a folder of recorded results), elf
(--elf-dir: a folder of self-checking and signature programs). Without --suite: states and encodings, and
those whose folder is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from isagen import paths
from isagen.generated import folder_of, is_built
from isagen.options import positive
from isagen.targets import select
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from conformance.results import Row
    from conformance.tasks import Options, Task

SUITES = ("states", "encodings", "vectors", "elf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("families", nargs="+", metavar="FAMILY", help="a family or target, or all")
    parser.add_argument(
        "--target",
        action="append",
        metavar="T",
        help="only this target (may be repeated; default: those built)",
    )
    parser.add_argument(
        "--with",
        dest="extra",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="the targets that were built with this spec file added (may be repeated)",
    )
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite (may be repeated)")
    parser.add_argument("--jobs", type=positive, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.json and report.html there")
    parser.add_argument(
        "--forms", default="*", metavar="PATTERN", help="only items whose names fit, such as 'f*.d'"
    )
    parser.add_argument(
        "--cases", type=positive, default=2000, metavar="N", help="state cases a form (default: 2000)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="what random cases are drawn from (default: 1)"
    )
    parser.add_argument(
        "--case", type=int, metavar="N", help="only this case of each item, to repeat a failure"
    )
    parser.add_argument("--no-peers", action="store_true", help="don't compare with Unicorn")
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="the folder of recorded results")
    parser.add_argument("--elf-dir", type=Path, metavar="DIR", help="the folder of test programs")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on the Dask cluster there, such as tcp://host:8786"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    from conformance.campaign import plan, run_local, run_on_cluster
    from conformance.report import as_json, write
    from conformance.setup import Setup

    sources = select(arguments.families, arguments.extra, arguments.target)
    if arguments.target is None:
        sources = [source for source in sources if is_built(source.name)] or sources
    setups = [
        Setup(
            source.family,
            source.base,
            str(paths.spec_root()),
            str(folder_of(source.name)),
            tuple(str(file.resolve()) for file in source.extra),
        )
        for source in sources
    ]
    options = options_of(arguments)
    tasks = plan(setups, suites_of(arguments), options)
    start = time.perf_counter()
    if arguments.scheduler:
        results = run_on_cluster(tasks, arguments.scheduler)
    else:
        jobs = arguments.jobs or len(os.sched_getaffinity(0))
        results = run_local(tasks, jobs)
    rows: list[Row] = []
    with Progress(tasks, quiet=arguments.json) as progress:
        for part in results:
            rows += part
            progress.advance(part)
    rows.sort(key=lambda row: (row.target, SUITES.index(row.suite)))
    seconds = time.perf_counter() - start
    command = shlex.join(["isagen", *sys.argv[1:]])
    if arguments.report:
        write(arguments.report, rows, seconds, command)
    if arguments.json:
        json.dump(as_json(rows, seconds, command), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        show(rows, seconds)
    return 1 if any(row.failed for row in rows) else 0


def options_of(arguments: argparse.Namespace) -> Options:
    """The campaign's options. Raises `IsagenError` for folders that don't exist."""
    from conformance.tasks import Options

    for option, folder in (("--vectors", arguments.vectors), ("--elf-dir", arguments.elf_dir)):
        if folder is not None and not folder.is_dir():
            raise IsagenError(f"{option}: there is no such folder", where=str(folder))
    return Options(
        cases=arguments.cases,
        seed=arguments.seed,
        forms=arguments.forms,
        case=arguments.case,
        peers=not arguments.no_peers,
        vectors=str(arguments.vectors.resolve()) if arguments.vectors else "",
        elf=str(arguments.elf_dir.resolve()) if arguments.elf_dir else "",
    )


def suites_of(arguments: argparse.Namespace) -> list[str]:
    """The suites to run. Raises `IsagenError` where one lacks its folder."""
    folders = {"vectors": ("--vectors", arguments.vectors), "elf": ("--elf-dir", arguments.elf_dir)}
    if not arguments.suite:
        return ["states", "encodings", *(name for name, (_, folder) in folders.items() if folder)]
    for name in arguments.suite:
        if name in folders and folders[name][1] is None:
            raise IsagenError(f"suite {name} needs a folder", remedy=f"add {folders[name][0]} DIR")
    return list(dict.fromkeys(arguments.suite))


LINE_SECONDS = 10
"""Where standard error is no terminal, a line tells every so often how far it is."""


class Progress:
    """How far it is, on standard error: a bar where that is a terminal, else a line now and then."""

    def __init__(self, tasks: list[Task], quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._lines = not quiet and not console.is_terminal
        self._total = sum(len(task.items) for task in tasks)
        self._done = self._cases = self._failed = 0
        self._told = time.monotonic()
        self._task = self._bar.add_task("conformance", total=self._total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, rows: list[Row]) -> None:
        self._failed += sum(row.failed for row in rows)
        self._cases += sum(row.cases for row in rows)
        self._done += len(rows)
        text = f"{self._cases:,} cases, {self._failed:,} failures"
        self._bar.update(self._task, advance=len(rows), description=text)
        if self._lines and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            print(f"{self._done:,} of {self._total:,} items, {text}", file=sys.stderr, flush=True)


SHOWN_FAILURES = 20


def show(rows: list[Row], seconds: float) -> None:
    """The table, and the first failures with their commands."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from conformance.report import counts_text
    from conformance.results import summarise

    console = Console(highlight=False)
    table = Table(title=f"Conformance, {seconds:.0f} s")
    for heading, justify in (("target", "left"), ("suite", "left"), ("items", "right"), ("cases", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("counted besides")
    for summary in summarise(rows):
        colour = "red" if summary.failed else "green"
        table.add_row(
            summary.target,
            summary.suite,
            f"{summary.items:,}",
            f"{summary.cases:,}",
            f"[{colour}]{summary.failed:,}[/]" + (f" in {summary.failed_items}" if summary.failed else ""),
            counts_text(summary),
        )
    console.print(table)
    failures = [(row, failure) for row in rows for failure in row.failures[:1]]
    for row, failure in failures[:SHOWN_FAILURES]:
        console.print(
            f"[red]{escape(row.name)}[/] ({row.failed}): {escape(failure.between)}: {escape(failure.text)}"
        )
        for line in failure.details:
            console.print(f"    {escape(line)}", soft_wrap=True)
        if failure.command:
            console.print(f"    {escape(failure.command)}", soft_wrap=True)
    if len(failures) > SHOWN_FAILURES:
        console.print(f"... and failures in {len(failures) - SHOWN_FAILURES} more items: see --report")
