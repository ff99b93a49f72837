"""Compare what two images hold.

The status is 0 if they read alike, 1 if not, 2 if one can't be opened, 3 if a map can't be read, 4 if
data can't be read. Where one disk is longer, the other is taken to go on with zeroes, unless --strict.
"""

from __future__ import annotations

import argparse
import sys

from isagen.image import options, show

_DIFFERENT, _READ_FAILED = 1, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--format", metavar="FORMAT", help="the first image's format (default: probed)")
    parser.add_argument("-F", "--second-format", metavar="FORMAT", help="the second image's")
    parser.add_argument(
        "-s", "--strict", action="store_true", help="sizes and allocation must be the same too"
    )
    parser.add_argument("-T", "--source-cache", metavar="MODE", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options.add_progress(parser)
    options.add_quiet(parser)
    parser.add_argument("first")
    parser.add_argument("second")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.errors import ImageError
    from runtime.block.jobs.compare import compare

    with (
        options.open_image(arguments, arguments.first, arguments.format) as first,
        options.open_image(arguments, arguments.second, arguments.second_format) as second,
        show.progress(arguments, "comparing") as progress,
    ):
        sizes = first.size, second.size
        try:
            difference = compare(first.node, second.node, strict=arguments.strict, progress=progress)
        except ImageError as error:
            sys.stderr.write(f"isagen image compare: {error}\n")
            return _READ_FAILED
    if arguments.json:
        show.print_json(
            {
                "identical": difference is None,
                "offset": None if difference is None else difference.offset,
                "what": None if difference is None else difference.what,
                "sizes": list(sizes),
            }
        )
    elif difference is not None:
        if not arguments.quiet:
            print(f"Images differ at offset {difference.offset}: {difference.what}.")
    elif not arguments.quiet:
        if sizes[0] != sizes[1]:
            print("Warning: Image size mismatch!")
        print("Images are identical.")
    return 0 if difference is None else _DIFFERENT
