"""Create an empty image.

Without --format the file's extension tells it, and raw is made where it doesn't. An overlay (-b) takes
its size from its backing image unless another is given.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from isagen.image import options, show
from runtime.block.errors import ImageOption


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    parser.add_argument(
        "-b", "--backing", metavar="FILE", help="the image below, named as seen from the new one"
    )
    parser.add_argument(
        "-F", "--backing-format", metavar="FORMAT", help="its format (default: probed, and recorded)"
    )
    parser.add_argument("-u", "--unchecked", action="store_true", help="don't look at the backing image")
    options.add_options(parser)
    options.add_quiet(parser)
    parser.add_argument("file", nargs="?")
    parser.add_argument("size", nargs="?", type=options.size, help="of the disk, such as 10G")
    options.add_access(parser, share=False)


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.image import Image
    from runtime.block.registry import find_format, format_of_name

    named = format_of_name(arguments.file) if arguments.file else None
    format = arguments.format or (named.name if named else "raw")
    driver = find_format(format).driver
    if options.asks_for_help(arguments.options):
        show.print_options(format, driver.options())
        return 0
    if not arguments.file:
        raise ImageOption("the image's name is missing")
    chosen = options.format_options(arguments.options)
    size = arguments.size
    if size is None and "size" in chosen:
        size = options.size(str(chosen.pop("size")))
    if arguments.backing and not arguments.unchecked:
        chosen["backing_file"] = arguments.backing
        chosen["backing_fmt"] = arguments.backing_format or probed_format(arguments, arguments.backing)
    with Image.create(
        arguments.file, format, size, overwrite=True, passphrase=options.passphrase(arguments), **chosen
    ) as image:
        if arguments.backing and arguments.unchecked:
            image.node.set_backing(arguments.backing, arguments.backing_format)
        if not arguments.quiet:
            print(f"{arguments.file}: {image.format}, {show.human_size(image.size)} ({image.size} bytes)")
    return 0


def probed_format(arguments: argparse.Namespace, backing: str) -> str:
    """The format of a backing file that is named as seen from the image above it."""
    from runtime.block.chain import open_format
    from runtime.block.policy import ReferencePolicy
    from runtime.block.protocol.file import FileNode

    path = ReferencePolicy(anything=True).resolve(backing, Path(arguments.file), "backing file")
    with open_format(FileNode(path), backing=False, path=path, policy=ReferencePolicy(anything=True)) as node:
        return node.format
