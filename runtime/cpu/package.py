"""Built targets: reading a target's folder and loading its code. Needs neither LLVM nor numba.

A folder holds ``engine.json`` (written by `generator.emit.manifest`), the decode tables, and the code: object
files, and an image of all of them (`runtime.cpu.image`) where the build could link them. A loaded package
serves any number of CPUs.
"""

from __future__ import annotations

import ctypes
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from runtime.cpu import symbols, tables
from runtime.errors import IsagenError

FILE: Final = "engine.json"
BUILD_FILE: Final = "build.json"
"""What a build writes last: ``checks`` has the CRC-32 of each file by name."""
TEMPLATES: Final = "translator.bin"
"""The translator's templates of a target, where it has some."""
REMEDY: Final = "build the target again: isagen build --force TARGET"


class RegisterInfo:
    """A register, or a file of `count` registers: where it lies in the CPU block, behind the header."""

    __slots__ = (
        "count", "hidden", "lazy", "name", "names", "offset", "reset", "stored_width", "stride",
        "width", "zero",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        width: int,
        stored_width: int,
        offset: int,
        stride: int,
        count: int | None,
        zero: int | None,
        names: tuple[str, ...],
        reset: int,
        lazy: bool,
        hidden: bool,
    ) -> None:
        self.name = name
        self.width = width
        self.stored_width = stored_width
        self.offset = offset
        self.stride = stride
        self.count = count
        self.zero = zero
        self.names = names
        self.reset = reset
        self.lazy = lazy
        self.hidden = hidden


class PackageError(IsagenError):
    """A target's folder that can't be used."""


class TargetPackage:
    """A target that is ready to run: its description, decode tables and native functions."""

    def __init__(self, directory: Path, description: dict[str, Any], table: bytes) -> None:
        self.directory = directory
        self.name: str = description["target"]
        self.family: str = description["family"]
        self.pc_width: int = description["pc_width"]
        self.big_endian: bool = description["big_endian"]
        self.pc_reset: int = description["pc_reset"]
        self.traps: tuple[str, ...] = tuple(description["traps"])
        self.features: tuple[str, ...] = tuple(description["features"])
        self.default_features: tuple[str, ...] = tuple(description["default_features"])
        self.cpus: dict[str, tuple[str, ...]] = {
            name: tuple(features) for name, features in description.get("cpus", {}).items()
        }
        """CPU models: the features that each has."""
        self.cpu_titles: dict[str, str] = description.get("cpu_titles", {})
        self.implied: dict[str, tuple[str, ...]] = {
            name: (*rules["implies"], *rules["requires"])
            for name, rules in description["feature_rules"].items()
        }
        """What each feature brings with it."""
        self.banks: dict[str, dict[str, int]] = description.get("banks", {})
        """Banks of system registers: the numbers of those that can be read, by name."""
        layout = description["layout"]
        self.layout_digest: str = layout["digest"]
        self.state_size: int = layout["size"]
        self.sink: int = layout["sink"]
        """Offset of the entry that takes what is written to zero registers."""
        self.registers = {
            row["name"]: RegisterInfo(**{**row, "names": tuple(row["names"])}) for row in layout["registers"]
        }
        self._table = ctypes.create_string_buffer(table, len(table))
        self.tables = ctypes.addressof(self._table)
        """Host address of the decode tables."""
        self.unit = self.table_field(tables.H_UNIT)
        """Bytes that instructions are aligned to."""
        self.delayed = bool(self.table_field(tables.H_DELAY))
        """Whether jumps have delay slots, and the CPU a second program counter."""
        self._code: Code
        self._functions: dict[str, Callable[..., int]] = {}
        self.run_calling: Callable[[int], int]
        """`symbols.RUN` for CPUs whose hooks it calls (`block.HOOK_CALL`): Python's lock stays held, and what
        a hook raised is raised."""

    @cached_property
    def build_digest(self) -> str:
        """A digest of what the target was built from, as its build noted it; empty for one without a note."""
        try:
            return str(json.loads((self.directory / BUILD_FILE).read_bytes()).get("fingerprint", ""))
        except (OSError, ValueError):
            return ""

    def closed(self, names: Iterable[str]) -> tuple[str, ...]:
        """Features and all that they imply or require, in the target's order; unknown names at the end."""
        found: dict[str, None] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found[name] = None
                todo += self.implied.get(name, ())
        return (*(n for n in self.features if n in found), *(n for n in found if n not in self.features))

    @property
    def has_templates(self) -> bool:
        """Whether the target can be translated: see `runtime.cpu.translator`."""
        return (self.directory / TEMPLATES).is_file()

    def table_field(self, offset: int) -> int:
        """A field of the tables' header."""
        value: int = struct.unpack_from("<q", self._table, offset)[0]
        return value

    def load(self, code: Code) -> None:
        """Take native code into use. Raises PackageError."""
        self._code = code
        for symbol, count in symbols.EXPORTS.items():
            address = code.address(symbol)
            if not address:
                raise PackageError(f"the code doesn't define {symbol}", where=str(self.directory))
            prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)
            self._functions[symbol] = prototype(address)
        self.run_calling = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address(symbols.RUN))

    def function(self, symbol: str) -> Callable[..., int]:
        """A native function of the cold code (`runtime.cpu.symbols.EXPORTS`) over 64-bit integers."""
        return self._functions[symbol]

    def symbol_address(self, symbol: str) -> int:
        """The host address of a function of the target's objects, 0 if there is none."""
        return self._code.address(symbol)

    def shared_function(self, name: str, count: int) -> Callable[..., int] | None:
        """The spec's shared function `name` with `count` arguments behind the block's address, or None."""
        address = self._code.address(f"isagen_fn_{name}")
        if not address:
            return None
        return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * (count + 1))(address)


