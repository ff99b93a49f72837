"""How often each instruction is executed: the engine's counters over all executable memory of a guest."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from runtime.cpu.engine import Cpu
from runtime.cpu.exits import Exit
from runtime.memory.regions import EXECUTE, PAGE_SIZE


class Counters:
    """Counts on `cpu`. `run` stands in for its run: executable mappings come and go."""

    def __init__(self, cpu: Cpu, run: Callable[[int], Exit]) -> None:
        self.cpu = cpu
        self._run = run
        self._unit = cpu.package.unit
        self._tables: dict[tuple[int, int], tuple[mmap.mmap, int]] = {}
        """By first and last address: a u64 for each unit, and its host address."""
        self._active: list[tuple[int, int, int]] = []

    def run(self, budget: int) -> Exit:
        """As `Cpu.run`."""
        self._follow()
        return self._run(budget)

    def _follow(self) -> None:
        """Have a table for all that is executable now."""
        wanted = [
            (region.start, region.end - 1)
            for region in self.cpu.memory
            if region.permissions & EXECUTE and region.ram is not None
        ]
        rows = [(*bounds, self._table(bounds)) for bounds in wanted]
        if rows != self._active:
            self._active = rows
            self.cpu.set_counters(rows)

    def _table(self, bounds: tuple[int, int]) -> int:
        if bounds not in self._tables:
            size = 8 * -(-(bounds[1] + 1 - bounds[0]) // self._unit)
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
            memory = mmap.mmap(-1, -(-size // PAGE_SIZE) * PAGE_SIZE, flags=flags)
            self._tables[bounds] = memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return self._tables[bounds][1]

    def counts(self) -> dict[int, int]:
        """Executions by address, of the instructions that were executed."""
        found: dict[int, int] = {}
        for (start, _), (memory, _) in self._tables.items():
            # Untouched pages are holes: `find` of a page of zeros is far quicker than looking at each number.
            for page in range(0, len(memory), PAGE_SIZE):
                data = memory[page : page + PAGE_SIZE]
                if data.count(0) == PAGE_SIZE:
                    continue
                for index, count in enumerate(memoryview(data).cast("Q")):
                    if count:
                        address = start + (page // 8 + index) * self._unit
                        found[address] = found.get(address, 0) + count
        return found
