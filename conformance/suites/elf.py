"""Programs from a folder: those that check themselves and end by ``tohost``, and those that leave a
signature.

A file with a reference (``NAME.reference_output``, ``NAME.signature`` or ``NAME.reference``, for NAME with or
without its suffix, beside it or in a folder ``references`` there or next to its folder) passes if the words
between begin_signature and end_signature are the reference's; any other passes if it ends with code 0. Files
for other targets than the task's are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Final

from conformance.results import Failure, Row
from conformance.setup import Setup
from conformance.tasks import Options, Task, command_for
from machines.bare import BareMachine
from runtime.elf import ElfFile, open_elf
from runtime.errors import IsagenError

LIMIT: Final = 200_000_000
"""Instructions after which a program is given up."""
REFERENCES: Final = (".reference_output", ".signature", ".reference")


def items(setup: Setup, options: Options) -> list[str]:
    """The target's programs, by path in the folder. Raises `IsagenError` if the folder has no ELF file at
    all.
    """
    folder = Path(options.elf)
    programs = list(elf_files(folder))
    if not programs:
        raise IsagenError("there is no ELF file here", where=str(folder), remedy="see --elf-dir")
    model = setup.model
    names = [
        path.relative_to(folder).as_posix()
        for path, elf in programs
        if (elf.machine, elf.bits) == (model.elf_machine, model.elf_class)
    ]
    return [name for name in names if fnmatchcase(name, options.forms)]


def elf_files(folder: Path) -> Iterator[tuple[Path, ElfFile]]:
    """The folder's ELF files, in order; what isn't one is passed over."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                with path.open("rb") as file:
                    if file.read(4) != b"\x7fELF":
                        continue
                yield path, open_elf(str(path))
            except (OSError, IsagenError):
                continue


def reference_of(path: Path) -> Path | None:
    """The reference that belongs to a program."""
    folders = (path.parent, path.parent / "references", path.parent.parent / "references")
    for folder, name, suffix in product(folders, (path.name, path.stem), REFERENCES):
        found = folder / (name + suffix)
        if found.is_file() and found != path:
            return found
    return None


def run(task: Task) -> list[Row]:
    """A row for each program."""
    return [run_program(task, item) for item in task.items]


def run_program(task: Task, item: str) -> Row:
    """Run one program on a bare machine."""
    row = Row("elf", task.setup.name, item, cases=1)
    path = Path(task.options.elf) / item
    reference = reference_of(path)
    console = bytearray()
    try:
        machine = BareMachine(task.setup.package, console=lambda _, data: console.extend(data))
        machine.load_elf(open_elf(str(path)))
        outcome = machine.run(LIMIT)
        row.count("instructions", outcome.instructions)
        if outcome.code is None:
            problem = [f"not done after {LIMIT:,} instructions, at pc {machine.cpu.pc:#x}"]
        elif reference is not None:
            row.count("signatures")
            problem = compare(machine.signature(4), reference.read_text())
        else:
            problem = [] if outcome.code == 0 else [f"it ended with code {outcome.code}"]
    except IsagenError as error:
        problem = [str(error)]
    except UnicodeDecodeError:
        problem = [f"the reference {reference} isn't text"]
    if problem:
        if console:
            problem.append(f"console: {console[-200:].decode(errors='replace')!r}")
        command = command_for(task, item, None, "--elf-dir", task.options.elf)
        row.fail(Failure("the program and the target", item, tuple(problem), command))
    return row


def compare(found: str, expected: str) -> list[str]:
    """How a signature differs from its reference: words of 32 bits, one a line."""
    ours, theirs = found.split(), [word.lower() for word in expected.split()]
    if ours == theirs:
        return []
    lines = [f"{len(ours)} words, and {len(theirs)} in the reference"] if len(ours) != len(theirs) else []
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            lines.append(f"word {number}: {a}, reference {b}")
        if len(lines) > 6:
            break
    return lines