class Code(Protocol):
    """Native code in this process."""

    size: int
    """Bytes that it takes."""

    def address(self, symbol: str) -> int:
        """The host address of a symbol, 0 if there is none."""
        ...


def check_files(directory: Path, names: list[str]) -> None:
    """Compare files with the sums in `BUILD_FILE`, where there is one: damaged code would take us along."""
    record = directory / BUILD_FILE
    if not record.is_file():
        return
    sums = json.loads(record.read_bytes())["checks"]
    for name in names:
        if zlib.crc32((directory / name).read_bytes()) != sums.get(name):
            raise PackageError(
                "the file isn't the one that was built", where=str(directory / name), remedy=REMEDY
            )


def load_target(directory: Path) -> TargetPackage:
    """Load the built target in `directory`. Raises PackageError if there is none that can be used."""
    try:
        description = json.loads((directory / FILE).read_bytes())
        table = (directory / description["tables"]).read_bytes()
        if len(table) < tables.HEADER_SIZE or struct.unpack_from("<QQ", table) != (tables.MAGIC, len(table)):
            raise PackageError("the decode tables are damaged", where=str(directory), remedy=REMEDY)
        names = [description["image"]] if description["image"] else description["objects"]
        check_files(directory, [description["tables"], *names])
        package = TargetPackage(directory, description, table)
        files = [directory / name for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"no usable target here ({type(error).__name__}: {error})"
        raise PackageError(what, where=str(directory), remedy=REMEDY) from error
    package.load(_code(files) if description["image"] is None else _image(files[0]))
    return package


def _image(file: Path) -> Code:
    from runtime.cpu.image import ImageError, map_file

    try:
        return map_file(file)
    except (OSError, ImageError) as error:
        raise PackageError(f"the code can't be loaded: {error}", where=str(file), remedy=REMEDY) from error


def _code(files: Sequence[Path]) -> Code:
    """Where the build couldn't link: LLVM does it each time."""
    from runtime.cpu.objects import LoadedObjects

    try:
        return LoadedObjects([file.read_bytes() for file in files])
    except (RuntimeError, OSError) as error:
        where = str(files[0].parent)
        raise PackageError(f"the object files can't be loaded: {error}", where=where) from error
