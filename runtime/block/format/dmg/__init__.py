"""Apple disk images (DMG), read only: UDRO, UDZO, UDBZ, UDCO, ULMO."""

from runtime.block.format.dmg.driver import DRIVER

__all__ = ["DRIVER"]
