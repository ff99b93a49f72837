"""Print a file inside an image, or copy it out with --output."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.image import inside, options

if TYPE_CHECKING:
    from runtime.block.node import Node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inside.add_arguments(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default: standard output)")
    parser.add_argument("file")
    parser.add_argument("path", help="such as /etc/hostname")


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.inside.isolation import isolated

    with options.open_image(arguments, arguments.file, arguments.format) as image:
        volume = inside.choose_volume(image.node, arguments.partition)
        return isolated(lambda: _copy_out(volume, arguments.path, arguments.output))


def _copy_out(volume: Node, path: str, output: str | None) -> int:
    from runtime.block.inside.files import FileSystem

    pieces = FileSystem(volume).read(path)
    first = next(pieces, b"")
    if output is None:
        sys.stdout.buffer.write(first)
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
        return 0
    with Path(output).open("wb") as file:
        file.write(first)
        file.writelines(pieces)
    return 0
