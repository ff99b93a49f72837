"""What all parts of body lowering share: the block being built, local names, and the parts' signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from generator.ir.lower.entities import Elaboration, Entity
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean
from generator.ir.lower.scope import Binding, Column, Scope
from generator.ir.nodes import (
    DECODE,
    Assign,
    Block,
    CallStmt,
    Expr,
    ForRange,
    ForSet,
    If,
    Let,
    Local,
    Stmt,
    kind_of,
)
from generator.language import syntax as s
from generator.language.source import Pos

MAX_INLINE_DEPTH = 48
MAX_INLINED = 20_000  # calls in one body: beyond, its size has exploded


class Base:
    """Lowers one body: an instruction's (`shared` False), a shared function's (True), or a lone expression
    (`pure`).

    `pure` bodies emit no statements: values are substituted where they are named, and memory accesses, traps
    and calls
    are mistakes.
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
        self._taken: dict[str, int] = {}
        self._depth = 0
        self._inlined = 0
        self._columns: set[int] = set()

    # --- the block ---------------------------------------------------------------------------

    def emit(self, statement: Stmt, at: Pos) -> None:
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

    # --- the parts ---------------------------------------------------------------------------

    def const(self, node: s.Expr, scope: Scope) -> int | None:
        raise NotImplementedError

    def width(self, node: s.Expr, scope: Scope) -> int | None:
        raise NotImplementedError

    def expr(self, node: s.Expr, scope: Scope, want: int | None = None) -> Expr:
        raise NotImplementedError


def is_pure(statements: list[Stmt] | Block) -> bool:
    """Whether statements only compute: nothing outside the body's locals changes, no memory, no trap."""
    for statement in statements:
        match statement:
            case Let() | Assign() | CallStmt(builtin=True):
                pass
            case If(then=then, otherwise=otherwise):
                if not (is_pure(then) and is_pure(otherwise)):
                    return False
            case ForRange(body=body) | ForSet(body=body):
                if not is_pure(body):
                    return False
            case _:
                return False
    return True
