"""A guest as a Python object: see `Emulator`, and docs/python.md."""

from __future__ import annotations

from isagen.emulator.core import Emulator
from isagen.emulator.errors import (
    EmulatorError,
    GuestError,
    GuestTrap,
    IllegalInstruction,
    MemoryFault,
    MisalignedFetch,
    ProtectedMemory,
    SystemCallTrap,
    UnmappedMemory,
)
from isagen.emulator.events import Device, Fault, MemoryAccess, RunResult, StopReason, SystemCall, Trap
from isagen.emulator.snapshots import Snapshot

__all__ = [
    "Device",
    "Emulator",
    "EmulatorError",
    "Fault",
    "GuestError",
    "GuestTrap",
    "IllegalInstruction",
    "MemoryAccess",
    "MemoryFault",
    "MisalignedFetch",
    "ProtectedMemory",
    "RunResult",
    "Snapshot",
    "StopReason",
    "SystemCall",
    "SystemCallTrap",
    "Trap",
    "UnmappedMemory",
]
