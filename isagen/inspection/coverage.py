"""Coverage by source line, in lcov's format ("geninfo(1)", section FILES)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from isagen.inspection.objects import MappedFile, MappedFiles


class FileCoverage:
    """One source file: executions by line, and of functions by name with their first line."""

    def __init__(self) -> None:
        self.lines: dict[int, int] = {}
        self.functions: dict[str, tuple[int, int]] = {}


def coverage(files: MappedFiles, counts: Mapping[int, int]) -> dict[str, FileCoverage]:
    """Executions of all lines of all mapped files that have a line table, executed or not.

    A line counts as often as its most executed instruction.
    """
    touched: dict[int, tuple[MappedFile, dict[int, int]]] = {}
    for address, count in counts.items():
        file = files.at(address)
        if file is not None:
            touched.setdefault(id(file), (file, {}))[1][address] = count
    found: dict[str, FileCoverage] = defaultdict(FileCoverage)
    for file, executed in touched.values():
        for row in file.rows:
            if row.file and row.line:
                found[row.file].lines.setdefault(row.line, 0)
        for address, count in executed.items():
            at = file.line_at(address)
            if at is not None:
                lines = found[at.file].lines
                lines[at.line] = max(lines[at.line], count)
        for function in file.functions:
            at = file.line_at(function.start)
            if at is not None and at.address == function.start:
                found[at.file].functions[function.name] = (at.line, executed.get(function.start, 0))
    return dict(found)


def as_lcov(found: Mapping[str, FileCoverage]) -> str:
    """The tracefile."""
    lines = ["TN:"]
    for name, file in sorted(found.items()):
        lines.append(f"SF:{name}")
        for function, (line, _) in sorted(file.functions.items(), key=lambda item: (item[1][0], item[0])):
            lines.append(f"FN:{line},{function}")
        for function, (_, count) in sorted(file.functions.items(), key=lambda item: (item[1][0], item[0])):
            lines.append(f"FNDA:{count},{function}")
        lines.append(f"FNF:{len(file.functions)}")
        lines.append(f"FNH:{sum(1 for _, count in file.functions.values() if count)}")
        lines += [f"DA:{line},{count}" for line, count in sorted(file.lines.items())]
        lines.append(f"LF:{len(file.lines)}")
        lines.append(f"LH:{sum(1 for count in file.lines.values() if count)}")
        lines.append("end_of_record")
    return "\n".join([*lines, ""])


def write(path: Path, found: Mapping[str, FileCoverage]) -> str:
    """Write the tracefile; a sentence about it."""
    path.write_text(as_lcov(found), encoding="utf-8")
    total = sum(len(file.lines) for file in found.values())
    hit = sum(1 for file in found.values() for count in file.lines.values() if count)
    if not total:
        return f"{path}: no source lines: the program has no debugging information (compile it with -g)"
    return f"{path}: {hit} of {total} lines executed ({100 * hit / total:.1f} %), in {len(found)} files"
