"""QEMU enhanced disks (QED): clusters found through two levels of tables, with backing files."""

from runtime.block.format.qed.driver import DRIVER

__all__ = ["DRIVER"]
