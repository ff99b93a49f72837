"""Register windows in executors: one form of access for windowed and global registers.

Where an operand may be an entry of a windowed file or of an ordinary one (SPARC's r registers), an executor
for each combination would multiply their number by two for each operand. Instead a slot says which it is: a
byte offset in the CPU block if it is not negative; else the distance from the present window's first entry,
less the size of the file. So

    place = slot if slot >= 0 else file + ((pointer * stride + slot) mod size)

in bytes. Such accesses are ``ReadReg(width, "@", place)`` and ``WriteReg("@", place, value)`` in residual
bodies.
"""

from __future__ import annotations

from collections.abc import Callable

from generator.emit.layout import Layout
from generator.ir import build, nodes
from generator.ir.effects import subexpressions
from generator.ir.nodes import DYNAMIC, Const, Expr, kind_of
from generator.model.target import Operand, Register, Target

PLACE = "@"
"""The register name of an access by place."""


class Windows:
    """The windowed file of a target, and the files that share operands with it."""

    def __init__(self, target: Target, layout: Layout) -> None:
        self._layout = layout
        self._registers = {register.name: register for register in target.registers}
        windowed = [register for register in target.registers if register.window is not None]
        self._file: Register | None = windowed[0] if len(windowed) == 1 else None
        self._shared: frozenset[str] = frozenset()
        if self._file is None or self._file.window is None:
            return
        size = layout.field(self._file.name).stride * (self._file.count or 0)
        if size & (size - 1):
            self._file = None
            return
        self._shared = frozenset(
            name
            for form in target.forms
            for operand in form.operands
            for name in _companions(operand, self._file.name)
        )

    def place(self, name: str, index: Expr, number: Callable[[Expr], Expr], *, write: bool) -> Expr | None:
        """The byte offset of an access, 64 bits; `number` makes slots. None: an access like any other."""
        file = self._file
        if file is None or file.window is None or (name != file.name and name not in self._shared):
            return None
        if name == file.name:
            distance = self._distance(index)
            if distance is None:
                return None
            slot = number(self._windowed(distance))
        elif kind_of(index) == DYNAMIC:
            return None
        else:
            slot = number(self._plain(name, index, write=write))
        field = self._layout.field(file.name)
        size = field.stride * field.count
        pointer = nodes.ReadReg(self._registers[file.window.pointer].width, file.window.pointer, None)
        step = build.const(64, (file.window.stride * field.stride).bit_length() - 1)
        base = build.binary("shl", build.zext(pointer, 64), step)
        inside = build.binary("and", build.binary("add", base, slot), build.const(64, size - 1))
        windowed = build.binary("add", inside, build.const(64, field.offset))
        return build.select(build.binary("slt", slot, build.const(64, 0)), windowed, slot, True)

    def _distance(self, index: Expr) -> Expr | None:
        """The decode-time part of ``pointer * stride + distance``."""
        if isinstance(index, nodes.Binary) and index.op == "add":
            for distance, base in ((index.left, index.right), (index.right, index.left)):
                if kind_of(distance) != DYNAMIC and self._is_base(base):
                    return distance
        return Const(index.width, 0) if self._is_base(index) else None

    def _is_base(self, expr: Expr) -> bool:
        assert self._file is not None and self._file.window is not None
        dynamic = [part for part in subexpressions(expr) if isinstance(part, nodes.ReadReg | nodes.Local)]
        return [getattr(part, "register", "") for part in dynamic] == [self._file.window.pointer]

    def _windowed(self, distance: Expr) -> Expr:
        assert self._file is not None
        field = self._layout.field(self._file.name)
        scale = build.const(64, field.stride.bit_length() - 1)
        offset = build.binary("shl", build.zext(distance, 64), scale)
        return build.binary("sub", offset, build.const(64, field.stride * field.count))

    def _plain(self, name: str, index: Expr, *, write: bool) -> Expr:
        field = self._layout.field(name)
        scale = build.const(64, field.stride.bit_length() - 1)
        offset = build.binary("shl", build.zext(index, 64), scale)
        place = build.binary("add", offset, build.const(64, field.offset))
        zero = self._registers[name].zero
        if not write or zero is None:
            return place
        is_zero = build.binary("eq", index, build.const(index.width, zero))
        return build.select(is_zero, build.const(64, self._layout.sink), place)


def _companions(operand: Operand, windowed: str) -> set[str]:
    """Files whose entries `operand` may be, if it may be one of the windowed file."""
    files = {case.register_file for case in operand.cases if case.register_file}
    found = files - {windowed} if windowed in files else set()
    for case in operand.cases:
        for nested in case.operands:
            found |= _companions(nested, windowed)
    return found
