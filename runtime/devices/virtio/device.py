"""What a virtio device is to its transport (virtio 1.2, chapters 2 and 5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from runtime.devices.virtio.queue import Queue

F_INDIRECT: Final = 1 << 28
F_EVENT_INDEX: Final = 1 << 29
F_VERSION_1: Final = 1 << 32
COMMON: Final = F_INDIRECT | F_EVENT_INDEX | F_VERSION_1
"""Features of the transport and the queues (chapter 6)."""


class VirtioDevice(ABC):
    """A device behind a transport, which sets `queues`, `used`, `kick` and `config_changed`."""

    device_id: ClassVar[int]
    """Section 5."""
    queue_count: int
    queue_size: ClassVar[int] = 128
    """Most descriptors of a queue: drivers fill those to the guest with buffers, which cost memory."""

    largest_request: ClassVar[int] = 64 << 20
    """Most bytes of buffers in a request: what a guest can make the host hold at a time."""

    def __init__(self) -> None:
        self.queues: Sequence[Queue] = ()
        self.features = 0
        """Those that the driver accepted."""
        self.used: Callable[[Queue], None] = lambda queue: None
        """To be called when buffers were used."""
        self.kick: Callable[[int], None] = lambda queue: None
        """To be called when the device has something for a queue by itself: `notify` follows, if the driver
        is ready, guarded against one that breaks the rules.
        """
        self.config_changed: Callable[[], None] = lambda: None

    @property
    @abstractmethod
    def offered(self) -> int:
        """Feature bits of this kind of device."""

    @abstractmethod
    def config(self) -> bytes:
        """The device's configuration space, as it is now."""

    def write_config(self, offset: int, data: bytes) -> None:  # noqa: B027 - few devices have any
        """The driver writes to the configuration space; most devices have nothing to write."""

    @abstractmethod
    def notify(self, queue: int) -> None:
        """The driver made buffers available. Raises QueueError and AddressError for a bad driver's."""

    def reset(self) -> None:  # noqa: B027 - many devices remember nothing
        """Forget what the driver did."""

    def save(self) -> dict[str, Any]:
        """What a snapshot keeps beside queues and features; JSON's types."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 - as `save`
        """Take over what `save` returned."""
