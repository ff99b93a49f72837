"""Templates of executors: what `runtime.cpu.templates` wrote at build time, read again.

The file is one line of JSON and then all templates' texts. The line is an object:

* ``format``: `FORMAT`; ``llvm``: the version of LLVM whose text this is;
* ``functions``: names of the functions that regions call, in the order of the CPU block's table of helpers;
* ``templates``: one a executor, in their order; null: the interpreter has to execute it. Else an object of
  the fields of
  `Template`.

A text is lines of LLVM's language with holes: ``\\x01`` the prefix of an instance's names, ``\\x02n2\\x03``
the number in the slot at byte 2, ``\\x02r2\\x03`` the register offset there, ``\\x02end KIND [VALUE]\\x03``
how it ends, ``\\x07NAME\\x04RESULT\\x04LABEL\\x04ARGUMENTS...\\x06`` a call of the floating-point library,
``\\x0eNAME\\x04RESULT\\x04ARGUMENTS...\\x0f`` a call that executes further turns of the instruction,
``\\x05KIND\\x04SIZE\\x04ADDRESS\\x04VALUE\\x04LABEL\\x04BASE\\x04OFFSET\\x06`` an access to guest memory.
Registers are the pointers ``%gOFFSET``. The text begins with its first block's label, ``\\x01a``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from runtime.cpu.package import TEMPLATES
from runtime.errors import IsagenError

FORMAT: Final = 4


class Template(NamedTuple):
    """What a region has to know of an executor."""

    op: int
    size: int
    """Bytes of its record."""
    text: str
    slots: tuple[tuple[int, str], ...]
    """Offset in the record, and kind: register, wide (a register of 16 bytes), i16, i32, i64."""
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    """Offsets of register slots."""
    state_reads: tuple[int, ...]
    state_writes: tuple[int, ...]
    """Registers that it always means: bytes from the end of the block's header."""
    ends: tuple[str, ...]
    """Of: next, leave, skip, taken0 .. taken3, taken_annulled0 .., jump, jump_annulled."""
    targets: tuple[int, ...]
    """Offsets of its target slots."""
    guard: bool
    skip_slot: int
    accesses: int
    calls: tuple[str, ...]


class Templates:
    """A target's templates by the executors' numbers."""

    def __init__(self, header: Mapping[str, Any], text: str) -> None:
        self.functions: tuple[str, ...] = tuple(header["functions"])
        self.record_size: int | None = header["record_size"]
        self.first: int = header["first"]
        self._rows: list[dict[str, Any] | None] = header["templates"]
        self._text = text
        self._known: dict[int, Template | None] = {}

    def get(self, op: int) -> Template | None:
        """The template of an executor, or None."""
        if op not in self._known:
            position = op - self.first
            row = self._rows[position] if 0 <= position < len(self._rows) else None
            self._known[op] = None if row is None else self._made(op, row)
        return self._known[op]

    def _made(self, op: int, row: Mapping[str, Any]) -> Template:
        start, size = row["text"]
        return Template(
            op=op,
            size=row["size"],
            text=self._text[start : start + size],
            slots=tuple((at, kind) for at, kind in row["slots"]),
            reads=tuple(row["reads"]),
            writes=tuple(row["writes"]),
            state_reads=tuple(row["state_reads"]),
            state_writes=tuple(row["state_writes"]),
            ends=tuple(row["ends"]),
            targets=tuple(row["targets"]),
            guard=row["guard"],
            skip_slot=row["skip_slot"],
            accesses=row["accesses"],
            calls=tuple(row["calls"]),
        )


def encode(
    shapes: Sequence[Any],
    templates: Mapping[str, Mapping[str, Any]],
    record_size: int | None,
    first: int,
    functions: Iterable[str],
    llvm: str,
) -> bytes:
    """The content of a target's `TEMPLATES`; `shapes` are its `runtime.cpu.threading.Shape`s in order."""
    rows: list[dict[str, Any] | None] = []
    texts: list[str] = []
    place = 0
    for shape in shapes:
        found = templates.get(shape.symbol)
        if found is None:
            rows.append(None)
            continue
        text = found["text"]
        rows.append(
            {
                **found,
                "text": [place, len(text)],
                "size": shape.size,
                "targets": list(shape.targets),
                "guard": shape.guard,
                "skip_slot": shape.skip_slot,
            }
        )
        texts.append(text)
        place += len(text)
    header = {
        "format": FORMAT,
        "llvm": llvm,
        "record_size": record_size,
        "first": first,
        "functions": list(functions),
        "templates": rows,
    }
    line = json.dumps(header, separators=(",", ":"), sort_keys=True)
    return (line + "\n" + "".join(texts)).encode("ascii")


def load_templates(directory: Path) -> Templates:
    """The templates of the built target in `directory`. Raises IsagenError."""
    try:
        line, _, text = (directory / TEMPLATES).read_bytes().decode("ascii").partition("\n")
        header = json.loads(line)
        if header["format"] != FORMAT:
            raise ValueError("another format")
        return Templates(header, text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"no usable templates of the translator here ({type(error).__name__}: {error})"
        raise IsagenError(what, where=str(directory), remedy="isagen build --force TARGET") from error
