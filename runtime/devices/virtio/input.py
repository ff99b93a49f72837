"""Input devices (virtio 1.2, section 5.8): a keyboard, and a tablet that points at places of a screen.

Types and codes of events are those of Linux (include/uapi/linux/input-event-codes.h).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from runtime.devices.keys import KEYS, chord
from runtime.devices.virtio.device import VirtioDevice
from runtime.errors import IsagenError

EVENTS, STATUS = 0, 1
"""Queues: to the guest, and from it."""
NAME, SERIAL, IDENTITY, PROPERTIES, EVENT_BITS, ABSOLUTE = 1, 2, 3, 0x10, 0x11, 0x12
"""What `select` chooses (5.8.4)."""
EV_SYN, EV_KEY, EV_REL, EV_ABS, EV_LED, EV_REP = 0, 1, 2, 3, 0x11, 0x14
ABS_X, ABS_Y, REL_WHEEL, BUTTON_LEFT = 0, 1, 8, 0x110
BUTTONS: Final = {"left": BUTTON_LEFT, "right": BUTTON_LEFT + 1, "middle": BUTTON_LEFT + 2}
LARGEST_POSITION: Final = 0x7FFF
"""The right or lower edge of the screen, for the tablet."""
LEDS: Final = ("num_lock", "caps_lock", "scroll_lock")
EVENT: Final = struct.Struct("<HHI")
CONFIG_SIZE, PAYLOAD_PLACE, PAYLOAD_SIZE = 136, 8, 128
BUS_VIRTUAL: Final = 6
MOST_EVENTS: Final = 1024
"""Events that wait for a driver that doesn't take them; further ones are dropped."""


def bits(numbers: Iterable[int]) -> bytes:
    """A bitmap with these bits set."""
    whole = 0
    for number in numbers:
        whole |= 1 << number
    return whole.to_bytes(-(-whole.bit_length() // 8), "little")


class Input(VirtioDevice):
    """What input devices share. `codes`: the event codes of each type."""

    device_id: ClassVar = 18
    queue_count = 2
    queue_size: ClassVar = 64
    name: ClassVar[str]
    product: ClassVar[int]
    codes: ClassVar[dict[int, tuple[int, ...]]]
    axes: ClassVar[tuple[int, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self._select = self._subselect = 0
        self._events: deque[tuple[int, int, int]] = deque()

    @property
    def offered(self) -> int:
        return 0

    # --- configuration ----------------------------------------------------------------------------------

    def config(self) -> bytes:
        payload = self._payload()[:PAYLOAD_SIZE]
        head = struct.pack("<BBB5x", self._select, self._subselect, len(payload))
        return head + payload.ljust(PAYLOAD_SIZE, b"\0")

    def _payload(self) -> bytes:
        select, sub = self._select, self._subselect
        if select == EVENT_BITS:
            return bits(self.codes.get(sub, ()))
        if select == ABSOLUTE and sub in self.axes:
            return struct.pack("<5I", 0, LARGEST_POSITION, 0, 0, 0)
        if sub:
            return b""
        if select == NAME:
            return self.name.encode()
        if select == SERIAL:
            return b""
        return struct.pack("<4H", BUS_VIRTUAL, 0, self.product, 1) if select == IDENTITY else b""

    def write_config(self, offset: int, data: bytes) -> None:
        for place, value in enumerate(data, offset):
            if place == 0:
                self._select = value
            elif place == 1:
                self._subselect = value

    # --- events -----------------------------------------------------------------------------------------

    def send(self, *events: tuple[int, int, int]) -> None:
        """Events (type, code, value) that belong together."""
        if len(self._events) + len(events) < MOST_EVENTS:
            self._events += [*events, (EV_SYN, 0, 0)]
            self.kick(EVENTS)

    def notify(self, queue: int) -> None:
        if queue == STATUS:
            for chain in self.queues[STATUS].requests():
                data = chain.read(EVENT.size)
                if len(data) == EVENT.size:
                    self.set_status(*EVENT.unpack(data))
                self.queues[STATUS].complete(chain)
            self.used(self.queues[STATUS])
            return
        served = False
        events = self.queues[EVENTS]
        while self._events and (room := events.next_request()) is not None:
            kind, code, value = self._events.popleft()
            room.write(EVENT.pack(kind, code, value & 0xFFFFFFFF))
            events.complete(room)
            served = True
        if served:
            self.used(events)

    def set_status(self, kind: int, code: int, value: int) -> None:
        """The guest tells the device something: a keyboard's lights."""

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._select = self._subselect = 0
        self._events.clear()

    def save(self) -> dict[str, Any]:
        return {"select": [self._select, self._subselect], "events": [list(event) for event in self._events]}

    def restore(self, state: dict[str, Any]) -> None:
        self._select, self._subselect = state["select"]
        self._events = deque((int(kind), int(code), int(value)) for kind, code, value in state["events"])


class Keyboard(Input):
    """A keyboard; `lights` are those that the guest has switched on."""

    name = "isagen keyboard"
    product = 1
    codes: ClassVar = {
        EV_KEY: tuple(sorted(KEYS.values())),
        EV_LED: tuple(range(len(LEDS))),
        EV_REP: (0, 1),
    }

    def __init__(self) -> None:
        super().__init__()
        self.lights: set[str] = set()

    def set_status(self, kind: int, code: int, value: int) -> None:
        if kind == EV_LED and code < len(LEDS):
            (self.lights.add if value else self.lights.discard)(LEDS[code])

    def key(self, name: str, down: bool) -> None:
        """Press or release a key. Raises IsagenError for one that isn't there."""
        if name not in KEYS:
            raise IsagenError(f"no key {name!r}", remedy=f"the keys are {', '.join(KEYS)}")
        self.send((EV_KEY, KEYS[name], int(down)))

    def press(self, *names: str) -> None:
        """Press keys together (`press("ctrl", "alt", "delete")`) and release them. Raises IsagenError."""
        for name in names:
            self.key(name, True)
        for name in reversed(names):
            self.key(name, False)

    def type(self, text: str) -> None:
        """Type a text, as on an American keyboard. Raises IsagenError for characters that it hasn't."""
        chords = []
        for character in text:
            keys = chord(character)
            if keys is None:
                raise IsagenError(f"no key types {character!r}")
            chords.append(keys)
        for keys in chords:
            self.press(*keys)


class Tablet(Input):
    """A pointing device with three buttons and a wheel; positions go from 0 to `LARGEST_POSITION`."""

    name = "isagen tablet"
    product = 3
    axes = (ABS_X, ABS_Y)
    codes: ClassVar = {EV_KEY: tuple(BUTTONS.values()), EV_REL: (REL_WHEEL,), EV_ABS: axes}

    def move(self, x: int, y: int) -> None:
        """Point at a place; what lies outside is moved to the edge."""
        places = (min(max(0, place), LARGEST_POSITION) for place in (x, y))
        self.send(*((EV_ABS, axis, place) for axis, place in zip(self.axes, places, strict=True)))

    def button(self, name: str, down: bool) -> None:
        """Press or release the left, right or middle button. Raises IsagenError for another."""
        if name not in BUTTONS:
            raise IsagenError(f"no button {name!r}", remedy=f"the buttons are {', '.join(BUTTONS)}")
        self.send((EV_KEY, BUTTONS[name], int(down)))

    def wheel(self, steps: int) -> None:
        """Turn the wheel, away from the user where positive."""
        self.send((EV_REL, REL_WHEEL, steps))
