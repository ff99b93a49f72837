"""How guests call their system, by the Linux conventions of each architecture (`runtime.linux.abi`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from isagen.emulator.errors import EmulatorError
from isagen.emulator.events import SystemCall

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu as Engine
    from runtime.cpu.exits import Exit
    from runtime.cpu.package import TargetPackage
    from runtime.elf import ElfFile
    from runtime.linux.abi.base import Abi
    from runtime.linux.ports import Cpu, Stop
    from runtime.registers import RegisterFile

MAX_ERRNO = 4095


class _Machine:
    """What `runtime.linux.abi.for_elf` looks at."""

    def __init__(self, package: TargetPackage) -> None:
        description = json.loads((package.directory / "engine.json").read_bytes())
        self.machine: int = description["elf_machine"]
        self.bits: int = description["elf_class"]
        self.little_endian = not package.big_endian
        self.machine_name = self.name = package.name


def target_fits(package: TargetPackage, elf: ElfFile) -> None:
    """Raises EmulatorError for a program of another machine."""
    machine = _Machine(package)
    if (elf.machine, elf.bits, elf.little_endian) != (machine.machine, machine.bits, machine.little_endian):
        raise EmulatorError(
            f"a program for {elf.machine_name} ({elf.bits} bits) can't run on target {package.name}",
            where=elf.name,
        )


def abi_of(package: TargetPackage) -> Abi:
    """The conventions of a target. Raises IsagenError where there are none."""
    from runtime.linux.abi import for_elf

    return for_elf(_Machine(package))  # type: ignore[arg-type] # it looks at these attributes only


class CallingCpu:
    """A CPU as far as `Abi` uses one for system calls."""

    def __init__(self, engine: Engine, registers: RegisterFile) -> None:
        self.registers = registers
        self.engine = engine

    @property
    def pc(self) -> int:
        return self.engine.pc

    @pc.setter
    def pc(self, value: int) -> None:
        self.engine.pc = value

    def get(self, register: str) -> int:
        return self.registers.read(register)

    def set(self, register: str, value: int) -> None:
        self.registers.write(register, value)

    def retire(self, pc: int) -> None:
        self.engine.retire(pc)


class SystemCalls:
    """Recognises and answers system calls of one CPU."""

    def __init__(self, engine: Engine, registers: RegisterFile) -> None:
        self.abi = abi_of(engine.package)
        self.registers = registers
        self.cpu = cast("Cpu", CallingCpu(engine, registers))

    def _stop(self, end: Exit) -> Stop:
        from runtime.linux.ports import Stop

        name = self.registers.cpu.package.traps[end.trap]
        return Stop("trap", end.pc, 0, name=name, code=end.code, value=end.arguments[0])

    def call_at(self, end: Exit) -> SystemCall | None:
        """The system call that a trap is, or None."""
        if not self.abi.is_system_call(self._stop(end)):
            return None
        number = self.abi.call_number(self.cpu)
        arguments = tuple(self.abi.arguments(self.cpu, len(self.abi.argument_registers)))
        return SystemCall(number, self.abi.call_names.get(number, ""), arguments, end.pc)

    def finish(self, end: Exit, result: int | None) -> None:
        """Go on behind the call; `result` as the kernel returns it (-errno for errors), None: registers
        stay.
        """
        stop = self._stop(end)
        if result is None:
            self.abi.skip_call(self.cpu, stop)
        elif -MAX_ERRNO <= result < 0:
            self.abi.finish_call(self.cpu, stop, 0, self.abi.error_numbers.get(-result, -result))
        else:
            self.abi.finish_call(self.cpu, stop, result, 0)
