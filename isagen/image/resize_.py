"""Change a disk's size: to SIZE, by +SIZE or by -SIZE.

A smaller size cuts off data, so it must be meant: --shrink.
"""

from __future__ import annotations

import argparse
import re

from isagen.image import options, show
from runtime.block.errors import ImageOption

_LESS = re.compile(r"-[0-9][0-9.]*[kmgtpe]?(i?b)?$", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    options.add_quiet(parser)
    parser.add_argument("--shrink", action="store_true", help="allow cutting off data")
    parser.add_argument("--preallocation", choices=("off", "metadata", "falloc", "full"), default="off")
    parser.add_argument("--by", metavar="-SIZE", help=argparse.SUPPRESS)
    parser.add_argument("file")
    parser.add_argument("size", nargs="?", help="such as 10G, +512M or -1G")
    options.add_access(parser, share=False)


def prepare(words: list[str]) -> list[str]:
    """``-1G`` would be taken for an option."""
    return [f"--by={word}" if _LESS.match(word) else word for word in words if word != "--"]


def run(arguments: argparse.Namespace) -> int:
    text = arguments.by or arguments.size
    if text is None:
        raise ImageOption("the new size is missing", remedy="name it behind the file: 10G, +512M or -1G")
    with options.open_image(arguments, arguments.file, arguments.format, writable=True) as image:
        old = image.size
        try:
            amount = options.size(text.lstrip("+-"))
        except argparse.ArgumentTypeError as error:
            raise ImageOption(str(error)) from None
        new = {"+": old + amount, "-": old - amount}.get(text[0], amount)
        if new <= 0 and text[0] == "-":
            raise ImageOption(f"the disk has only {old} bytes", where=arguments.file)
        if new < old and not arguments.shrink:
            raise ImageOption(
                f"this would cut off {old - new} of the disk's {old} bytes",
                where=arguments.file,
                remedy="shrink the guest's file systems first, then say --shrink",
            )
        image.resize(new, shrink=arguments.shrink, preallocation=arguments.preallocation)
        if not arguments.quiet:
            print(f"{arguments.file}: {show.human_size(old)} -> {show.human_size(image.size)}")
    return 0
