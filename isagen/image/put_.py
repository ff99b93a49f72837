"""Write a file of this machine into an image: ext2/3/4 through debugfs, FAT through mtools.

The tools change a copy of the volume; the image gets what changed when the result has been checked. A running
machine must be stopped first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from isagen.image import inside, options, show
from runtime.block.errors import ImageNotFound, ImageOption


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inside.add_arguments(parser)
    parser.add_argument("--mode", metavar="OCTAL", help="the file's mode (default: the source's)")
    options.add_progress(parser, "--progress")
    options.add_quiet(parser)
    parser.add_argument("file", help="the image")
    parser.add_argument("source", help="the file of this machine")
    parser.add_argument("path", help="where to, such as /etc/hostname")


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.inside.writing import put

    source = Path(arguments.source)
    if not source.is_file():
        raise ImageNotFound("there is no such file", where=arguments.source)
    try:
        mode = None if arguments.mode is None else int(arguments.mode, 8)
    except ValueError:
        mode = -1
    if mode is not None and not 0 <= mode <= 0o7777:
        raise ImageOption(f"{arguments.mode!r} is no mode", remedy="such as 644")
    path = arguments.path + (source.name if arguments.path.endswith("/") else "")
    with options.open_image(arguments, arguments.file, arguments.format, writable=True) as image:
        volume = inside.choose_volume(image.node, arguments.partition)
        with show.progress(arguments, "copying the volume") as progress:
            changed = put(volume, source, path, mode=mode, progress=progress)
    if not arguments.quiet:
        print(f"{path}: {show.human_size(changed)} of the volume changed")
    return 0
