"""The entropy device (virtio 1.2, section 5.4): one queue of buffers to fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from runtime.devices.virtio.device import VirtioDevice

LARGEST: Final = 64 << 10
"""Most bytes for a request; the driver asks again."""


class Entropy(VirtioDevice):
    """`source(n)` returns n random bytes: the host's, or a seeded generator's for repeatable runs."""

    device_id: ClassVar = 4
    queue_count = 1

    def __init__(self, source: Callable[[int], bytes]) -> None:
        super().__init__()
        self._source = source

    @property
    def offered(self) -> int:
        return 0

    def config(self) -> bytes:
        return b""

    def notify(self, queue: int) -> None:
        for chain in self.queues[queue].requests():
            chain.write(self._source(min(chain.writable_size, LARGEST)))
            self.queues[queue].complete(chain)
        self.used(self.queues[queue])
