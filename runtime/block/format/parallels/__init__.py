"""Parallels disk images: expanding .hds files, and the bundles (.hdd) that DiskDescriptor.xml puts together.
"""

from runtime.block.format.parallels.driver import DRIVER

__all__ = ["DRIVER"]
