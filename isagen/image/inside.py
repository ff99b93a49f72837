"""What ``ls``, ``cat`` and ``put`` share: choosing a volume of a disk."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from isagen.image import options
from runtime.block.errors import ImageError, ImageNotFound

if TYPE_CHECKING:
    from runtime.block.inside.partitions import Partition
    from runtime.block.node import Node


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    parser.add_argument(
        "-p", "--partition", type=int, metavar="N", help="the partition (needed if several fit)"
    )
    options.add_access(parser)


def slice_of(disk: Node, partition: Partition) -> Node:
    from runtime.block.filter.slice import SliceNode

    name = f"{disk.name}, partition {partition.number}"
    return SliceNode(disk, partition.offset, partition.length, name=name, read_only=disk.read_only)


def choose_volume(disk: Node, number: int | None) -> Node:
    """The volume of partition `number`; the only one with a known file system if that isn't given."""
    from runtime.block.inside.partitions import partitions
    from runtime.block.inside.signatures import file_system

    found = partitions(disk)
    if number is not None:
        for partition in found:
            if partition.number == number:
                return slice_of(disk, partition)
        raise ImageNotFound(f"the disk has no partition {number}", where=disk.name)
    # A bootable CD has a partition table beside its file system.
    if not found or file_system(disk) == "iso9660":
        return disk
    fitting = [
        p
        for p in found
        if file_system(slice_of(disk, p)) in ("ext", "fat", "ntfs", "hfs+", "iso9660", "exfat")
    ]
    if len(fitting) != 1:
        numbers = ", ".join(str(partition.number) for partition in fitting)
        raise ImageError(
            f"{len(fitting)} partitions have file systems that can be read",
            where=disk.name,
            remedy=f"choose one with --partition: {numbers}"
            if fitting
            else "isagen image ls IMAGE lists all",
        )
    return slice_of(disk, fitting[0])
