"""Which file system a volume holds, by its signature."""

from __future__ import annotations

from runtime.block.node import Node

_SIGNATURES = (
    (0x438, b"\x53\xef", "ext"),
    (0, b"XFSB", "xfs"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (82, b"FAT32", "fat"),
    (54, b"FAT1", "fat"),
    (0x8001, b"CD001", "iso9660"),
    (0, b"hsqs", "squashfs"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0x218, b"LVM2 001", "lvm"),
    (0xFF6, b"SWAPSPACE2", "swap"),
    (0x400, b"\xe2\xe1\xf5\xe0", "erofs"),
    (0x400, b"H+", "hfs+"),
)
_EXT_INCOMPATIBLE = 0x460
_NEEDS_RECOVERY = 0x4


def file_system(volume: Node) -> str:
    """The file system's name; empty if it isn't known."""
    for offset, magic, name in _SIGNATURES:
        if offset + len(magic) <= volume.length() and volume.pread(offset, len(magic)) == magic:
            return name
    return ""


def is_unclean_ext(volume: Node) -> bool:
    """Whether an ext3 or ext4 volume's journal has to be replayed first."""
    return bool(volume.pread(_EXT_INCOMPATIBLE, 4)[0] & _NEEDS_RECOVERY)
