"""Measure how fast an image answers requests: each --step bytes further, wrapping at the end.

Writing (-w) overwrites what the image holds.
"""

from __future__ import annotations

import argparse

from isagen.image import options, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    parser.add_argument("-c", "--count", type=int, default=75_000, help="requests (default: 75000)")
    parser.add_argument("-d", "--depth", type=int, default=64, help="requests in a batch (default: 64)")
    parser.add_argument(
        "-s", "--buffer-size", type=options.size, default=4096, metavar="SIZE", help="default: 4k"
    )
    parser.add_argument(
        "-S", "--step-size", type=options.size, default=0, metavar="SIZE", help="default: the size"
    )
    parser.add_argument("-O", "--offset", type=options.size, default=0, help="of the first request")
    parser.add_argument("-w", "--write", action="store_true", help="write instead of reading")
    parser.add_argument("--pattern", type=int, default=0, help="the byte to write")
    parser.add_argument("--flush-interval", type=int, default=0, metavar="N", help="flush every N writes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("-t", "--cache", metavar="MODE", help=argparse.SUPPRESS)
    options.add_quiet(parser)
    parser.add_argument("file")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.jobs.bench import Workload, bench

    load = Workload(
        arguments.count,
        arguments.depth,
        arguments.buffer_size,
        arguments.step_size,
        arguments.offset,
        arguments.write,
        arguments.pattern & 0xFF,
        arguments.flush_interval,
    )
    with options.open_image(arguments, arguments.file, arguments.format, writable=arguments.write) as image:
        seconds = bench(image.node, load)
    rate = load.count / seconds if seconds else 0.0
    if arguments.json:
        show.print_json(
            {
                "seconds": seconds,
                "requests": load.count,
                "requests-per-second": rate,
                "bytes": load.count * load.size,
            }
        )
    elif not arguments.quiet:
        shown = show.human_size(int(rate * load.size))
        print(f"Run completed in {seconds:.3f} seconds: {rate:,.0f} requests/s, {shown}/s.")
    return 0
