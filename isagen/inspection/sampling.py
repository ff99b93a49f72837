"""Call stacks at regular distances of executed instructions, for flame graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from isagen.inspection.objects import MappedFiles
from isagen.inspection.unwind import Unwinder
from runtime.cpu.engine import Cpu
from runtime.cpu.exits import Exit, Reason

FIRST_PERIOD: Final = 20_011
"""Instructions between two samples; odd, so that loops don't beat with it."""
MOST: Final = 20_000
"""Samples before the distance is doubled."""


class Sampler:
    """`run` stands in for the CPU's. `stacks`: outermost first, with the instructions that they stand for."""

    def __init__(self, cpu: Cpu, run: Callable[[int], Exit]) -> None:
        self.cpu = cpu
        self._run = run
        self._unwinder: Unwinder | None = None
        self._files: MappedFiles | None = None
        self._period = FIRST_PERIOD
        self._left = FIRST_PERIOD
        self._taken = 0
        self.samples = 0
        self.stacks: Counter[tuple[str, ...]] = Counter()

    def begin(self, files: MappedFiles) -> None:
        """The files of the process that runs on the CPU."""
        self._files = files
        self._unwinder = Unwinder(self.cpu, files)

    def run(self, budget: int) -> Exit:
        """As `Cpu.run`."""
        while True:
            before = self.cpu.executed
            end = self._run(min(budget, self._left))
            done = self.cpu.executed - before
            budget -= done
            self._left -= done
            if self._left <= 0:
                self._sample()
            if end.reason is not Reason.BUDGET or budget <= 0:
                return end

    def _sample(self) -> None:
        self._left = self._period
        if self._unwinder is None or self._files is None:
            return
        names = []
        for address in reversed(self._unwinder.stack()):
            names.append(self._files.name_at(address))
        self.stacks[tuple(names)] += self._period
        self._taken += 1
        self.samples += 1
        if self._taken >= MOST:
            self._taken //= 2
            self._period = 2 * self._period + 1
