"""Write a family's manual, from its spec, as one HTML page with a search box.

Encodings, syntax, operation and effects of every instruction: what the page says is what runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from isagen import paths
from runtime.errors import IsagenError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", help=f"one of {', '.join(paths.families())}")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: FAMILY.html; - for standard output"
    )
    parser.add_argument(
        "--with",
        dest="extra",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a spec of your own",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.family not in paths.families():
        raise IsagenError(
            f"there is no family {arguments.family!r}", remedy=f"name one of {', '.join(paths.families())}"
        )
    from generator.emit.manual import manual
    from generator.emit.render import render
    from generator.load import family_targets, load_target

    root = paths.spec_root()
    names = family_targets(root, arguments.family)
    targets = [load_target(root, arguments.family, name, arguments.extra) for name in names]
    page = manual(targets, root)
    count = sum(len(chapter.entries) for chapter in page.chapters)
    text = render("manual.html.j2", manual=page, count=count)
    if str(arguments.output) == "-":
        sys.stdout.write(text)
        return 0
    output = arguments.output or Path(f"{arguments.family}.html")
    output.write_text(text, encoding="utf-8")
    print(f"{output}: {count} instructions of {', '.join(names)}")
    return 0
