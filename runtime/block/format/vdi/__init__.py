"""VirtualBox disk images (VDI): dynamic, fixed and differencing."""

from runtime.block.format.vdi.driver import DRIVER

__all__ = ["DRIVER"]
