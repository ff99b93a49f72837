"""Where a program spends its instructions: functions, basic blocks, source lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isagen.inspection.objects import MappedFiles

if TYPE_CHECKING:
    from runtime.assembly.disassembler import Line

SHOWN = 15
"""Rows of each table."""
Decode = Callable[[int], "Line | None"]


@dataclass(frozen=True, slots=True)
class HotBlock:
    """Instructions that follow each other and are executed equally often."""

    start: int
    instructions: tuple[tuple[int, str], ...]
    """Address and text."""
    executions: int

    @property
    def total(self) -> int:
        return self.executions * len(self.instructions)


def blocks(counts: Mapping[int, int], decode: Decode) -> list[HotBlock]:
    """All that was executed, in blocks, the heaviest first."""
    found: list[HotBlock] = []
    current: list[tuple[int, str]] = []
    expected, executions = -1, 0
    for address in sorted(counts):
        line = decode(address)
        text = line.text if line is not None else "?"
        if current and (address != expected or counts[address] != executions):
            found.append(HotBlock(current[0][0], tuple(current), executions))
            current = []
        current.append((address, text))
        executions = counts[address]
        expected = address + (line.length if line is not None and line.length else 1)
    if current:
        found.append(HotBlock(current[0][0], tuple(current), executions))
    return sorted(found, key=lambda block: (-block.total, block.start))


def report(files: MappedFiles, counts: Mapping[int, int], decode: Decode) -> str:
    """The profile as text."""
    total = sum(counts.values())
    lines = [f"{total} instructions executed, at {len(counts)} addresses"]
    if not total:
        return lines[0] + "\n"
    functions: dict[str, int] = defaultdict(int)
    sources: dict[tuple[str, int], int] = defaultdict(int)
    for address, count in counts.items():
        functions[files.name_at(address)] += count
        row = files.line_at(address)
        if row is not None:
            sources[row.file, row.line] += count
    lines += ["", f"{'instructions':>14} {'%':>6}  function"]
    for name, count in sorted(functions.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
        lines.append(f"{count:>14} {100 * count / total:>6.2f}  {name}")
    if sources:
        lines += ["", f"{'instructions':>14} {'%':>6}  source line"]
        for (file, number), count in sorted(sources.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
            lines.append(f"{count:>14} {100 * count / total:>6.2f}  {file}:{number}")
    lines += ["", f"{'instructions':>14} {'%':>6} {'executions':>12}  block"]
    hot = blocks(counts, decode)[:SHOWN]
    for block in hot:
        place = files.label(block.start) or f"{block.start:#x}"
        row = files.line_at(block.start)
        where = f"  {row.file}:{row.line}" if row is not None else ""
        lines.append(
            f"{block.total:>14} {100 * block.total / total:>6.2f} {block.executions:>12}  {place}{where}"
        )
    for block in hot[:3]:
        lines += ["", f"{files.label(block.start) or hex(block.start)}:"]
        lines += [f"  {address:8x}:  {text}" for address, text in block.instructions[:32]]
    return "\n".join([*lines, ""])
