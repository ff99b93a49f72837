"""Accelerators by name."""

from __future__ import annotations

import platform
from typing import Final

from runtime.accel.contract import Accelerator
from runtime.errors import IsagenError, NotYetError

NAMES: Final = ("auto", "engine", "kvm")
ALIASES: Final = {"auto": "engine", "tcg": "engine"}
"""``tcg`` is what QEMU calls its own."""


def choose(name: str, target: str, *, translate: bool = False, program: bytes = b"") -> Accelerator:
    """The accelerator `name` for a target. Raises IsagenError where it can't run that here."""
    name = ALIASES.get(name, name)
    if name == "engine":
        from runtime.accel.engine import EngineAccelerator

        return EngineAccelerator(translate=translate, program=program)
    if name == "kvm":
        host = platform.machine()
        if target != host:
            raise IsagenError(
                f"KVM runs guests of the host's own kind ({host}), not {target}", remedy="take --accel engine"
            )
        raise NotYetError("KVM isn't an accelerator yet", remedy="take --accel engine")
    raise IsagenError(f"there is no accelerator {name!r}", remedy=f"take one of {', '.join(NAMES)}")
