"""The memory-mapped transport (virtio 1.2, section 4.2.2; version 2, no legacy interface)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pydantic import Field

from runtime.devices.device import Device, Line, State
from runtime.devices.virtio.device import COMMON, F_EVENT_INDEX, F_VERSION_1, VirtioDevice
from runtime.devices.virtio.memory import GuestMemory
from runtime.devices.virtio.queue import Queue, QueueError, QueueState
from runtime.memory.space import AddressError

MAGIC_VALUE: Final = 0x000
VERSION: Final = 0x004
DEVICE_ID: Final = 0x008
VENDOR_ID: Final = 0x00C
DEVICE_FEATURES: Final = 0x010
DEVICE_FEATURES_SEL: Final = 0x014
DRIVER_FEATURES: Final = 0x020
DRIVER_FEATURES_SEL: Final = 0x024
QUEUE_SEL: Final = 0x030
QUEUE_NUM_MAX: Final = 0x034
QUEUE_NUM: Final = 0x038
QUEUE_READY: Final = 0x044
QUEUE_NOTIFY: Final = 0x050
INTERRUPT_STATUS: Final = 0x060
INTERRUPT_ACK: Final = 0x064
STATUS: Final = 0x070
QUEUE_DESC: Final = 0x080
QUEUE_DRIVER: Final = 0x090
QUEUE_DEVICE: Final = 0x0A0
SHARED_MEMORY: Final = range(0x0B0, 0x0C0, 4)
CONFIG_GENERATION: Final = 0x0FC
CONFIG: Final = 0x100

MAGIC: Final = int.from_bytes(b"virt", "little")
VENDOR: Final = int.from_bytes(b"isgn", "little")
DRIVER_OK, FEATURES_OK, NEEDS_RESET = 4, 8, 64
"""Bits of STATUS (2.1)."""
USED_BUFFER, CONFIG_CHANGE = 1, 2
"""Bits of INTERRUPT_STATUS."""
RINGS: Final = {
    QUEUE_DESC: ("descriptors", 0),
    QUEUE_DESC + 4: ("descriptors", 32),
    QUEUE_DRIVER: ("driver", 0),
    QUEUE_DRIVER + 4: ("driver", 32),
    QUEUE_DEVICE: ("device", 0),
    QUEUE_DEVICE + 4: ("device", 32),
}


class VirtioMmioState(State):
    status: int = 0
    interrupts: int = 0
    device_features_sel: int = 0
    driver_features_sel: int = 0
    queue_sel: int = 0
    driver_features: int = 0
    generation: int = 0
    queues: list[QueueState] = Field(default_factory=list)
    device: dict[str, Any] = Field(default_factory=dict)


class VirtioMmio(Device[VirtioMmioState]):
    """A slot of the board, with a device in it or empty (device ID 0)."""

    size: ClassVar = 0x200
    state_type = VirtioMmioState

    def __init__(self, memory: GuestMemory, line: Line, device: VirtioDevice | None = None) -> None:
        self.device = device
        self._memory = memory
        self._line = line
        self._state = VirtioMmioState()
        self._queues: list[Queue] = []
        if device is not None:
            device.used = self._used
            device.kick = self._notify
            device.config_changed = self._config_changed
        self.reset()

    # --- interrupts -------------------------------------------------------------------------------------

    def _used(self, queue: Queue) -> None:
        if queue.wants_interrupt():
            self._raise(USED_BUFFER)

    def _config_changed(self) -> None:
        self._state.generation = (self._state.generation + 1) & 0xFFFFFFFF
        if self._state.status & DRIVER_OK:
            self._raise(CONFIG_CHANGE)

    def _raise(self, bit: int) -> None:
        self._state.interrupts |= bit
        self._line.set(True)

    # --- registers --------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        if offset >= CONFIG:
            if self.device is None:
                return 0
            return int.from_bytes(self.device.config()[offset - CONFIG : offset - CONFIG + size], "little")
        if size != 4 or offset & 3:
            return 0  # registers are 32 bits wide (4.2.2.2)
        state = self._state
        queue = self._queue()
        if offset == DEVICE_FEATURES:
            offered = self.device.offered | COMMON if self.device is not None else 0
            chosen = state.device_features_sel
            return offered >> 32 * chosen & 0xFFFFFFFF if chosen < 2 else 0
        if offset in SHARED_MEMORY:
            return 0xFFFFFFFF  # no such region: its length is -1
        return {
            MAGIC_VALUE: MAGIC,
            VERSION: 2,
            DEVICE_ID: self.device.device_id if self.device is not None else 0,
            VENDOR_ID: VENDOR,
            QUEUE_NUM_MAX: self.device.queue_size if self.device is not None and queue is not None else 0,
            QUEUE_READY: int(queue.state.ready) if queue is not None else 0,
            INTERRUPT_STATUS: state.interrupts,
            STATUS: state.status,
            CONFIG_GENERATION: state.generation,
        }.get(offset, 0)

    def _queue(self) -> Queue | None:
        number = self._state.queue_sel
        return self._queues[number] if number < len(self._queues) else None

    def write(self, offset: int, size: int, value: int) -> None:
        if self.device is None:
            return
        if offset >= CONFIG:
            self.device.write_config(offset - CONFIG, value.to_bytes(8, "little")[:size])
            return
        if size != 4 or offset & 3:
            return
        state = self._state
        value &= 0xFFFFFFFF
        if offset == DEVICE_FEATURES_SEL:
            state.device_features_sel = value
        elif offset == DRIVER_FEATURES_SEL:
            state.driver_features_sel = value
        elif offset == DRIVER_FEATURES:
            if state.driver_features_sel < 2 and not state.status & FEATURES_OK:
                shift = 32 * state.driver_features_sel
                state.driver_features = state.driver_features & ~(0xFFFFFFFF << shift) | value << shift
        elif offset == QUEUE_SEL:
            state.queue_sel = value
        elif offset == QUEUE_NOTIFY:
            self._notify(value)
        elif offset == INTERRUPT_ACK:
            state.interrupts &= ~value
            self._line.set(state.interrupts != 0)
        elif offset == STATUS:
            self._set_status(value)
        elif (queue := self._queue()) is not None:
            self._set_queue(queue.state, offset, value, self.device.queue_size)

    @staticmethod
    def _set_queue(queue: QueueState, offset: int, value: int, largest: int) -> None:
        if offset == QUEUE_NUM and not queue.ready:
            if value <= largest and value & (value - 1) == 0:
                queue.size = value
        elif offset == QUEUE_READY:
            queue.ready = bool(value & 1) and queue.size > 0
        elif offset in RINGS and not queue.ready:
            name, shift = RINGS[offset]
            old: int = getattr(queue, name)
            setattr(queue, name, old & ~(0xFFFFFFFF << shift) | value << shift)

    def _set_status(self, value: int) -> None:
        assert self.device is not None
        state = self._state
        if value == 0:
            self.reset()
            return
        value |= state.status & NEEDS_RESET
        if value & FEATURES_OK and not state.status & FEATURES_OK:
            # The driver reads it back: not set means that its features don't go together (3.1.1).
            offered = self.device.offered | COMMON
            if state.driver_features & ~offered or not state.driver_features & F_VERSION_1:
                value &= ~FEATURES_OK
            else:
                self.device.features = state.driver_features
                for queue in self._queues:
                    queue.state.event_index = bool(state.driver_features & F_EVENT_INDEX)
        state.status = value

    def _notify(self, number: int) -> None:
        device = self.device
        if device is not None and number < len(self._queues) and self._state.status & DRIVER_OK:
            self._guarded(lambda: device.notify(number))

    def _guarded(self, call: Any) -> None:
        """Work on queues; a driver that breaks their rules has to reset the device."""
        if self._state.status & NEEDS_RESET:
            return
        try:
            call()
        except (QueueError, AddressError):
            self._state.status |= NEEDS_RESET
            self._raise(CONFIG_CHANGE)

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        generation = self._state.generation
        self._state = VirtioMmioState(generation=generation)
        self._line.set(False)
        if self.device is not None:
            largest = self.device.largest_request
            self._queues = [Queue(self._memory, largest) for _ in range(self.device.queue_count)]
            self.device.queues = self._queues
            self.device.features = 0
            self.device.reset()

    def save(self) -> VirtioMmioState:
        queues = [queue.state.model_copy() for queue in self._queues]
        device = self.device.save() if self.device is not None else {}
        return self._state.model_copy(update={"queues": queues, "device": device})

    def restore(self, state: VirtioMmioState) -> None:
        self._state = state.model_copy(update={"queues": [], "device": {}})
        for queue, saved in zip(self._queues, state.queues, strict=True):
            queue.state = saved.model_copy()
        if self.device is not None:
            self.device.features = state.driver_features
            self.device.restore(state.device)
        self._line.set(state.interrupts != 0)
