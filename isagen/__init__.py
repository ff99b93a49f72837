"""isagen: instruction sets written once, as readable specs, become complete, fast emulators.

    from isagen import Emulator

Importing this package imports nothing heavy: what is named here is loaded when it is first used. The command
line is `isagen.cli`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from isagen.version import __version__

if TYPE_CHECKING:
    from isagen.async_machine import AsyncMachine
    from isagen.emulator import (
        Device,
        Emulator,
        EmulatorError,
        Fault,
        GuestError,
        GuestTrap,
        IllegalInstruction,
        MemoryAccess,
        MemoryFault,
        MisalignedFetch,
        ProtectedMemory,
        RunResult,
        Snapshot,
        StopReason,
        SystemCall,
        SystemCallTrap,
        Trap,
        UnmappedMemory,
    )
    from isagen.machine import ConsoleTimeout, Machine
    from runtime.errors import IsagenError

__all__ = [
    "AsyncMachine",
    "ConsoleTimeout",
    "Device",
    "Emulator",
    "EmulatorError",
    "Fault",
    "GuestError",
    "GuestTrap",
    "IllegalInstruction",
    "IsagenError",
    "Machine",
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
    "__version__",
]

ELSEWHERE = {
    "AsyncMachine": "isagen.async_machine",
    "ConsoleTimeout": "isagen.machine",
    "IsagenError": "runtime.errors",
    "Machine": "isagen.machine",
}
"""Where names lie that aren't `isagen.emulator`'s."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(ELSEWHERE.get(name, "isagen.emulator"))
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
