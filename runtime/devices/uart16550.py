"""The 16550A serial port (National Semiconductor PC16550D data sheet, section 8). Eight registers of a byte.

What is sent goes out at once; the baud rate only is remembered.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Final

from runtime.devices.character import Character
from runtime.devices.device import Device, Line, State

RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)
"""Registers. RBR is THR and IIR is FCR when written; RBR and IER are the divisor with LCR's DLAB."""

IER_RECEIVED, IER_EMPTY, IER_LINE, IER_MODEM = 1, 2, 4, 8
IIR_NONE, IIR_MODEM, IIR_EMPTY, IIR_RECEIVED, IIR_LINE, IIR_TIMEOUT = 1, 0, 2, 4, 6, 12
IIR_FIFOS: Final = 0xC0
FCR_ENABLE, FCR_CLEAR_RECEIVER, FCR_TRIGGER = 1, 2, 0xC0
LCR_DLAB: Final = 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 1, 2, 4, 8, 16
LSR_READY, LSR_OVERRUN, LSR_BREAK, LSR_THR_EMPTY, LSR_EMPTY = 1, 2, 0x10, 0x20, 0x40
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
CONNECTED: Final = MSR_CTS | MSR_DSR | MSR_DCD
TRIGGERS: Final = (1, 4, 8, 14)
FIFO: Final = 16


class UartState(State):
    ier: int = 0
    fcr: int = 0
    lcr: int = 0
    mcr: int = MCR_OUT2
    scr: int = 0
    divisor: int = 12
    msr_deltas: int = 0
    overrun: bool = False
    empty_pending: bool = False
    received: str = ""
    waiting: str = ""
    """What was received, and what the backend holds for the guest, as hexadecimal digits."""


class Uart16550(Device[UartState]):
    """A serial port on `backend`, with an interrupt line."""

    size: ClassVar = 0x100
    state_type = UartState

    def __init__(self, backend: Character, line: Line) -> None:
        self._backend = backend
        self._line = line
        self._state = UartState()
        self._fifo: deque[int] = deque()
        backend.on_input = self._receive

    # --- the receiver -----------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Take from the backend what there is room for."""
        if not self._state.mcr & MCR_LOOP:
            self._fifo.extend(self._backend.take(self._capacity - len(self._fifo)))
        self._update()

    @property
    def _capacity(self) -> int:
        return FIFO if self._state.fcr & FCR_ENABLE else 1

    def _reads(self) -> int:
        value = self._fifo.popleft() if self._fifo else 0
        self._receive()
        return value

    # --- interrupts -------------------------------------------------------------------------------------

    def _cause(self) -> int:
        """What IIR names: the pending interrupt of the highest priority (table V of the data sheet)."""
        state = self._state
        if state.ier & IER_LINE and state.overrun:
            return IIR_LINE
        if state.ier & IER_RECEIVED and self._fifo:
            trigger = TRIGGERS[state.fcr >> 6] if state.fcr & FCR_ENABLE else 1
            # Characters that stay below the trigger level time out; no time passes on this line.
            return IIR_RECEIVED if len(self._fifo) >= trigger else IIR_TIMEOUT
        if state.ier & IER_EMPTY and state.empty_pending:
            return IIR_EMPTY
        if state.ier & IER_MODEM and state.msr_deltas:
            return IIR_MODEM
        return IIR_NONE

    def _update(self) -> None:
        self._line.set(self._cause() != IIR_NONE)

    # --- registers --------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        state = self._state
        if offset == RBR:
            return state.divisor & 0xFF if state.lcr & LCR_DLAB else self._reads()
        if offset == IER:
            return state.divisor >> 8 if state.lcr & LCR_DLAB else state.ier
        if offset == IIR:
            cause = self._cause()
            if cause == IIR_EMPTY:
                state.empty_pending = False
                self._update()
            return cause | (IIR_FIFOS if state.fcr & FCR_ENABLE else 0)
        if offset == LCR:
            return state.lcr
        if offset == MCR:
            return state.mcr
        if offset == LSR:
            value = LSR_THR_EMPTY | LSR_EMPTY
            value |= LSR_READY if self._fifo else 0
            value |= LSR_OVERRUN if state.overrun else 0
            state.overrun = False
            self._update()
            return value
        if offset == MSR:
            value = self._modem() | state.msr_deltas
            state.msr_deltas = 0
            self._update()
            return value
        return state.scr if offset == SCR else 0

    def _modem(self) -> int:
        """The upper half of MSR: the other end is there, or in loopback what MCR drives (section 8.6.6)."""
        mcr = self._state.mcr
        if not mcr & MCR_LOOP:
            return CONNECTED
        pairs = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
        return sum(status for control, status in pairs if mcr & control)

    def write(self, offset: int, size: int, value: int) -> None:
        state = self._state
        value &= 0xFF
        if offset == RBR and state.lcr & LCR_DLAB:
            state.divisor = state.divisor & 0xFF00 | value
        elif offset == RBR:
            self._transmit(value)
        elif offset == IER and state.lcr & LCR_DLAB:
            state.divisor = state.divisor & 0xFF | value << 8
        elif offset == IER:
            # Enabling it while the transmitter is empty raises it (section 8.7).
            if value & IER_EMPTY and not state.ier & IER_EMPTY:
                state.empty_pending = True
            state.ier = value & 0x0F
        elif offset == IIR:
            self._control(value)
        elif offset == LCR:
            state.lcr = value
        elif offset == MCR:
            before = self._modem()
            state.mcr = value & 0x1F
            changed = before ^ self._modem()
            fell = before & ~self._modem()
            state.msr_deltas |= changed >> 4 & 0xB | (fell & MSR_RI) >> 4
        elif offset == SCR:
            state.scr = value
        self._update()

    def _control(self, value: int) -> None:
        state = self._state
        if value & FCR_CLEAR_RECEIVER or (value ^ state.fcr) & FCR_ENABLE:
            self._fifo.clear()
        state.fcr = value & (FCR_ENABLE | FCR_TRIGGER) if value & FCR_ENABLE else 0
        self._receive()

    def _transmit(self, value: int) -> None:
        state = self._state
        if state.mcr & MCR_LOOP:
            if len(self._fifo) < self._capacity:
                self._fifo.append(value)
            else:
                state.overrun = True
        else:
            self._backend.send(bytes([value]))
        state.empty_pending = True

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._state = UartState()
        self._fifo.clear()
        self._receive()

    def save(self) -> UartState:
        bytes_kept = {"received": bytes(self._fifo).hex(), "waiting": self._backend.waiting.hex()}
        return self._state.model_copy(update=bytes_kept)

    def restore(self, state: UartState) -> None:
        self._state = state.model_copy()
        self._fifo = deque(bytes.fromhex(state.received))
        self._backend.waiting = bytes.fromhex(state.waiting)
        self._update()
