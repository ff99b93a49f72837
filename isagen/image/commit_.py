"""Write what an overlay holds into the image below it, and empty the overlay.

With -b everything down to that image is written into it; the images between then no longer make sense on
their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.image import options, show
from runtime.block.errors import ImageError, ImageNotFound

if TYPE_CHECKING:
    from runtime.block.jobs.chains import Layer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    parser.add_argument(
        "-b", "--base", metavar="FILE", help="the image of the chain to write into (default: the next)"
    )
    parser.add_argument("-d", "--keep", action="store_true", help="leave the overlay as it is")
    parser.add_argument("-r", "--rate-limit", metavar="RATE", help=argparse.SUPPRESS)
    options.add_cache(parser)
    options.add_progress(parser)
    options.add_quiet(parser)
    parser.add_argument("file")
    options.add_access(parser, share=False)


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.image import Image
    from runtime.block.jobs.chains import layers
    from runtime.block.jobs.commit import commit

    with options.open_image(arguments, arguments.file, arguments.format) as image:
        chain = layers(image.node)
    if len(chain) < 2:
        raise ImageError("the image has no backing file", where=arguments.file)
    depth = 1 if arguments.base is None else depth_of(chain, arguments.base, arguments.file)
    copied = 0
    base = chain[depth]
    # With what is below it: clusters that the overlay holds in part only are filled from there.
    with Image.open(base.path, base.format, writable=True, allow=arguments.allow or None) as below:
        # From the lowest to the highest, so that the latest content stays.
        for number in range(depth - 1, -1, -1):
            layer = chain[number]
            with (
                options.open_image(
                    arguments,
                    str(layer.path),
                    layer.format,
                    backing=False,
                    writable=_empties(arguments, number, depth),
                ) as above,
                show.progress(arguments, "committing") as progress,
            ):
                copied += commit(above.node, below.node, progress=progress).copied
                if _empties(arguments, number, depth):
                    above.node.make_empty()
    _link_again(arguments, chain[depth - 1])
    if not arguments.quiet:
        print(f"Image committed: {show.human_size(copied)} written into {base.path}.")
    return 0


def _link_again(arguments: argparse.Namespace, layer: Layer) -> None:
    """Some formats note which content of the image below they were made for. It has another one now."""
    with options.open_image(arguments, str(layer.path), layer.format, backing=False, writable=True) as image:
        if image.node.notes_content_below:
            image.node.set_backing(image.info().backing_filename, layer.format)


def _empties(arguments: argparse.Namespace, number: int, depth: int) -> bool:
    """Whether this layer is emptied: only the one that lies right on what it was written into."""
    return number == 0 and depth == 1 and not arguments.keep


def depth_of(chain: list[Layer], name: str, overlay: str) -> int:
    """Where in the chain the image `name` is (as named, or relative to the overlay)."""
    wanted = {Path(name).resolve(), (Path(overlay).parent / name).resolve()}
    for depth, layer in enumerate(chain):
        if depth and layer.path.resolve() in wanted:
            return depth
    raise ImageNotFound("this image isn't in the backing chain", where=name)
