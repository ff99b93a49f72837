"""The generated engine as an accelerator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from runtime.cpu.engine import Cpu
from runtime.cpu.package import TargetPackage
from runtime.memory.space import AddressSpace


class EngineAccelerator:
    """Interprets; with `translate` hot code is also translated (`program`: see `Cpu.translate`)."""

    name: Final = "engine"

    def __init__(self, *, translate: bool = False, program: bytes = b"") -> None:
        self._translate = translate
        self._program = program

    def vcpu(self, package: TargetPackage, memory: AddressSpace, features: Iterable[str] | None) -> Cpu:
        """See `Accelerator.vcpu`."""
        cpu = Cpu(package, memory, system=True, features=features)
        if self._translate:
            cpu.translate(program=self._program)
        return cpu
