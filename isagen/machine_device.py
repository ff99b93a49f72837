"""Devices of a user's own in a machine's address space."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from runtime.devices.device import Device, State


class Registers(Protocol):
    """What `Machine.map_device` takes. Values are unsigned numbers in the guest's byte order.

    With ``save()`` (JSON's types) and ``restore(value)`` snapshots keep its state; ``reset()`` is called when
    the machine is.
    """

    def read(self, offset: int, size: int) -> int:
        """What a load of `size` bytes at `offset` returns."""
        ...

    def write(self, offset: int, size: int, value: int) -> None:
        """A store."""
        ...


class UserState(State):
    data: Any = None


class UserDevice(Device[UserState]):
    """Passes accesses on to a user's object."""

    size: ClassVar = 0
    state_type = UserState

    def __init__(self, registers: Registers, size: int) -> None:
        self._registers = registers
        self.size = size  # type: ignore[misc]

    def _call(self, name: str, *arguments: Any) -> Any:
        method = getattr(self._registers, name, None)
        return None if method is None else method(*arguments)

    def read(self, offset: int, size: int) -> int:
        return int(self._registers.read(offset, size))

    def write(self, offset: int, size: int, value: int) -> None:
        self._registers.write(offset, size, value & (1 << 8 * size) - 1)

    def reset(self) -> None:
        self._call("reset")

    def save(self) -> UserState:
        return UserState(data=self._call("save"))

    def restore(self, state: UserState) -> None:
        self._call("restore", state.data)
