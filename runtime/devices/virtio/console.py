"""The console device (virtio 1.2, section 5.3), one port: queue 0 to the guest, queue 1 from it."""

from __future__ import annotations

import struct
from typing import ClassVar, Final

from runtime.devices.character import Character
from runtime.devices.virtio.device import VirtioDevice

F_SIZE: Final = 1 << 0
RECEIVE, TRANSMIT = 0, 1


class Console(VirtioDevice):
    """A port on `backend`; `columns` and `rows` are the terminal's size, 0 if it has none."""

    device_id: ClassVar = 3
    queue_count = 2

    def __init__(self, backend: Character, columns: int = 0, rows: int = 0) -> None:
        super().__init__()
        self._backend = backend
        self._size = columns, rows
        backend.on_input = self._deliver_safely

    @property
    def offered(self) -> int:
        return F_SIZE

    def config(self) -> bytes:
        return struct.pack("<HHII", *self._size, 1, 0)

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        self._size = columns, rows
        self.config_changed()

    def _deliver_safely(self) -> None:
        self.input_ready()

    def input_ready(self) -> None:
        """Replaced by the board: deliver through the transport, which guards against bad drivers."""

    def notify(self, queue: int) -> None:
        if queue == RECEIVE:
            self._deliver()
            return
        for chain in self.queues[TRANSMIT].requests():
            self._backend.send(chain.read())
            self.queues[TRANSMIT].complete(chain)
        self.used(self.queues[TRANSMIT])

    def _deliver(self) -> None:
        queue = self.queues[RECEIVE]
        while self._backend.available and (chain := queue.next_request()) is not None:
            chain.write(self._backend.take(chain.writable_size))
            queue.complete(chain)
            self.used(queue)

    def reset(self) -> None:
        pass
