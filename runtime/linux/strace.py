"""Prints system calls as they happen, one a line."""

from __future__ import annotations

import errno

from runtime.linux.calls import HANDLERS
from runtime.linux.messages import say
from runtime.linux.ports import Stop
from runtime.linux.process import Process


class Strace:
    """Wraps a process's `system_call`. Arguments are numbers; results are numbers or error names."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._finished = False
        self._call = process.system_call
        process.system_call = self.system_call  # type: ignore[method-assign]
        self._finish = process.abi.finish_call
        process.abi.finish_call = self.finish_call  # type: ignore[method-assign]

    def system_call(self, stop: Stop) -> None:
        abi, cpu = self.process.abi, self.process.cpu
        number = abi.call_number(cpu)
        name = abi.call_names.get(number, f"system_call_{number}")
        count = HANDLERS[name][1] if name in HANDLERS else 6
        words = ", ".join(f"{value:#x}" if value > 9 else str(value) for value in abi.arguments(cpu, count))
        say(f"{name}({words})")
        self._finished = False
        try:
            self._call(stop)
        finally:
            if not self._finished:  # it ended the process, or set the registers itself
                say(" = ?\n")

    def finish_call(self, cpu: object, stop: Stop, result: int, error: int) -> None:
        self._finish(self.process.cpu, stop, result, error)
        self._finished = True
        if error:
            back = {guest: host for host, guest in self.process.abi.error_numbers.items()}
            say(f" = -1 {errno.errorcode.get(back.get(error, error), error)}\n")
        else:
            say(f" = {result:#x}\n" if result > 9 else f" = {result}\n")
