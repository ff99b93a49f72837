"""The network card (virtio 1.2, section 5.1): one pair of queues and the control queue.

Checksum and segmentation offloads aren't offered: every frame goes over the wire as it is.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from runtime.devices.virtio.device import VirtioDevice
from runtime.devices.virtio.queue import Chain

F_MTU: Final = 1 << 3
F_MAC: Final = 1 << 5
F_STATUS: Final = 1 << 16
F_CONTROL: Final = 1 << 17
F_CONTROL_RX: Final = 1 << 18
F_CONTROL_VLAN: Final = 1 << 19
F_CONTROL_RX_EXTRA: Final = 1 << 20
F_ANNOUNCE: Final = 1 << 21
F_CONTROL_MAC: Final = 1 << 23

RECEIVE, TRANSMIT, CONTROL = 0, 1, 2
LINK_UP, ANNOUNCE = 1, 2
"""Bits of the status (5.1.4)."""
HEADER_SIZE: Final = 12
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers (5.1.6)."""
HEADER: Final = struct.pack("<BBHHHHH", 0, 0, 0, 0, 0, 0, 1)
ETHERNET_HEADER, SMALLEST_FRAME, LARGEST_FRAME = 14, 60, 65535 + 14 + 4
VLAN_TYPE: Final = b"\x81\x00"
BROADCAST: Final = b"\xff" * 6
BACKLOG: Final = 256
"""Frames that wait for a driver that has no room; further ones are dropped."""

CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE = 0, 1, 2, 3
MAC_TABLE, MAC_ADDRESS = 0, 1
VLAN_ADD, VLAN_REMOVE = 0, 1
OK, ERROR = 0, 1
RX_MODES: Final = (
    "promiscuous",
    "all_multicast",
    "all_unicast",
    "no_multicast",
    "no_unicast",
    "no_broadcast",
)
"""Commands of the class RX (5.1.6.5.1)."""
LARGEST_COMMAND: Final = 1 << 16
MOST_ADDRESSES: Final = 64
"""Entries of a table of addresses; with more of them the card takes all frames of the kind."""


class Wire(Protocol):
    """Where frames go. `on_frame` is set by the card, and called with frames that come in; `on_link` when
    `is_up` has changed.
    """

    on_frame: Callable[[bytes], None]
    on_link: Callable[[], None]

    @property
    def is_up(self) -> bool: ...

    def send(self, frame: bytes) -> None: ...


