"""Virtual PC and Hyper-V disk images (VHD): fixed, dynamic and differencing."""

from runtime.block.format.vhd.driver import DRIVER

__all__ = ["DRIVER"]
