"""Compare speed in turns with others; a ratio above 1 means that isagen is faster.

programs (the default): C programs under isagen, qemu-user and Unicorn. Needs a cross compiler and qemu-user.
Time is the processor's (user and system), start-up included.

start: how long a program that prints a line takes, and with --busybox FILE (a static busybox) a script.

disks: jobs of `isagen image` and qemu-img on the same data. Time is the wall clock's, start-up included.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isagen import paths
from isagen.commands.conformance import positive
from isagen.generated import folder_of

if TYPE_CHECKING:
    from conformance.bench.measure import Result

PEERS = ("qemu", "unicorn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="?", choices=("programs", "start", "disks"), default="programs")
    parser.add_argument("--target", action="append", metavar="T", help="a built target (default: riscv64)")
    parser.add_argument("--programs", nargs="+", default=[], metavar="NAME", help="only these (patterns)")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument(
        "--peer", action="append", choices=PEERS, help="compare with this only (default: both)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--busybox", metavar="FILE", help="start: a static busybox of the target")
    disks = parser.add_argument_group("disks")
    disks.add_argument(
        "--jobs", nargs="+", default=[], metavar="TEXT", help="only jobs with this in their names"
    )
    disks.add_argument("--pairs", action="store_true", help="every pair of formats, uncompressed")
    disks.add_argument(
        "--size", type=positive, default=1024, metavar="MIB", help="of the disk (default: 1024)"
    )
    disks.add_argument(
        "--folder",
        metavar="FOLDER",
        help="where the disks lie (default: the system's folder for temporary files)",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.subject == "disks":
        from isagen.disk_bench import run as run_disks

        return run_disks(arguments)
    if arguments.subject == "start":
        from isagen.start_bench import run as run_start

        return run_start(arguments)
    from rich.console import Console

    from conformance.bench.compile import compile_program, platform_of, sources
    from conformance.bench.measure import contenders, measure

    console = Console(stderr=True)
    quiet = arguments.json or not console.is_terminal
    results: list[Result] = []
    chosen = sources(arguments.programs)
    names = contenders(["isagen", *dict.fromkeys(arguments.peer or PEERS)])
    for target in dict.fromkeys(arguments.target or ["riscv64"]):
        folder_of(target)
        platform = platform_of(target)
        folder = paths.generated_root() / ".bench" / target
        programs: list[tuple[str, Path]] = [(s.stem, compile_program(s, platform, folder)) for s in chosen]
        with console.status(f"{target}") as status:
            report = (lambda text: None) if quiet else status.update
            results += measure(programs, target, platform, names, arguments.rounds, report)
    if arguments.json:
        json.dump(as_json(results), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        show(results)
    return 1 if any(result.error for result in results) else 0


def as_json(results: list[Result]) -> dict[str, Any]:
    from conformance.bench.measure import geometric_mean, spread

    targets = list(dict.fromkeys(result.target for result in results))
    means = {}
    for target in targets:
        members = [result for result in results if result.target == target and not result.error]
        means[target] = {
            peer: geometric_mean([s["median"] for r in members if (s := spread(r.ratios(peer)))])
            for peer in PEERS
        }
    return {"results": [result.as_json() for result in results], "geometric_mean_of_median_ratios": means}


def show(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    from conformance.bench.measure import spread

    console = Console(highlight=False)
    data = as_json(results)
    for target, means in data["geometric_mean_of_median_ratios"].items():
        table = Table(title=f"{target}: median (smallest .. largest)")
        table.add_column("program", no_wrap=True)
        for heading in ("M instructions", "MIPS", "of qemu", "of Unicorn"):
            table.add_column(heading, justify="right")
        for result in results:
            if result.target != target:
                continue
            if result.error:
                table.add_row(result.program, f"[red]{result.error}[/]")
                continue
            table.add_row(
                result.program,
                f"{result.instructions / 1e6:,.0f}",
                cell(spread(result.mips("isagen")), 0),
                *(cell(spread(result.ratios(peer)), 2) for peer in PEERS),
            )
        table.add_section()
        table.add_row(
            "geometric mean", "", "", *("" if means[p] is None else f"{means[p]:.2f}" for p in PEERS)
        )
        console.print(table)


def cell(values: dict[str, float] | None, digits: int) -> str:
    """A spread as text."""
    if values is None:
        return ""
    return f"{values['median']:,.{digits}f} ({values['min']:,.{digits}f} .. {values['max']:,.{digits}f})"
