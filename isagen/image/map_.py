"""Show which parts of a disk are stored, and where."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from isagen.image import options

if TYPE_CHECKING:
    from runtime.block.image import Image
    from runtime.block.node import Extent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    options.add_json(parser)
    parser.add_argument("-s", "--start-offset", type=options.size, default=0, metavar="OFFSET")
    parser.add_argument("-l", "--max-length", type=options.size, metavar="LENGTH")
    parser.add_argument("file")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    with options.open_image(arguments, arguments.file, arguments.format) as image:
        start = min(arguments.start_offset, image.size)
        length = image.size - start
        if arguments.max_length is not None:
            length = min(length, arguments.max_length)
        if options.wants_json(arguments):
            _print_json(image, start, length)
        else:
            _print_table(image, start, length)
    return 0


def _print_json(image: Image, start: int, length: int) -> None:
    """A line an extent, as they come: a disk may have millions."""
    from runtime.block.jobs.mapping import joined

    separator = "["
    for extent in joined(image.node, start, length):
        sys.stdout.write(separator + json.dumps(entry(image, extent)))
        separator = ",\n"
    sys.stdout.write("]\n" if separator != "[" else "[]\n")


def entry(image: Image, extent: Extent) -> dict[str, Any]:
    """An extent with qemu-img's names."""
    from runtime.block.node import ExtentKind

    result: dict[str, Any] = {
        "start": extent.offset,
        "length": extent.length,
        "depth": extent.depth,
        # All of a raw disk lies in its file, holes too.
        "present": extent.kind is not ExtentKind.HOLE or image.format == "raw",
        "zero": extent.reads_zero,
        # Zeroes that take a place in an image count as data, as for qemu-img.
        "data": extent.kind is ExtentKind.DATA or (extent.host_offset is not None and image.format != "raw"),
    }
    if extent.compressed:
        result["compressed"] = True
    if extent.host_offset is not None:
        result["offset"] = extent.host_offset
    elif image.format == "raw":
        result["offset"] = extent.offset
    return result


def _print_table(image: Image, start: int, length: int) -> None:
    from runtime.block.jobs.mapping import joined
    from runtime.block.node import ExtentKind, FormatNode, Node

    files: list[str] = []
    node: Node | None = image.node
    while isinstance(node, FormatNode):
        files.append(node.file.name)
        node = node.backing
    print(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File")
    for extent in joined(image.node, start, length):
        if extent.kind is ExtentKind.DATA:
            place = f"{extent.host_offset:#x}" if extent.host_offset is not None else "-"
            if extent.compressed:
                place = "compressed"
            name = files[extent.depth] if extent.depth < len(files) else ""
            print(f"{extent.offset:<#16x}{extent.length:<#16x}{place:<16}{name}")
