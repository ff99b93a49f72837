"""VMware disk images (VMDK), of one file or many, sparse, flat or compressed, with delta links."""

from runtime.block.format.vmdk.driver import DRIVER

__all__ = ["DRIVER"]
