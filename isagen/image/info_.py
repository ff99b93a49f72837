"""Tell what an image is: format, sizes, backing file, snapshots."""

from __future__ import annotations

import argparse
import datetime
from typing import TYPE_CHECKING, Any

from isagen.image import options, show

if TYPE_CHECKING:
    from runtime.block.report import ImageInfo, SnapshotInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    options.add_json(parser)
    parser.add_argument("--backing-chain", action="store_true", help="tell the same of all images below")
    parser.add_argument("file")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    infos = []
    # Opening the images below isn't needed for this one's facts, and mustn't fail it.
    with options.open_image(
        arguments, arguments.file, arguments.format, backing=arguments.backing_chain
    ) as image:
        from runtime.block.node import FormatNode, Node

        node: Node | None = image.node
        while isinstance(node, FormatNode):
            infos.append(node.info())
            node = node.backing if arguments.backing_chain else None
    if options.wants_json(arguments):
        values = [_as_json(info) for info in infos]
        show.print_json(values if arguments.backing_chain else values[0])
    else:
        print("\n\n".join("\n".join(lines(info)) for info in infos))
    return 0


def _as_json(info: ImageInfo) -> dict[str, Any]:
    """With QEMU's names of the formats."""
    from runtime.block.registry import recorded_name

    values = info.as_json()
    for name in ("format", "backing-filename-format"):
        if name in values:
            values[name] = recorded_name(values[name])
    return values


def lines(info: ImageInfo) -> list[str]:
    """An image's facts for people."""
    result = [
        f"image: {info.filename}",
        f"file format: {info.format}",
        f"virtual size: {show.human_size(info.virtual_size)} ({info.virtual_size} bytes)",
        f"disk size: {show.human_size(info.actual_size)}",
    ]
    if info.encrypted:
        result.append("encrypted: yes")
    if info.cluster_size:
        result.append(f"cluster_size: {info.cluster_size}")
    if info.dirty_flag:
        result.append("cleanly shut down: no")
    if info.backing_filename:
        actual = info.full_backing_filename
        other = f" (actual path: {actual})" if actual and actual != info.backing_filename else ""
        result.append(f"backing file: {info.backing_filename}{other}")
    if info.backing_filename_format:
        result.append(f"backing file format: {info.backing_filename_format}")
    if info.snapshots:
        result += ["Snapshot list:", *snapshot_lines(info.snapshots)]
    if info.format_specific and info.format_specific.get("data"):
        result += ["Format specific information:", *_specific(info.format_specific["data"], 1)]
    return result


def snapshot_lines(snapshots: list[SnapshotInfo]) -> list[str]:
    """A table of snapshots."""
    result = [f"{'ID':<8}  {'TAG':<20} {'VM SIZE':>9} {'DATE':>20} {'VM CLOCK':>15}"]
    for snapshot in snapshots:
        date = datetime.datetime.fromtimestamp(snapshot.date_sec).strftime("%Y-%m-%d %H:%M:%S")
        clock = snapshot.vm_clock_sec
        hours, minutes, seconds = clock // 3600, clock // 60 % 60, clock % 60
        shown = f"{hours:02}:{minutes:02}:{seconds:02}.{snapshot.vm_clock_nsec // 1_000_000:03}"
        size = show.human_size(snapshot.vm_state_size)
        result.append(f"{snapshot.id:<8}  {snapshot.name:<20} {size:>9} {date:>20} {shown:>15}")
    return result


def _specific(values: Any, depth: int) -> list[str]:
    result = []
    items = values.items() if isinstance(values, dict) else ((f"[{n}]", v) for n, v in enumerate(values))
    for name, value in items:
        shown = str(name).replace("-", " ")
        if isinstance(value, dict | list):
            result += [f"{'    ' * depth}{shown}:", *_specific(value, depth + 1)]
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            result.append(f"{'    ' * depth}{shown}: {text}")
    return result
