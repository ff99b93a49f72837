"""Copy a disk into an image of another format.

Holes and zeroes stay holes. The target appears under its name when it is complete; a conversion that was
killed goes on with --resume. --verify reads the result back and compares it with the source. Several
sources become one disk, one behind the other.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.image import options, show
from runtime.block.errors import ImageOption
from runtime.errors import NotYetError
from runtime.records import asdict

if TYPE_CHECKING:
    from runtime.block.jobs.convert import Result
    from runtime.block.jobs.copy import CopyOptions
    from runtime.block.node import Node


_BACKING = ("backing_file", "backing_fmt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--format", metavar="FORMAT", help="the source's format (default: probed)")
    parser.add_argument(
        "-O", "--output-format", metavar="FORMAT", help="the target's (default: by its extension, else raw)"
    )
    options.add_options(parser)
    parser.add_argument(
        "-c", "--compress", action="store_true", help="compress (qcow2, streamOptimized vmdk)"
    )
    parser.add_argument(
        "-B",
        "-b",
        "--backing",
        metavar="FILE",
        help="the target's backing file, as seen from it; only differences are copied",
    )
    parser.add_argument(
        "-F", "--backing-format", metavar="FORMAT", help="its format (default: probed, and recorded)"
    )
    parser.add_argument("-l", "--snapshot", metavar="NAME", help="copy this snapshot of the source")
    parser.add_argument(
        "-S",
        "--sparse-size",
        type=options.size,
        default=4096,
        metavar="SIZE",
        help="the shortest run of zeroes that isn't written (default: 4k); 0 writes everything",
    )
    parser.add_argument("-n", "--no-create", action="store_true", help="write into an image that exists")
    parser.add_argument("--target-is-zero", action="store_true", help="with -n: the target reads as zeroes")
    parser.add_argument("--resume", action="store_true", help="go on where a killed conversion stopped")
    parser.add_argument("--verify", action="store_true", help="compare the result with the source")
    parser.add_argument("--salvage", action="store_true", help="put zeroes where the source can't be read")
    parser.add_argument("--bitmaps", action="store_true", help="take over the dirty bitmaps (qcow2)")
    parser.add_argument(
        "--skip-broken-bitmaps", action="store_true", help="but not those that were left in use"
    )
    parser.add_argument(
        "-m", "--threads", type=int, metavar="N", help="that read and compress (default: processors)"
    )
    parser.add_argument(
        "-r", "--rate-limit", type=options.size, default=0, metavar="RATE", help="bytes per second"
    )
    options.add_cache(parser)
    options.add_progress(parser)
    options.add_quiet(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    # qemu-img's ways of copying: ours is chosen for them.
    parser.add_argument("-W", dest="out_of_order", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-C", dest="copy_offloading", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--target-image-opts", action="store_true", help="with -n: the target is named as by --image-opts"
    )
    parser.add_argument("files", nargs="*", metavar="file", help="the sources and, last, the target")
    options.add_access(parser)
    parser.add_argument(
        "--target-passphrase-file", metavar="FILE", help="of the target (default: the source's)"
    )


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.jobs.convert import Request, convert, identity_of
    from runtime.block.registry import find_format, format_of_name

    if arguments.skip_broken_bitmaps and not arguments.bitmaps:
        raise ImageOption("--skip-broken-bitmaps goes with --bitmaps")
    if options.asks_for_help(arguments.options):
        name = arguments.output_format or "raw"
        show.print_options(name, find_format(name).driver.options())
        return 0
    if len(arguments.files) < 2:
        raise ImageOption("a source and a target are needed")
    *sources, target = arguments.files
    named = format_of_name(target)
    format = find_format(arguments.output_format or (named.name if named else "raw")).name
    chosen = options.format_options(arguments.options)
    _not_itself(sources, target)
    with ExitStack() as stack:
        source, name = _source(stack, arguments, sources)
        copying = _copying(stack, arguments, source, target, chosen)
        request = Request(
            source,
            identity_of(name, source, snapshot=arguments.snapshot or ""),
            target,
            format,
            chosen,
            copying,
            create=not arguments.no_create,
            resume=arguments.resume,
            verify=arguments.verify,
            bitmaps=arguments.bitmaps,
            skip_broken_bitmaps=arguments.skip_broken_bitmaps,
            durable=arguments.cache not in (None, "unsafe"),
            passphrase=options.passphrase(
                arguments,
                arguments.target_passphrase_file,
                secret=getattr(arguments, "target_secret", None),
            ),
        )
        with show.progress(arguments, "converting") as progress:
            result = convert(request, progress=progress)
    if arguments.json:
        show.print_json(
            {
                "size": result.size,
                **asdict(result.copied),
                "resumed-from": result.resumed_from,
                "verified": result.verified,
                "seconds": result.seconds,
            }
        )
    elif not arguments.quiet:
        _tell(arguments, target, result)
    return 0


def _tell(arguments: argparse.Namespace, target: str, result: Result) -> None:
    """What isn't usual."""
    if result.resumed_from:
        print(f"{target}: resumed at {show.human_size(result.resumed_from)}")
    elif arguments.resume:
        print(f"{target}: there was nothing to resume; converted from the start")
    if result.copied.unreadable:
        print(f"{target}: {result.copied.unreadable} bytes of the source couldn't be read and are zeroes")
    if result.verified:
        print(f"{target}: verified")


