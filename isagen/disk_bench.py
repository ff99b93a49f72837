"""``isagen bench disks``: measures, and prints the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.bench.disks import Result


def run(arguments: argparse.Namespace) -> int:
    """The status is 1 if a job failed; a bar that is missed isn't a failure."""
    from rich.console import Console

    from conformance.bench.disks import jobs, measure, pairs

    chosen = pairs() if arguments.pairs else jobs()
    if arguments.jobs:
        chosen = [job for job in chosen if any(text in job.name for text in arguments.jobs)]
    console = Console(stderr=True)
    quiet = arguments.json or not console.is_terminal
    with (
        tempfile.TemporaryDirectory(prefix="isagen-bench-", dir=arguments.folder) as folder,
        console.status("disks") as status,
    ):
        report = (lambda text: None) if quiet else status.update
        results = list(measure(chosen, Path(folder), arguments.size << 20, arguments.rounds, report))
    if arguments.json:
        json.dump([result.as_json() for result in results], sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        show(results)
    return 1 if any(result.error for result in results) else 0


def show(results: list[Result]) -> None:
    """A table: what each job took, and the ratio beside its bar."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="isagen image and qemu-img: medians")
    table.add_column("job")  # wraps where the terminal is narrow; numbers never do
    for heading in ("seconds", "qemu-img", "ratio", "bar", "processor", "its", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for result in results:
        if result.error:
            table.add_row(result.job.name, f"[red]{result.error}[/]")
            continue
        values = result.as_json()
        color = "green" if values["ratio"] >= values["bar"] else "red"
        table.add_row(
            result.job.name,
            f"{values['seconds']:.2f}",
            f"{values['peer_seconds']:.2f}",
            f"[{color}]{values['ratio']:.2f}[/]",
            f"{values['bar']:.1f}",
            f"{values['processor_seconds']:.2f}",
            f"{values['peer_processor_seconds']:.2f}",
            f"{values['memory'] >> 20}",
        )
    Console(highlight=False).print(table)
