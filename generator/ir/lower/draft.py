"""The body under way: its statements so far, its locals, and what the names in it stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from generator.ir import build
from generator.ir.lower.entities import Elaboration, Entity
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean
from generator.ir.lower.scope import Binding, Column, Scope
from generator.ir.nodes import DECODE, Assign, Expr, If, Let, Local, Stmt, kind_of
from generator.language import syntax as s
from generator.language.source import Pos

MAX_INLINE_DEPTH = 48
MAX_INLINED = 20_000  # calls in one body: beyond, its size has exploded


class Draft:
    """A body under way: an instruction's (`shared` False), a shared function's (True), or a lone expression
    (`pure`).

    `pure` bodies emit no statements: values are substituted where they are named, and memory accesses, traps
    and calls are mistakes.

    choices          the case that stands for each operand, by the operand's path
    opcode_width     bits of the encoding's one number; 0: it has none
    out              the statements of the block under way
    mutable          names of the locals that are assigned more than once
    result_widths    of the function whose statements are lowered
    function         the function that is being inlined
    hint             the name that a load's or call's local should get
    failed           whether a statement was mistaken
    """

    def __init__(
        self,
        spec: Elaboration,
        *,
        shared: bool = False,
        pure: bool = False,
        choices: Mapping[str, int] | None = None,
        opcode_width: int = 0,
    ) -> None:
        self.spec = spec
        self.shared = shared
        self.pure = pure
        self.choices = dict(choices or {})
        self.opcode_width = opcode_width
        self.out: list[Stmt] = []
        self.mutable: set[str] = set()
        self.result_widths: tuple[int, ...] = ()
        self.function: s.FnItem | None = None
        self.hint = ""
        self.failed = False
        self._taken: dict[str, int] = {}
        self._depth = 0
        self._inlined = 0
        self._columns: set[int] = set()

    # --- the block ---------------------------------------------------------------------------

    def emit(self, statement: Stmt, at: Pos) -> None:
        """`statement` as the next one of the block. Raises Mistake in `pure` bodies."""
        if self.pure:
            raise Mistake(at, "only a value may stand here: no memory access, call, loop, trap or assignment")
        self.out.append(statement)
        if self.spec.report.places is not None:
            self.spec.report.places.note(statement, at)

    @contextmanager
    def block(self) -> Iterator[list[Stmt]]:
        """Statements emitted inside go into the yielded list."""
        outer, self.out = self.out, []
        try:
            yield self.out
        finally:
            self.out = outer

    def fresh(self, name: str, width: int) -> Local:
        """A local with a name that this body doesn't use yet."""
        count = self._taken.get(name, 0) + 1
        self._taken[name] = count
        unique = name if count == 1 else f"{name}_{count}"
        if count > 1 and unique in self._taken:
            return self.fresh(unique, width)
        self._taken.setdefault(unique, 1)
        return Local(width, unique)

    def settled(self, expr: Expr) -> bool:
        """Whether `expr` keeps its value whatever is written: decode-time, or an immutable local."""
        if isinstance(expr, Local):
            return expr.name not in self.mutable
        return self.pure or kind_of(expr) <= DECODE

    def settle(self, expr: Expr, name: str, at: Pos) -> Expr:
        """`expr`'s value at this point, to be used later."""
        if self.settled(expr):
            return expr
        local = self.fresh(name, expr.width)
        self.emit(Let(local, expr), at)
        return local

    def join(
        self,
        condition: Expr,
        then: tuple[list[Stmt], tuple[Expr, ...]],
        otherwise: tuple[list[Stmt], tuple[Expr, ...]],
        at: Pos,
    ) -> tuple[Expr, ...]:
        """The values of one of two branches: `Select` if they have no statements, else locals set in both."""
        for one, other in zip(then[1], otherwise[1], strict=True):
            if one.width != other.width:
                raise Mistake(
                    at, f"the alternatives have {one.width} and {other.width} bits", "make them equally wide"
                )
        if not then[0] and not otherwise[0]:
            return tuple(build.select(condition, a, b) for a, b in zip(then[1], otherwise[1], strict=True))
        results: list[Local] = []
        for value in then[1]:
            local = self.fresh("result", value.width)
            self.mutable.add(local.name)
            results.append(local)
        blocks: list[tuple[Stmt, ...]] = []
        for statements, values in (then, otherwise):
            assigns: list[Stmt] = [Assign(r, v) for r, v in zip(results, values, strict=True)]
            blocks.append((*statements, *assigns))
        self.emit(If(condition, blocks[0], blocks[1]), at)
        for local in results:
            self.mutable.discard(local.name)  # nothing sets it behind this
        return tuple(results)

    # --- names -------------------------------------------------------------------------------

    def look_up(self, name: str, scope: Scope, at: Pos) -> Binding | Entity:
        """What `name` stands for. Raises Mistake, or Poisoned if its definition was mistaken."""
        found = scope.find(name)
        if found is not None:
            return found
        entity = self.spec.entities.get(name)
        if entity is not None:
            return entity
        if name in self.spec.broken:
            raise Poisoned
        known = [*scope.all_names(), *self.spec.entities]
        raise Mistake(at, f"there is no `{name}` here", did_you_mean(name, known))

    @contextmanager
    def column(self, column: Column, at: Pos) -> Iterator[s.Expr]:
        """The cell's expression, guarded against cells that name their own column."""
        key = id(column)
        if key in self._columns:
            raise Mistake(column.expression.at, "this column's value names the column itself")
        self._columns.add(key)
        try:
            yield column.expression
        finally:
            self._columns.discard(key)

    @contextmanager
    def deeper(self, at: Pos, name: str) -> Iterator[None]:
        """What is lowered inside belongs to the function, view or context `name`. Raises Mistake if too many
        are in each other, or too many altogether.
        """
        self._depth += 1
        self._inlined += 1
        try:
            if self._inlined > MAX_INLINED:
                raise Mistake(
                    at,
                    f"this behaviour inlines more than {MAX_INLINED} calls",
                    "make a long function a `shared fn`",
                )
            if self._depth > MAX_INLINE_DEPTH:
                raise Mistake(
                    at, f"`{name}` calls itself", "only a `shared fn` is called; others are inlined"
                )
            yield
        finally:
            self._depth -= 1

    @contextmanager
    def inlined(self, function: s.FnItem, widths: tuple[int, ...]) -> Iterator[None]:
        """Statements inside are those of `function`, whose results are `widths` bits wide."""
        outer = self.function, self.result_widths, self.hint
        self.function, self.result_widths, self.hint = function, widths, ""
        try:
            yield
        finally:
            self.function, self.result_widths, self.hint = outer
