"""Look for inconsistencies in an image, and mend them with --repair.

The status is 0 if the image is clean, 1 if the check couldn't be completed, 2 if the image is damaged, 3
if it only has lost storage (leaks), 63 if its format can't be checked.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from isagen.image import options, show

if TYPE_CHECKING:
    from runtime.block.report import CheckReport


_UNSUPPORTED = 63


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    options.add_json(parser)
    options.add_quiet(parser)
    parser.add_argument(
        "-r",
        "--repair",
        choices=("leaks", "all"),
        help="leaks: free lost storage; all (if nothing is said): mend whatever can be",
        metavar="leaks|all",
    )
    parser.add_argument("-T", "--source-cache", metavar="MODE", help=argparse.SUPPRESS)
    parser.add_argument("file")
    options.add_access(parser)


def prepare(words: list[str]) -> list[str]:
    """--repair alone means all."""
    return [
        "--repair=all"
        if word in ("-r", "--repair") and words[index + 1 : index + 2] not in (["leaks"], ["all"])
        else word
        for index, word in enumerate(words)
    ]


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.errors import ImageUnsupported

    writable = arguments.repair is not None
    with options.open_image(
        arguments, arguments.file, arguments.format, writable=writable, check=True, backing=False
    ) as image:
        try:
            report = image.check(arguments.repair)
        except ImageUnsupported as error:
            sys.stderr.write(f"isagen image check: {error}\n")
            return _UNSUPPORTED
    if options.wants_json(arguments):
        show.print_json(report.as_json())
    elif not arguments.quiet:
        print("\n".join(lines(report)))
    return report.exit_code


def lines(report: CheckReport) -> list[str]:
    """The report for people."""
    result = []
    for problem in report.problems:
        place = "" if problem.offset is None else f" at {problem.offset:#x}"
        result.append(f"{'Repaired' if problem.fixed else problem.kind.capitalize()}{place}: {problem.text}")
    fixed = report.leaks_fixed + report.corruptions_fixed
    if fixed:
        result.append("The following inconsistencies were found and repaired:\n")
        result.append(f"    {report.leaks_fixed} leaked clusters")
        result.append(f"    {report.corruptions_fixed} corruptions\n")
    if report.check_errors:
        result.append(f"{report.check_errors} internal errors have occurred during the check.")
    if report.corruptions:
        result.append(
            f"{report.corruptions} errors were found on the image.\n"
            "Data may be corrupted, or further writes to the image may corrupt it."
        )
    if report.leaks:
        result.append(
            f"{report.leaks} leaked clusters were found on the image.\n"
            "This means waste of disk space, but no harm to data."
        )
    if not (report.check_errors or report.corruptions or report.leaks):
        result.append("No errors were found on the image.")
    total = report.total_clusters
    if total:
        allocated = report.allocated_clusters or 0
        line = f"{allocated}/{total} = {100 * allocated / total:.2f}% allocated"
        if report.fragmented_clusters is not None and allocated:
            line += f", {100 * report.fragmented_clusters / allocated:.2f}% fragmented"
        if report.compressed_clusters is not None and allocated:
            line += f", {100 * report.compressed_clusters / allocated:.2f}% compressed clusters"
        result.append(line)
    if report.image_end_offset is not None:
        result.append(f"Image end offset: {report.image_end_offset}")
    return result
