"""List a folder inside an image; without PATH, the disk's partitions and their file systems."""

from __future__ import annotations

import argparse
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from isagen.image import inside, options, show
from runtime.records import asdict

if TYPE_CHECKING:
    from runtime.block.inside.files import Entry, FileSystem
    from runtime.block.node import Node

_LETTERS = {
    "folder": "d",
    "link": "l",
    "file": "-",
    "fifo": "p",
    "socket": "s",
    "block": "b",
    "character": "c",
}
_DEPTH = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    inside.add_arguments(parser)
    parser.add_argument("-l", "--long", action="store_true", help="modes, owners, sizes and times too")
    parser.add_argument("-R", "--recursive", action="store_true", help="what is in the folders too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("file")
    parser.add_argument("path", nargs="?", help="such as /etc")


def run(arguments: argparse.Namespace) -> int:
    from runtime.block.inside.isolation import isolated

    with options.open_image(arguments, arguments.file, arguments.format) as image:
        if arguments.path is None and arguments.partition is None:
            return _list_partitions(image.node, arguments.json)
        volume = inside.choose_volume(image.node, arguments.partition)
        return isolated(lambda: _list_folder(volume, arguments))


def _list_partitions(disk: Node, as_json: bool) -> int:
    from runtime.block.inside.partitions import partitions
    from runtime.block.inside.signatures import file_system

    rows: list[dict[str, Any]] = [
        {**asdict(partition), "file-system": file_system(inside.slice_of(disk, partition))}
        for partition in partitions(disk)
    ]
    if as_json:
        show.print_json(rows or [{"number": None, "length": disk.length(), "file-system": file_system(disk)}])
        return 0
    if not rows:
        print(f"no partitions; the whole disk holds {file_system(disk) or 'nothing that is known'}")
        return 0
    print(f"{'N':>3} {'START':>15} {'SIZE':>9}  {'FILE SYSTEM':<12} TYPE")
    for row in rows:
        boot = ", boot" if row["bootable"] else ""
        name = f" ({row['name']})" if row["name"] else ""
        size = show.human_size(row["length"])
        where = f"{row['number']:>3} {row['offset']:>15} {size:>9}"
        print(f"{where}  {row['file-system']:<12} {row['type']}{name}{boot}")
    return 0


def _list_folder(volume: Node, arguments: argparse.Namespace) -> int:
    from runtime.block.inside.files import FileSystem

    found = _walk(FileSystem(volume), arguments.path or "/", "", arguments.recursive, 0)
    if arguments.json:
        show.print_json([{**asdict(entry), "name": name} for name, entry in found])
        return 0
    for name, entry in found:
        print(_line(name, entry) if arguments.long else _printable(name))
    return 0


def _walk(
    system: FileSystem, path: str, prefix: str, recursive: bool, depth: int
) -> Iterator[tuple[str, Entry]]:
    for entry in sorted(system.entries(path), key=lambda entry: entry.name):
        yield prefix + entry.name, entry
        if recursive and entry.type == "folder" and depth < _DEPTH:
            yield from _walk(system, f"{path}/{entry.name}", f"{prefix}{entry.name}/", True, depth + 1)


def _line(name: str, entry: Entry) -> str:
    mode = _LETTERS.get(entry.type, "?") + stat.filemode(entry.mode & 0o7777)[1:]
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.modified))
    target = f" -> {_printable(entry.target)}" if entry.target else ""
    return f"{mode} {entry.uid:>5} {entry.gid:>5} {entry.size:>12} {date} {_printable(name)}{target}"


def _printable(name: str) -> str:
    """A name without control characters, which could command the terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter) & 0xFF:02x}" for letter in name)
