"""Hyper-V disk images (VHDX): fixed, dynamic and differencing, with their log."""

from runtime.block.format.vhdx.driver import DRIVER

__all__ = ["DRIVER"]
