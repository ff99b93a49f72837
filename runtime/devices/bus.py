"""Physical addresses to devices."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from runtime.devices.device import Device
from runtime.errors import IsagenError


class Bus:
    """Devices at addresses. What lies nowhere reads 0 and swallows writes."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._devices: list[tuple[int, Device[Any]]] = []

    def place(self, start: int, device: Device[Any]) -> None:
        """Put a device at `start`. Raises IsagenError where another one lies."""
        at = bisect_right(self._starts, start)
        before = self._devices[at - 1] if at else None
        behind = self._devices[at] if at < len(self._devices) else None
        if (before and before[0] + before[1].size > start) or (behind and start + device.size > behind[0]):
            raise IsagenError("two devices lie at one address", where=f"address {start:#x}")
        self._starts.insert(at, start)
        self._devices.insert(at, (start, device))

    def find(self, address: int) -> tuple[int, Device[Any]] | None:
        """The device at an address, and where it starts."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            start, device = self._devices[at]
            if address < start + device.size:
                return start, device
        return None

    def start_of(self, device: Device[Any]) -> int | None:
        """Where a device was put."""
        return next((start for start, here in self._devices if here is device), None)

    def read(self, address: int, size: int) -> int:
        """Load `size` bytes."""
        found = self.find(address)
        return found[1].read(address - found[0], size) & ((1 << 8 * size) - 1) if found else 0

    def write(self, address: int, size: int, value: int) -> None:
        """Store `size` bytes."""
        if found := self.find(address):
            found[1].write(address - found[0], size, value)
