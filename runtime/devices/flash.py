"""NOR flash of the Intel command set (CFI 0001): two 16-bit chips side by side on a 32-bit bus.

JEDEC JESD68.01 (Common Flash Interface) and JEP137 (command set 0001); Intel's data sheet of the StrataFlash
J3 for commands and status. As long as no command is given the bank is memory that can be read and executed,
and only writes come here.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from pydantic import Field

from runtime.devices.device import Device, State
from runtime.errors import IsagenError

READ_ARRAY, READ_ARRAY_OTHER, PROGRAM, PROGRAM_OTHER, ERASE, CLEAR_STATUS = 0xFF, 0xF0, 0x40, 0x10, 0x20, 0x50
LOCK, READ_STATUS, READ_ID, QUERY, BUFFER, CONFIRM, LOCK_BLOCK = 0x60, 0x70, 0x90, 0x98, 0xE8, 0xD0, 0x01
READY, ERASE_ERROR, PROGRAM_ERROR = 0x80, 0x20, 0x10
"""Bits of the status."""
SEQUENCE_ERROR: Final = ERASE_ERROR | PROGRAM_ERROR

BUS, CHIPS = 4, 2
MANUFACTURER, DEVICE = 0x89, 0x18
BLOCK: Final = 256 << 10
"""Bytes that are erased together, of both chips."""
BUFFER_WORDS: Final = 1 << 10
"""Bus words of the write buffer."""


def query_table(size: int) -> bytes:
    """What a chip answers to a query (JESD68.01, 2.4; the extended table of JEP137), for a bank of `size`."""
    table = bytearray(0x40)
    chip, blocks = size // CHIPS, size // BLOCK
    table[0x10:0x13] = b"QRY"
    table[0x13:0x15] = (1).to_bytes(2, "little")
    table[0x15:0x17] = (0x31).to_bytes(2, "little")  # the extended table
    table[0x1B:0x1D] = b"\x45\x55"  # 4.5 to 5.5 V
    table[0x1F:0x23] = bytes((7, 7, 10, 0))  # 128 us for a word and a buffer, 1 s for a block
    table[0x23:0x27] = bytes((4, 4, 4, 0))  # 16 times that at worst
    table[0x27] = chip.bit_length() - 1
    table[0x28] = 2  # x8 or x16
    table[0x2A] = (BUFFER_WORDS * BUS // CHIPS).bit_length() - 1
    table[0x2C] = 1  # one region of blocks
    table[0x2D:0x2F] = (blocks - 1).to_bytes(2, "little")
    table[0x2F:0x31] = (BLOCK // CHIPS // 256).to_bytes(2, "little")
    table[0x31:0x36] = b"PRI10"
    return bytes(table)


class Contents(Protocol):
    """A bank's bytes."""

    def read(self, offset: int, size: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes, and keep them where the bank has a file. Raises OSError or IsagenError."""

    def show(self, visible: bool) -> None:
        """Whether the guest reads these bytes without asking the device."""


Mode = Literal["array", "status", "id", "query"]


class FlashState(State):
    mode: Mode = "array"
    status: int = READY
    command: int = 0
    """The command whose further cycles are awaited; 0: none."""
    words: int = 0
    """Words of a buffered program that are still to come, if `counted`."""
    counted: bool = False
    buffer: dict[int, int] = Field(default_factory=dict)
    """Offset to byte."""
    block: int = 0


class Flash(Device[FlashState]):
    """A bank of `size` bytes (a power of two) on `contents`."""

    state_type = FlashState

    def __init__(self, contents: Contents, size: int, *, read_only: bool = False) -> None:
        self.size = size  # type: ignore[misc]  # each bank has its own
        self._contents = contents
        self._read_only = read_only
        self._table = query_table(size)
        self._state = FlashState()

    # --- reading ----------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        if self._state.mode == "array":
            return int.from_bytes(self._contents.read(offset, min(size, self.size - offset)), "little")
        value = 0
        for n in range(size):
            value |= (self._word((offset + n) // BUS) >> 8 * ((offset + n) % BUS) & 0xFF) << 8 * n
        return value

    def _word(self, number: int) -> int:
        """A bus word outside of the array: both chips say the same."""
        mode = self._state.mode
        if mode == "status":
            answer = self._state.status
        elif mode == "id":
            place = number % (BLOCK // BUS)
            answer = {0: MANUFACTURER, 1: DEVICE}.get(place, 0)
        else:
            answer = self._table[number] if number < len(self._table) else 0
        return answer | answer << 16

    # --- commands ---------------------------------------------------------------------------------------

    def write(self, offset: int, size: int, value: int) -> None:
        if size > BUS:
            self.write(offset, BUS, value & 0xFFFFFFFF)
            self.write(offset + BUS, size - BUS, value >> 32)
            return
        if offset >= self.size:
            return
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")[: self.size - offset]
        before = self._state.mode
        self._cycle(offset, data)
        if (before == "array") != (self._state.mode == "array"):
            self._contents.show(self._state.mode == "array")

    def _cycle(self, offset: int, data: bytes) -> None:
        state, command = self._state, data[0]
        if not state.command:
            self._first(offset, command)
        elif state.command in (PROGRAM, PROGRAM_OTHER):
            state.command = 0
            self._program({offset + n: byte for n, byte in enumerate(data)})
        elif state.command == ERASE:
            state.command = 0
            if command == CONFIRM:
                self._erase(offset)
            else:
                state.status |= SEQUENCE_ERROR
        elif state.command == LOCK:
            state.command = 0  # blocks have no locks: all that a driver unlocks is open
            if command not in (CONFIRM, LOCK_BLOCK):
                state.status |= SEQUENCE_ERROR
        else:
            self._fill(offset, data)

    def _first(self, offset: int, command: int) -> None:
        state = self._state
        modes: dict[int, Mode] = {READ_ID: "id", QUERY: "query", READ_STATUS: "status"}
        if command in modes:
            state.mode = modes[command]
        elif command == CLEAR_STATUS:
            state.status = READY
        elif command in (PROGRAM, PROGRAM_OTHER, ERASE, LOCK, BUFFER):
            state.mode, state.command = "status", command
            state.counted, state.buffer = False, {}
            state.block = offset // BLOCK
        else:
            state.mode = "array"

    def _fill(self, offset: int, data: bytes) -> None:
        """Cycles of a buffered program: the number of words less one, the words, the confirmation."""
        state = self._state
        if not state.counted:
            state.words = int.from_bytes(data[:2], "little") + 1
            state.counted = True
            if state.words > BUFFER_WORDS:
                self._abort()
        elif state.words:
            state.words -= 1
            if offset // BLOCK != state.block:
                self._abort()
                return
            state.buffer |= {offset + n: byte for n, byte in enumerate(data)}
        elif data[0] == CONFIRM:
            buffer, state.buffer, state.command = state.buffer, {}, 0
            self._program(buffer)
        else:
            self._abort()

    def _abort(self) -> None:
        self._state.command, self._state.buffer = 0, {}
        self._state.status |= SEQUENCE_ERROR

    def _program(self, new: dict[int, int]) -> None:
        """Bits go from 1 to 0 only."""
        if not new:
            return
        start, end = min(new), max(new) + 1
        data = bytearray(self._contents.read(start, end - start))
        for offset, byte in new.items():
            data[offset - start] &= byte
        self._put(start, bytes(data), PROGRAM_ERROR)

    def _erase(self, offset: int) -> None:
        self._put(offset // BLOCK * BLOCK, b"\xff" * BLOCK, ERASE_ERROR)

    def _put(self, offset: int, data: bytes, error: int) -> None:
        if self._read_only:
            self._state.status |= error | 2  # the block is protected
            return
        try:
            self._contents.write(offset, data)
        except (OSError, IsagenError):
            self._state.status |= error

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.restore(FlashState())

    def save(self) -> FlashState:
        return self._state.model_copy(deep=True)

    def restore(self, state: FlashState) -> None:
        self._state = state.model_copy(deep=True)
        self._contents.show(state.mode == "array")