class Network(VirtioDevice):
    """A card on a wire. `mac`: 6 bytes; `mtu`: what the guest is told, if not None."""

    device_id: ClassVar = 1
    queue_count = 3
    queue_size: ClassVar = 256

    def __init__(self, wire: Wire, mac: bytes, mtu: int | None = None) -> None:
        super().__init__()
        self._wire = wire
        self._own = mac
        self._mtu = mtu
        self._backlog: deque[bytes] = deque()
        self._restart()
        wire.on_frame = self._arrive
        wire.on_link = lambda: self.config_changed()

    def _restart(self) -> None:
        self._mac = self._own
        self._modes = dict.fromkeys(RX_MODES, False) | {"promiscuous": True}  # until the driver chooses
        self._unicast: set[bytes] | None = set()
        self._multicast: set[bytes] | None = set()
        self._vlans: set[int] = set()
        self._announce = False

    @property
    def offered(self) -> int:
        control = F_CONTROL | F_CONTROL_RX | F_CONTROL_VLAN | F_CONTROL_RX_EXTRA | F_CONTROL_MAC | F_ANNOUNCE
        return F_MAC | F_STATUS | control | (F_MTU if self._mtu is not None else 0)

    def config(self) -> bytes:
        status = (LINK_UP if self._wire.is_up else 0) | (ANNOUNCE if self._announce else 0)
        return struct.pack("<6sHHH", self._mac, status, 1, self._mtu or 0)

    def announce(self) -> None:
        """Have the guest tell the network where it is now (after it was moved)."""
        if self.features & F_ANNOUNCE:
            self._announce = True
            self.config_changed()

    # --- frames -----------------------------------------------------------------------------------------

    def notify(self, queue: int) -> None:
        if queue == RECEIVE:
            self._deliver()
        elif queue == TRANSMIT:
            self._transmit()
        else:
            for chain in self.queues[CONTROL].requests():
                self._command(chain)
                self.queues[CONTROL].complete(chain)
            self.used(self.queues[CONTROL])

    def _transmit(self) -> None:
        queue = self.queues[TRANSMIT]
        for chain in queue.requests():
            data = chain.read(HEADER_SIZE + LARGEST_FRAME + 1)
            frame = data[HEADER_SIZE:]
            queue.complete(chain)
            # Offloads weren't offered: what asks for them isn't a frame.
            if ETHERNET_HEADER <= len(frame) <= LARGEST_FRAME and not data[0] and not data[1]:
                self._wire.send(frame)
        self.used(queue)

    def _arrive(self, frame: bytes) -> None:
        if ETHERNET_HEADER <= len(frame) <= LARGEST_FRAME and len(self._backlog) < BACKLOG:
            self._backlog.append(frame)
            self.kick(RECEIVE)

    def _deliver(self) -> None:
        queue = self.queues[RECEIVE]
        served = False
        while self._backlog:
            if not self._wants(self._backlog[0]):
                self._backlog.popleft()
                continue
            chain = queue.next_request()
            if chain is None:
                break
            frame = self._backlog.popleft().ljust(SMALLEST_FRAME, b"\0")
            if chain.writable_size < HEADER_SIZE + len(frame):
                queue.put_back()  # a frame larger than the buffers is lost
                continue
            chain.write(HEADER)
            chain.write(frame, HEADER_SIZE)
            queue.complete(chain)
            served = True
        if served:
            self.used(queue)

    def _wants(self, frame: bytes) -> bool:
        """Whether the driver wants a frame, by the filters that it set (5.1.6.5.1 to 5.1.6.5.3)."""
        modes, target = self._modes, frame[:6]
        if not self.features & F_CONTROL_RX or modes["promiscuous"]:
            return True
        tagged = self.features & F_CONTROL_VLAN and frame[12:14] == VLAN_TYPE
        if tagged and int.from_bytes(frame[14:16], "big") & 0xFFF not in self._vlans:
            return False
        if target == BROADCAST:
            return not modes["no_broadcast"]
        if target[0] & 1:
            listed = self._multicast is None or target in self._multicast
            return not modes["no_multicast"] and (modes["all_multicast"] or listed)
        listed = target == self._mac or self._unicast is None or target in self._unicast
        return not modes["no_unicast"] and (modes["all_unicast"] or listed)

    # --- the control queue ------------------------------------------------------------------------------

    def _command(self, chain: Chain) -> None:
        data = chain.read(LARGEST_COMMAND)
        done = len(data) >= 2 and self._control(data[0], data[1], data[2:])
        chain.write(bytes([OK if done else ERROR]))

    def _control(self, kind: int, command: int, data: bytes) -> bool:
        if kind == CLASS_RX and command < len(RX_MODES) and len(data) == 1:
            self._modes[RX_MODES[command]] = bool(data[0])
            return True
        if kind == CLASS_MAC and command == MAC_TABLE:
            return self._set_tables(data)
        if kind == CLASS_MAC and command == MAC_ADDRESS and len(data) == 6:
            self._mac = data
            return True
        if kind == CLASS_VLAN and command in (VLAN_ADD, VLAN_REMOVE) and len(data) == 2:
            number = int.from_bytes(data, "little") & 0xFFF
            (self._vlans.add if command == VLAN_ADD else self._vlans.discard)(number)
            return True
        if kind == CLASS_ANNOUNCE and command == 0:
            self._announce = False
            return True
        return False

    def _set_tables(self, data: bytes) -> bool:
        """Two tables of addresses, unicast and multicast, each with its length before it."""
        tables: list[set[bytes] | None] = []
        for _ in range(2):
            if len(data) < 4:
                return False
            size = 6 * int.from_bytes(data[:4], "little")
            table, data = data[4 : 4 + size], data[4 + size :]
            if len(table) != size:
                return False
            entries = {table[n : n + 6] for n in range(0, size, 6)}
            tables.append(entries if len(entries) <= MOST_ADDRESSES else None)
        self._unicast, self._multicast = tables
        return True

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._restart()
        self._backlog.clear()

    def save(self) -> dict[str, Any]:
        """Frames on their way are lost, as networks may do."""
        tables = {"unicast": self._unicast, "multicast": self._multicast}
        return {
            "mac": self._mac.hex(),
            "modes": dict(self._modes),
            "vlans": sorted(self._vlans),
            "announce": self._announce,
            **{name: None if t is None else sorted(a.hex() for a in t) for name, t in tables.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._mac = bytes.fromhex(state["mac"])
        self._modes = dict(state["modes"])
        self._vlans = set(state["vlans"])
        self._announce = bool(state["announce"])
        self._unicast, self._multicast = (
            None if state[name] is None else {bytes.fromhex(a) for a in state[name]}
            for name in ("unicast", "multicast")
        )
        self._backlog.clear()
