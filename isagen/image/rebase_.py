"""Give an image another backing file.

What the guest reads stays the same: what the old backing file holds and the new one doesn't is copied.
-b "" copies everything and leaves no backing file. -u only changes the name, for a backing file that was
moved.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from isagen.image import options, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    parser.add_argument(
        "-b", "--backing", required=True, metavar="FILE", help="as seen from the image; '' for none"
    )
    parser.add_argument(
        "-F", "--backing-format", metavar="FORMAT", help="its format (default: probed, and recorded)"
    )
    parser.add_argument("-u", "--unsafe", action="store_true", help="only change the name that is recorded")
    options.add_cache(parser)
    options.add_progress(parser)
    options.add_quiet(parser)
    parser.add_argument("file")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    from isagen.image.create_ import probed_format
    from runtime.block.image import Image
    from runtime.block.jobs.chains import depth_of
    from runtime.block.jobs.rebase import absorb

    reference = arguments.backing or None
    format = arguments.backing_format
    if reference is not None and format is None and not arguments.unsafe:
        format = probed_format(arguments, reference)
    written = 0
    with ExitStack() as stack:
        image = stack.enter_context(
            options.open_image(
                arguments, arguments.file, arguments.format, writable=True, backing=not arguments.unsafe
            )
        )
        if not arguments.unsafe:
            new = shared = None
            if reference is not None:
                path = Path(arguments.file).parent / reference
                new = stack.enter_context(
                    Image.open(path, format, allow=[*arguments.allow, path.parent])
                ).node
                shared = depth_of(image.node, new)
            with show.progress(arguments, "rebasing") as progress:
                written = absorb(image.node, new, shared=shared, progress=progress)
        image.node.set_backing(reference, format)
    if not arguments.quiet and not arguments.unsafe:
        print(f"Image rebased: {show.human_size(written)} copied.")
    return 0
