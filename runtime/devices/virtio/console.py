"""The console device (virtio 1.2, section 5.3): a console, or several ports with names."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from runtime.devices.character import Character
from runtime.devices.virtio.device import VirtioDevice

F_SIZE: Final = 1 << 0
F_MULTIPORT: Final = 1 << 1
F_EMERGENCY: Final = 1 << 2

READY, ADD, REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, OPEN, NAME = range(8)
"""Control messages (5.3.6.2)."""
CONTROL: Final = struct.Struct("<IHH")
CONTROL_RECEIVE, CONTROL_TRANSMIT = 2, 3
EMERGENCY_PLACE: Final = 8
LARGEST_MESSAGE: Final = 4096
MOST_MESSAGES: Final = 256
"""Messages that wait for a driver that doesn't read them; further ones are dropped."""
MOST_PORTS: Final = 15


@dataclass(frozen=True)
class Port:
    """`name`: what the guest finds in /sys/class/virtio-ports; a console has none."""

    backend: Character
    name: str = ""

    @property
    def is_console(self) -> bool:
        """Whether the guest makes a terminal of it (hvc0)."""
        return not self.name


def receive_queue(port: int) -> int:
    """The queue to the guest; the one from it is the next (5.3.2)."""
    return 2 * port + 2 if port else 0


class Console(VirtioDevice):
    """`ports`, the first of which is there for drivers that know one only; `columns` and `rows`: the
    terminal's size, 0 if it has none.
    """

    device_id: ClassVar = 3

    def __init__(self, ports: Sequence[Port], columns: int = 0, rows: int = 0) -> None:
        super().__init__()
        self._ports = ports
        self._several = len(ports) > 1 or not ports[0].is_console
        self.queue_count = 2 * len(ports) + 2 if self._several else 2
        self._size = columns, rows
        self._messages: deque[bytes] = deque()
        self._open = [False] * len(ports)
        self._announced = [False] * len(ports)
        for number, port in enumerate(ports):
            self._connect(number, port)

    def _connect(self, number: int, port: Port) -> None:
        port.backend.on_input = lambda: self.kick(receive_queue(number))
        port.backend.on_connection = lambda: self._connection(number)

    @property
    def offered(self) -> int:
        return F_SIZE | F_EMERGENCY | (F_MULTIPORT if self._several else 0)

    def config(self) -> bytes:
        return struct.pack("<HHII", *self._size, len(self._ports), 0)

    def write_config(self, offset: int, data: bytes) -> None:
        if offset == EMERGENCY_PLACE:
            self._ports[0].backend.send(data[:1])

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size."""
        self._size = columns, rows
        self.config_changed()
        if self._announced[0]:
            self._control(0, RESIZE, 0, struct.pack("<HH", columns, rows))

    # --- data -------------------------------------------------------------------------------------------

    def notify(self, queue: int) -> None:
        if self.features & F_MULTIPORT and queue in (CONTROL_RECEIVE, CONTROL_TRANSMIT):
            if queue == CONTROL_TRANSMIT:
                self._listen()
            self._tell()
            return
        number = queue // 2 - 1 if queue >= 2 else 0
        if queue % 2:
            for chain in self.queues[queue].requests():
                for view in chain.readable_views():
                    self._ports[number].backend.send(bytes(view))
                self.queues[queue].complete(chain)
            self.used(self.queues[queue])
        else:
            self._deliver(number)

    def _deliver(self, number: int) -> None:
        """Give a port's input to the guest; where nothing has opened the port there, it waits."""
        port, queue = self._ports[number], self.queues[receive_queue(number)]
        if self.features & F_MULTIPORT and not port.is_console and not self._open[number]:
            return
        served = False
        while port.backend.available and (chain := queue.next_request()) is not None:
            chain.write(port.backend.take(chain.writable_size))
            queue.complete(chain)
            served = True
        if served:
            self.used(queue)

    # --- control ----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Messages of the driver."""
        queue = self.queues[CONTROL_TRANSMIT]
        for chain in queue.requests():
            message = chain.read(LARGEST_MESSAGE)
            queue.complete(chain)
            if len(message) >= CONTROL.size:
                self._hear(*CONTROL.unpack_from(message))
        self.used(queue)

    def _hear(self, number: int, event: int, value: int) -> None:
        if event == READY:
            for each in range(len(self._ports) if value else 0):
                self._control(each, ADD, 1)
            return
        if number >= len(self._ports):
            return
        port = self._ports[number]
        if event == PORT_READY and value:
            self._announced[number] = True
            if port.is_console:
                self._control(number, CONSOLE_PORT, 1)
                self._control(number, RESIZE, 0, struct.pack("<HH", *self._size))
            else:
                self._control(number, NAME, 1, port.name.encode())
            if port.backend.connected:
                self._control(number, OPEN, 1)
        elif event == OPEN:
            self._open[number] = bool(value)
            self.kick(receive_queue(number))

    def _connection(self, number: int) -> None:
        """The other end of a port came or went."""
        if self._announced[number]:
            self._control(number, OPEN, int(self._ports[number].backend.connected))
            self.kick(CONTROL_RECEIVE)

    def _control(self, number: int, event: int, value: int, more: bytes = b"") -> None:
        if len(self._messages) < MOST_MESSAGES:
            self._messages.append(CONTROL.pack(number, event, value) + more)

    def _tell(self) -> None:
        """Give messages to the driver."""
        queue = self.queues[CONTROL_RECEIVE]
        served = False
        while self._messages and (chain := queue.next_request()) is not None:
            chain.write(self._messages.popleft())
            queue.complete(chain)
            served = True
        if served:
            self.used(queue)

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._messages.clear()
        self._open = [False] * len(self._ports)
        self._announced = [False] * len(self._ports)

    def save(self) -> dict[str, Any]:
        return {
            "messages": [message.hex() for message in self._messages],
            "open": list(self._open),
            "announced": list(self._announced),
            "waiting": [port.backend.waiting.hex() for port in self._ports],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._messages = deque(bytes.fromhex(message) for message in state["messages"])
        self._open, self._announced = list(state["open"]), list(state["announced"])
        for port, waiting in zip(self._ports, state["waiting"], strict=True):
            port.backend.waiting = bytes.fromhex(waiting)