def _not_itself(sources: list[str], target: str) -> None:
    for source in sources:
        if Path(source).exists() and Path(target).exists() and Path(source).samefile(target):
            raise ImageOption("the target is the source", where=target, remedy="name another file")


def _source(stack: ExitStack, arguments: argparse.Namespace, names: list[str]) -> tuple[Node, str]:
    """The node to copy, and its name."""
    nodes: list[Node] = []
    for name in names:
        image = stack.enter_context(options.open_image(arguments, name, arguments.format))
        nodes.append(image.snapshots.open(_snapshot(arguments)) if arguments.snapshot else image.node)
    if len(nodes) > 1 and arguments.snapshot:
        raise ImageOption("a snapshot can only be copied from one source")
    name = str(Path(names[0]).absolute()) if len(names) == 1 and "://" not in names[0] else "\n".join(names)
    if len(nodes) == 1:
        return nodes[0], name
    from runtime.block.filter.joined import JoinedNode

    return JoinedNode(nodes), name


def _snapshot(arguments: argparse.Namespace) -> str:
    """The snapshot's id or name, which qemu-img also takes as snapshot.id=ID and snapshot.name=NAME."""
    text: str = arguments.snapshot
    if not text.startswith(("snapshot.id=", "snapshot.name=")):
        return text
    values = options.key_values([text])
    if len(values) != 1:
        raise NotYetError("a snapshot's id and name together", remedy="give one of them")
    return next(iter(values.values()))


def _copying(
    stack: ExitStack, arguments: argparse.Namespace, source: Node, target: str, chosen: dict[str, object]
) -> CopyOptions:
    """How to copy; a backing file is opened, and noted in the `chosen` create options."""
    from runtime.block.jobs.copy import CopyOptions

    copying = CopyOptions(
        compressed=arguments.compress,
        sparse=arguments.sparse_size,
        target_is_zero=not arguments.no_create or arguments.target_is_zero,
        salvage=arguments.salvage,
        workers=arguments.threads,
        bytes_per_second=arguments.rate_limit,
    )
    if arguments.threads is not None and not 1 <= arguments.threads <= 64:
        raise ImageOption("the number of threads must lie between 1 and 64")
    named = {name: chosen.pop(name) for name in list(chosen) if name.replace("-", "_") in _BACKING}
    named = {name.replace("-", "_"): value for name, value in named.items()}
    backing = arguments.backing or named.get("backing_file")
    if backing:
        from isagen.image.create_ import probed_format
        from runtime.block.image import Image
        from runtime.block.jobs.chains import depth_of

        path = Path(target).parent / str(backing)
        arguments.file = target
        format = (
            arguments.backing_format or named.get("backing_fmt") or probed_format(arguments, str(backing))
        )
        base = stack.enter_context(Image.open(path, str(format), allow=[*arguments.allow, path.parent]))
        copying.base = base.node
        copying.shared = depth_of(source, base.node)
        chosen["backing_file"], chosen["backing_fmt"] = str(backing), str(format)
    return copying
