"""QEMU's firmware configuration device over MMIO (QEMU's docs/specs/fw_cfg): items, and files by name, that
firmware and kernels read.

The data register at 0, the selector (16 bits, big endian) at 8, the address of a DMA request (64 bits, big
endian) at 0x10.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import ClassVar, Final, Protocol

from runtime.devices.device import Device, State
from runtime.errors import IsagenError
from runtime.memory.space import AddressError

DATA, SELECTOR, DMA = 0x00, 0x08, 0x10
SIGNATURE, ID, RAM_SIZE, HARTS, KERNEL_SIZE = 0x00, 0x01, 0x03, 0x05, 0x08
INITRD_SIZE, KERNEL, INITRD, COMMAND_LINE_SIZE, COMMAND_LINE = 0x0B, 0x11, 0x12, 0x14, 0x15
DIRECTORY, FIRST_FILE = 0x19, 0x20
TRADITIONAL, WITH_DMA = 1, 2
"""Bits of the item `ID`."""
ERROR, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16
"""Bits of a DMA request's control word; the key is in its upper half."""
REQUEST: Final = struct.Struct(">IIQ")
ENTRY: Final = struct.Struct(">IHH56s")
DMA_SIGNATURE: Final = b"QEMU CFG"
LARGEST_NAME: Final = 55
STEP: Final = 1 << 20


class Memory(Protocol):
    """The guest's, by physical addresses; AddressError where there is none."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None: ...


class FwCfgState(State):
    selected: int = 0
    offset: int = 0
    dma_high: int = 0


def standard_items(
    harts: int, memory: int, kernel: bytes = b"", initrd: bytes = b"", command_line: str = ""
) -> dict[int, bytes]:
    """What QEMU's machines say about themselves, and about a kernel that the firmware shall start."""
    line = command_line.encode() + b"\0" if command_line else b""
    return {
        HARTS: struct.pack("<H", harts),
        RAM_SIZE: struct.pack("<Q", memory),
        KERNEL_SIZE: struct.pack("<I", len(kernel)),
        KERNEL: kernel,
        INITRD_SIZE: struct.pack("<I", len(initrd)),
        INITRD: initrd,
        COMMAND_LINE_SIZE: struct.pack("<I", len(line)),
        COMMAND_LINE: line,
    }


class FwCfg(Device[FwCfgState]):
    """`items` by key, and `files` by name. Nothing can be written."""

    size: ClassVar = 0x18
    state_type = FwCfgState

    def __init__(self, memory: Memory, items: Mapping[int, bytes], files: Mapping[str, bytes]) -> None:
        self._memory = memory
        self._state = FwCfgState()
        self._items = {SIGNATURE: b"QEMU", ID: struct.pack("<I", TRADITIONAL | WITH_DMA), **items}
        directory = [struct.pack(">I", len(files))]
        for key, (name, data) in enumerate(sorted(files.items()), FIRST_FILE):
            encoded = name.encode()
            if not 0 < len(encoded) <= LARGEST_NAME:
                raise IsagenError(
                    f"a name of {len(encoded)} bytes", where=f"fw_cfg file {name!r}", remedy="take 1 to 55"
                )
            self._items[key] = data
            directory.append(ENTRY.pack(len(data), key, 0, encoded))
        self._items[DIRECTORY] = b"".join(directory)

    def _take(self, size: int) -> bytes:
        """The next bytes of the selected item; zeros behind its end."""
        item, start = self._items.get(self._state.selected, b""), self._state.offset
        self._state.offset += size
        return item[start : start + size].ljust(size, b"\0")

    def read(self, offset: int, size: int) -> int:
        if offset < SELECTOR:
            return int.from_bytes(self._take(size), "little")  # in the order of a string
        if offset >= DMA:
            return int.from_bytes(DMA_SIGNATURE[offset - DMA :][:size], "little")
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        data = value.to_bytes(8, "little")[:size]
        if offset == SELECTOR and size >= 2:
            self._select(int.from_bytes(data[:2], "big"))
        elif offset == DMA and size == 8:
            self._transfer(int.from_bytes(data, "big"))
        elif offset == DMA and size == 4:
            self._state.dma_high = int.from_bytes(data, "big")
        elif offset == DMA + 4 and size == 4:
            self._transfer(self._state.dma_high << 32 | int.from_bytes(data, "big"))
            self._state.dma_high = 0

    def _select(self, key: int) -> None:
        self._state.selected, self._state.offset = key, 0

    def _transfer(self, place: int) -> None:
        """Serve a DMA request; its control word then is 0, or has the bit `ERROR`."""
        try:
            control, length, address = REQUEST.unpack(self._memory.read(place, REQUEST.size))
            if control & SELECT:
                self._select(control >> 16)
            done = self._serve(control, length, address)
            self._memory.write(place, struct.pack(">I", 0 if done else ERROR))
        except AddressError:
            return  # no request lies there: nobody waits for an answer

    def _serve(self, control: int, length: int, address: int) -> bool:
        if control & READ:
            try:
                while length:
                    part = min(length, STEP)
                    self._memory.write(address, self._take(part))
                    address, length = address + part, length - part
            except AddressError:
                return False
            return True
        if control & WRITE:
            return False
        if control & SKIP:
            self._state.offset += length
        return True

    def reset(self) -> None:
        self._state = FwCfgState()

    def save(self) -> FwCfgState:
        return self._state.model_copy()

    def restore(self, state: FwCfgState) -> None:
        self._state = state.model_copy()
