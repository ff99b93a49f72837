"""``isagen explain``: run a program, then show what its hot code was translated to."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.commands import run as run_command

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page instead of text")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the text there (default: stderr)")
    run_command.add_arguments(parser)
    parser.usage = "isagen explain [--html FILE] [options of isagen run] PROGRAM [ARGUMENT ...]"


def run(arguments: argparse.Namespace) -> int:
    """Run the program as `isagen run` does. Returns its status."""
    arguments.tier = "translator"
    arguments.at_end = lambda cpu: show(arguments, cpu)
    return run_command.run(arguments)


def show(arguments: argparse.Namespace, cpu: Cpu) -> None:
    from isagen.explain import as_html, as_text, explained

    if arguments.html is not None:
        page = as_html(explained(cpu), f"Regions of {Path(arguments.program).name}")
        arguments.html.write_text(page, encoding="utf-8")
        return
    text = "".join(f"{line}\n" for line in as_text(explained(cpu)))
    if not text:
        text = "isagen: nothing was hot enough to be translated\n"
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.flush()
        sys.stderr.write(text)
