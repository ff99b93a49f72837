"""The image formats: their names, how their files look, and their drivers (loaded when first used).

Probing looks at fixed signatures only. A file without one is raw, and a raw disk belongs to its guest, who
can write any signature into it: so a probed format is only good enough for the moment.
`runtime.block.format.raw` refuses to let a disk whose format was guessed turn into another format, and images
record the formats of their backing files.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.block.errors import ImageFormatUnknown
from runtime.records import record

if TYPE_CHECKING:
    from runtime.block.driver import Driver
    from runtime.block.node import ProtocolNode

#: What `signatures` may look at: this many bytes from the start and from the end of the file.
HEAD, TAIL = 1024, 1024


@record(frozen=True)
class Signature:
    """`magic` at `offset` (negative: from the file's end); with `suffixes` only in files of such names."""

    magic: bytes
    offset: int = 0
    suffixes: tuple[str, ...] = ()

    def matches(self, head: bytes, tail: bytes, path: str) -> bool:
        if self.suffixes and not path.lower().endswith(self.suffixes):
            return False
        at = self.offset if self.offset >= 0 else len(tail) + self.offset
        return at >= 0 and (head if self.offset >= 0 else tail)[at : at + len(self.magic)] == self.magic


@record(frozen=True)
class Format:
    """One row of the registry."""

    name: str
    module: str  # its DRIVER is the driver
    title: str
    signatures: tuple[Signature, ...] = ()
    aliases: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    qemu_name: str = ""  # if QEMU calls it otherwise
    side_snapshots: bool = False  # has none of its own: `runtime.block.snapshots` keeps them beside the image

    @property
    def driver(self) -> Driver:
        driver: Driver = importlib.import_module(self.module).DRIVER
        return driver


FORMATS: tuple[Format, ...] = (
    Format(
        "raw",
        "runtime.block.format.raw",
        "the disk's bytes as they are",
        aliases=("file", "host_device"),
        extensions=(".raw", ".img", ".iso"),
        side_snapshots=True,
    ),
    Format(
        "qcow2",
        "runtime.block.format.qcow2",
        "QEMU copy-on-write, versions 2 and 3",
        signatures=(Signature(b"QFI\xfb\0\0\0\2"), Signature(b"QFI\xfb\0\0\0\3")),
        extensions=(".qcow2",),
    ),
    Format(
        "vdi",
        "runtime.block.format.vdi",
        "VirtualBox: dynamic, fixed, differencing",
        signatures=(Signature(b"\x7f\x10\xda\xbe", 64),),
        extensions=(".vdi",),
        side_snapshots=True,
    ),
    Format(
        "vmdk",
        "runtime.block.format.vmdk",
        "VMware: sparse, flat, split, compressed, delta links",
        signatures=(Signature(b"KDMV"), Signature(b"COWD"), Signature(b"# Disk DescriptorFile")),
        extensions=(".vmdk",),
        side_snapshots=True,
    ),
    Format(
        "vhdx",
        "runtime.block.format.vhdx",
        "Hyper-V: dynamic, fixed, differencing",
        signatures=(Signature(b"vhdxfile"),),
        extensions=(".vhdx",),
        side_snapshots=True,
    ),
    Format(
        "qed",
        "runtime.block.format.qed",
        "QEMU enhanced disks",
        signatures=(Signature(b"QED\0"),),
        extensions=(".qed",),
        side_snapshots=True,
    ),
    Format(
        "parallels",
        "runtime.block.format.parallels",
        "Parallels: expanding images, and bundles (read)",
        signatures=(
            Signature(b"WithoutFreeSpace"),
            Signature(b"WithouFreSpacExt"),
            Signature(b"<", 0, ("diskdescriptor.xml",)),
        ),
        extensions=(".hds", ".hdd", ".parallels"),
        side_snapshots=True,
    ),
    Format(
        "qcow",
        "runtime.block.format.qcow1",
        "QEMU copy-on-write, version 1 (read)",
        signatures=(Signature(b"QFI\xfb\0\0\0\1"),),
        aliases=("qcow1",),
        extensions=(".qcow",),
    ),
    Format(
        "cloop",
        "runtime.block.format.cloop",
        "compressed loop devices (read)",
        signatures=(Signature(b"#!/bin/sh\n#V2.0 Format\n"),),
        extensions=(".cloop",),
    ),
    Format(
        "dmg",
        "runtime.block.format.dmg",
        "Apple disk images (read)",
        signatures=(Signature(b"koly", -512, (".dmg",)),),
        extensions=(".dmg",),
    ),
    Format(
        "luks",
        "runtime.block.format.luks",
        "LUKS version 1, encrypted",
        signatures=(Signature(b"LUKS\xba\xbe"),),
        extensions=(".luks",),
    ),
    Format(
        "vhd",
        "runtime.block.format.vhd",
        "Virtual PC and Hyper-V: dynamic, fixed, differencing",
        signatures=(Signature(b"conectix"), Signature(b"conectix", -512, (".vhd", ".vpc"))),
        aliases=("vpc",),
        qemu_name="vpc",
        extensions=(".vhd", ".vpc"),
        side_snapshots=True,
    ),
)


def find_format(name: str) -> Format:
    """The format called `name`. Raises ImageFormatUnknown."""
    wanted = name.lower()
    for row in FORMATS:
        if wanted == row.name or wanted in row.aliases:
            return row
    raise ImageFormatUnknown(
        f"there is no image format {name!r}", remedy="known are " + ", ".join(row.name for row in FORMATS)
    )


def recorded_name(name: str) -> str:
    """What images call the format of their backing file: QEMU's name."""
    try:
        row = find_format(name)
    except ImageFormatUnknown:
        return name
    return row.qemu_name or row.name


def format_of_name(path: str | Path) -> Format | None:
    """The format that a file's extension suggests (for new files only: content decides for others)."""
    text = str(path).lower()
    for row in FORMATS:
        if text.endswith(row.extensions or ("\0",)):
            return row
    return None


def probe_bytes(head: bytes, tail: bytes, path: str = "") -> Format:
    """The format whose signature fits; raw if none does."""
    for row in FORMATS:
        if any(signature.matches(head, tail, path) for signature in row.signatures):
            return row
    return FORMATS[0]


def probe(file: ProtocolNode) -> Format:
    """The format of `file`, by its signature; raw if there is none."""
    size = file.length()
    head = file.pread(0, min(HEAD, size))
    tail = file.pread(max(0, size - TAIL), min(TAIL, size))
    return probe_bytes(head, tail, file.name)
