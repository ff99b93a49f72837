"""``isagen bench start``: measures, and prints the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path


def run(arguments: argparse.Namespace) -> int:
    """The status is 1 if a job failed."""
    from rich.console import Console
    from rich.table import Table

    from conformance.bench.compile import platform_of
    from conformance.bench.start import jobs, measure
    from isagen import paths
    from isagen.commands.asm import executable
    from isagen.generated import load_syntax
    from runtime.assembly.assembler import Assembler
    from runtime.assembly.program import Program

    target = (arguments.target or ["riscv64"])[0]
    syntax = load_syntax(target)
    source = paths.ROOT / "examples" / "hello.s"
    console = Console(stderr=True)
    quiet = arguments.json or not console.is_terminal
    with tempfile.TemporaryDirectory(prefix="isagen-bench-") as folder, console.status("start") as status:
        hello = Path(folder) / "hello"
        image = Program(Assembler(syntax), base=0x10000).assemble(source.read_text(), str(source))
        hello.write_bytes(executable(image, syntax))
        hello.chmod(0o755)
        busybox = Path(arguments.busybox) if arguments.busybox else None
        chosen = jobs(hello, platform_of(target).qemu[0], busybox)
        measure(chosen, arguments.rounds, (lambda text: None) if quiet else status.update)
    results = [job.as_json() for job in chosen]
    if arguments.json:
        json.dump(results, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        table = Table(title="start-up: median wall (processor) seconds")
        for heading in ("job", "isagen", "qemu", "python -c pass"):
            table.add_column(heading, justify="right", no_wrap=True)
        for result in results:
            cells = [
                f"{result['seconds'][who]:.3f} ({result['processor'][who]:.3f})"
                if who in result["seconds"]
                else ""
                for who in ("isagen", "qemu", "python")
            ]
            table.add_row(result["name"] if not result["error"] else f"{result['error']}", *cells)
        Console(highlight=False).print(table)
    return 1 if any(result["error"] for result in results) else 0
