"""Compare speed in turns with others; a ratio above 1 means that isagen is faster.

programs (the default): C programs under isagen, qemu-user and Unicorn. Needs a cross compiler and qemu-user.
Time is the processor's (user and system), start-up and compilation included. Each round has a code cache of
its own, which is empty in isagen's first run ("cold") and has what that one left in its second ("warm").
With --system each program has a machine of its own with paging on, under isagen and qemu-system.

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
from isagen.generated import folder_of
from isagen.options import positive

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
    parser.add_argument("--system", action="store_true", help="programs: on whole machines, with paging")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="programs: a picture of the table, SVG")
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
    from conformance.bench.measure import OURS, contenders, measure

    console = Console(stderr=True)
    quiet = arguments.json or not console.is_terminal
    results: list[Result] = []
    chosen = sources(arguments.programs)
    peers = ["qemu"] if arguments.system else arguments.peer or PEERS
    names = contenders([*OURS, *dict.fromkeys(peers)])
    for target in dict.fromkeys(arguments.target or ["riscv64"]):
        folder_of(target)
        platform = platform_of(target, system=arguments.system)
        folder = paths.generated_root() / ".bench" / (f"{target}-system" if arguments.system else target)
        programs: list[tuple[str, Path]] = [(s.stem, compile_program(s, platform, folder)) for s in chosen]
        with console.status(f"{target}") as status:
            report = (lambda text: None) if quiet else status.update
            results += measure(programs, target, platform, names, arguments.rounds, report)
    if arguments.json:
        json.dump(as_json(results), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        show(results)
    if arguments.plot is not None:
        arguments.plot.write_text(picture(results, system=arguments.system), encoding="utf-8")
    return 1 if any(result.error for result in results) else 0


def as_json(results: list[Result]) -> dict[str, Any]:
    from conformance.bench.measure import COLD

    return {
        "results": [result.as_json() for result in results],
        "geometric_mean_of_median_ratios": means(results, "isagen"),
        "geometric_mean_of_median_ratios_cold": means(results, COLD),
    }


def means(results: list[Result], ours: str) -> dict[str, dict[str, float | None]]:
    """By target and peer; `ours`: of which of our runs."""
    from conformance.bench.measure import geometric_mean, spread

    found: dict[str, dict[str, float | None]] = {}
    for target in dict.fromkeys(result.target for result in results):
        members = [result for result in results if result.target == target and not result.error]
        found[target] = {
            peer: geometric_mean([s["median"] for r in members if (s := spread(r.ratios(peer, ours)))])
            for peer in PEERS
        }
    return found


def show(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    from conformance.bench.measure import COLD, spread

    console = Console(highlight=False)
    cold, warm = means(results, COLD), means(results, "isagen")
    for target in warm:
        table = Table(title=f"{target}: how many times as fast, median (smallest .. largest)")
        table.add_column("program", no_wrap=True)
        for heading in ("M instr.", "MIPS", "qemu, cold", "qemu, warm", "Unicorn, warm"):
            table.add_column(heading, justify="right")
        for result in results:
            if result.target != target:
                continue
            if result.error:
                table.add_row(result.program, f"[red]{result.error}[/]")
                continue
            mips = spread(result.mips("isagen"))
            table.add_row(
                result.program,
                f"{result.instructions / 1e6:,.0f}",
                f"{mips['median']:,.0f}" if mips else "",
                cell(spread(result.ratios("qemu", COLD))),
                *(cell(spread(result.ratios(peer))) for peer in PEERS),
            )
        table.add_section()
        figures = [cold[target]["qemu"], *(warm[target][peer] for peer in PEERS)]
        table.add_row("geometric mean", "", "", *("" if f is None else f"{f:.2f}" for f in figures))
        console.print(table)


def cell(values: dict[str, float] | None) -> str:
    """A spread as text."""
    if values is None:
        return ""
    if values["min"] == values["max"]:
        return f"{values['median']:,.2f}"
    return f"{values['median']:,.2f} ({values['min']:,.2f} .. {values['max']:,.2f})"


def picture(results: list[Result], *, system: bool) -> str:
    """The ratios to QEMU as SVG."""
    from conformance.bench.measure import COLD, spread
    from conformance.bench.plot import Bars, as_svg

    series = {"cold": COLD, "warm": "isagen"}
    targets = list(dict.fromkeys(result.target for result in results))
    rows: list[Bars] = []
    for target in targets:
        label = f" ({target})" if len(targets) > 1 else ""
        for result in results:
            found = {name: spread(result.ratios("qemu", ours)) for name, ours in series.items()}
            ratios = {name: values["median"] for name, values in found.items() if values}
            if result.target == target and not result.error:
                rows.append(Bars(result.program + label, ratios))
        both = {name: means(results, ours)[target]["qemu"] for name, ours in series.items()}
        rows.append(Bars(f"mean{label}", {name: mean for name, mean in both.items() if mean is not None}))
    peer = "qemu-system" if system else "qemu-user"
    return as_svg(f"isagen's speed over {peer}'s: {', '.join(targets)}", rows)
