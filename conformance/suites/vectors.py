"""Recorded results from a folder: decode rows and state rows, file by file."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from conformance.results import Row
from conformance.setup import Setup
from conformance.tasks import Options, Task
from conformance.vectors import reader
from conformance.vectors.arm import A32, A64
from conformance.vectors.arm7 import Arm7
from conformance.vectors.decoding import MODES, DecodeRows
from conformance.vectors.opcodes import Opcodes
from conformance.vectors.ppc import Ppc, Xenia
from conformance.vectors.ppc_valgrind import Valgrind as PpcValgrind
from conformance.vectors.riscv import Valgrind
from conformance.vectors.states import StateFormat
from conformance.vectors.x86 import Intel8086, Intel80286
from runtime.errors import IsagenError

STATES: Mapping[str, tuple[tuple[str, ...], type[StateFormat]]] = {
    "riscv/state-valgrind": (("riscv64",), Valgrind),
    "ppc/state-dingusppc": (("ppc",), Ppc),
    "ppc/state-valgrind": (("ppc", "ppc64"), PpcValgrind),
    "ppc/state-xenia": (("ppc64",), Xenia),
    "aarch64/state-valgrind": (("aarch64",), A64),
    "arm/state-valgrind": (("arm",), A32),
    "arm/state-arm7tdmi-early": (("arm",), Arm7),
    "x86/state-8086-real16": (("i8086",), Intel8086),
    "x86/state-80286-real16": (("i8086",), Intel80286),
}
"""State files that are read: for which targets, and how."""

DECODING = (
    "riscv/decode",
    "aarch64/decode",
    "arm/decode",
    "ppc/decode",
    "ppc/decode-dingusppc",
    "sparc/decode",
    "x86/decode",
    "x86/decode-xed",
    "x86/decode-zydis",
    "x86/decode-iced-ops",
)


def items(setup: Setup, options: Options) -> list[str]:
    """The parts of files about the target. Raises `IsagenError` if the folder has none at all."""
    folder = Path(options.vectors)
    if not any(folder.glob(f"*/*{reader.SUFFIX}")):
        raise IsagenError("there are no vectors here", where=str(folder), remedy="see --vectors")
    names = [name for name, (targets, _) in STATES.items() if setup.target in targets]
    if setup.target in MODES:
        families = {setup.family, "aarch64"} if setup.target == "aarch64" else {setup.family}
        names += [name for name in DECODING if name.split("/")[0] in families]
    found = []
    for name in names:
        path = folder / f"{name}{reader.SUFFIX}"
        if path.is_file():
            found += [f"{name}:{n}" for n in range(-(-reader.count(path) // reader.CHUNK))]
    return [name for name in found if fnmatchcase(name, options.forms)]


def _checker(name: str, task: Task) -> StateFormat | DecodeRows:
    """What reads a file's rows."""
    if name in STATES:
        return STATES[name][1](task)
    return Opcodes(task) if name.endswith("-ops") else DecodeRows(task)


def run(task: Task) -> list[Row]:
    """A row for each part."""
    rows = []
    for item in task.items:
        name, number = item.rsplit(":", 1)
        row = Row("vectors", task.setup.name, item)
        checker = _checker(name, task)
        for data in reader.chunk(Path(task.options.vectors) / f"{name}{reader.SUFFIX}", int(number)):
            checker.check(row, data)
        rows.append(row)
    return rows
