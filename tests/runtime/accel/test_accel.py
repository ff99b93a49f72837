"""The accelerator contract: choosing one, and a machine on another one than the engine."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from machines.machine import Ending
from machines.virt import Virt
from runtime.accel.choice import choose
from runtime.accel.contract import Vcpu
from runtime.accel.engine import EngineAccelerator
from runtime.cpu.engine import Cpu, load_target
from runtime.errors import IsagenError, NotYetError
from tests.machines.boards import HELLO, board, text_of


def test_names() -> None:
    assert choose("auto", "riscv64").name == choose("tcg", "riscv64").name == "engine"
    with pytest.raises(IsagenError, match="host's own kind"):
        choose("kvm", "riscv64" if platform.machine() != "riscv64" else "ppc")
    with pytest.raises(NotYetError):
        choose("kvm", platform.machine())
    with pytest.raises(IsagenError, match="no accelerator"):
        choose("xen", "riscv64")


class Counting:
    """A CPU that stands between: only what the contract has."""

    allowed = frozenset(name for name, _ in inspect.getmembers(Vcpu) if not name.startswith("_"))

    def __init__(self, cpu: Cpu) -> None:
        object.__setattr__(self, "inner", cpu)
        object.__setattr__(self, "runs", 0)

    def __getattr__(self, name: str) -> Any:
        assert name in self.allowed, f"{name} isn't in the contract"
        if name == "run":
            object.__setattr__(self, "runs", self.runs + 1)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self.allowed, f"{name} isn't in the contract"
        setattr(self.inner, name, value)


class Between:
    name = "between"

    def vcpu(self, package: Any, memory: Any, features: Any) -> Any:
        return Counting(EngineAccelerator().vcpu(package, memory, features))


def test_a_machine_asks_for_nothing_beyond_the_contract(
    tmp_path: Path, require_target: Callable[[str], Path]
) -> None:
    from isagen.monitors import control_of
    from machines.debugger import MachineDebuggee
    from machines.monitor.human import HumanMonitor

    folder = require_target("riscv64")
    made = board(tmp_path, HELLO)
    settings = made.settings
    made.machine.close()
    virt = Virt(settings, load_target(folder), None, accelerator=Between())
    text = text_of(virt)
    machine = virt.machine
    assert machine.run(2).ending is Ending.LIMIT
    saved = machine.snapshot()
    human = HumanMonitor(control_of(virt))
    assert "mhartid" not in human.execute("info registers") and "pc" in human.execute("info registers")
    debuggee = MachineDebuggee(machine, None, human.execute)
    assert debuggee.write_register(1, "mscratch", 5) and debuggee.read_register(1, "mscratch") == 5
    debuggee.set_breakpoints(frozenset({0x80000000}))
    debuggee.set_breakpoints(frozenset())
    debuggee.set_watchpoints(frozenset())
    assert machine.run(10_000).ending is Ending.OFF and text == b"Hi"
    machine.restore(saved)
    assert machine.run(10_000).ending is Ending.OFF and text == b"HiHi"
    assert machine.harts[0].cpu.runs > 4
    machine.close()
