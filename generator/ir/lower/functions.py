"""Shared functions and banks: bodies that are compiled once and called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from generator.ir import build
from generator.ir.lower.body import Body
from generator.ir.lower.entities import Elaboration, SharedFunction, StateElement
from generator.ir.lower.flow import always_leaves
from generator.ir.lower.places import element_place
from generator.ir.lower.report import Mistake, plural
from generator.ir.lower.scope import Scope, Values
from generator.ir.lower.state import known_register, span_of
from generator.ir.nodes import Block, Const, Expr, If, Local, Return, Stmt
from generator.language import syntax as s
from generator.model.target import Bank, BankRow, Function

MAX_ROWS = 1 << 16
_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")


def shared_functions(spec: Elaboration) -> list[Function]:
    """All `shared fn`s, in the spec's order."""
    result: list[Function] = []
    for fn in spec.family.functions.values():
        entity = spec.entities.get(fn.name)
        if fn.shared and isinstance(entity, SharedFunction):
            with spec.report.recover(fn.at):
                result.append(_function(spec, fn, entity))
    return result


def _function(spec: Elaboration, fn: s.FnItem, entity: SharedFunction) -> Function:
    body = Body(spec, shared=True)
    scope = _parameters(body, entity)
    body.draft.result_widths = entity.results
    body.statements.lower_all(fn.body.body, scope)
    if entity.results and not body.draft.failed and not always_leaves(body.draft.out):
        raise Mistake(fn.at, f"`{fn.name}` does not return a value on every path", "end it with `return`")
    return Function(
        name=fn.name,
        parameters=entity.parameters,
        results=entity.results,
        body=tuple(body.draft.out),
        restartable=fn.restartable,
        span=span_of(fn.at),
    )


def _parameters(body: Body, entity: SharedFunction) -> Scope:
    scope = Scope()
    for parameter in entity.parameters:
        body.draft.fresh(parameter.name, parameter.width)
        scope.names[parameter.name] = Values((parameter,))
    return scope


# --- banks --------------------------------------------------------------------------------------------------


@dataclass
class _Row:
    first: int
    last: int
    item: s.BankRowNode
    bank: s.BankItem


def banks(spec: Elaboration) -> tuple[list[Bank], list[Function]]:
    """The models of all banks, and their access functions."""
    models: list[Bank] = []
    functions: list[Function] = []
    for parts in spec.family.banks.values():
        with spec.report.recover(parts[0].at):
            model, access = _bank(spec, parts)
            models.append(model)
            functions += access
    return models, functions


def _bank(spec: Elaboration, parts: Sequence[s.BankItem]) -> tuple[Bank, list[Function]]:
    item = parts[0]
    read, write = spec.entities.get(f"{item.name}_read"), spec.entities.get(f"{item.name}_write")
    if not isinstance(read, SharedFunction) or not isinstance(write, SharedFunction):
        raise Mistake(item.at, f"the names {item.name}_read and {item.name}_write belong to this bank")
    rows: list[_Row] = []
    for part in parts:
        for row in part.rows:
            with spec.report.recover(row.at):
                found = _row(spec, part, row, read.parameters[0].width)
                if found is not None:
                    rows.append(found)
    models: list[BankRow] = []
    for found in rows:
        readable, writable = _access(spec, found.item)
        models += [
            BankRow(
                first=n,
                last=n,
                name=_row_name(found.item.name, n - found.first, found.first != found.last),
                readable=readable,
                writable=writable,
                span=span_of(found.item.at),
            )
            for n in range(found.first, found.last + 1)
        ]
    width = read.results[0]
    model = Bank(name=item.name, index_width=read.parameters[0].width, width=width, rows=tuple(models))
    return model, [
        _access_function(spec, item, rows, read, False),
        _access_function(spec, item, rows, write, True),
    ]


def _row(spec: Elaboration, bank: s.BankItem, item: s.BankRowNode, width: int) -> _Row | None:
    body = Body(spec, pure=True)
    first = body.widths.require_const(item.first, Scope(), "a system register's number")
    last = (
        body.widths.require_const(item.last, Scope(), "a system register's number")
        if item.last is not None
        else first
    )
    if not 0 <= first <= last < 1 << width:
        raise Mistake(item.at, f"the numbers {first:#x} to {last:#x} are no range of {plural(width, 'bit')}")
    if last - first >= MAX_ROWS:
        raise Mistake(item.at, f"a range of more than {MAX_ROWS} numbers")
    if item.when is not None and body.constants.condition(item.when, Scope()) is False:
        return None
    return _Row(first, last, item, bank)


def _row_name(name: str, offset: int, ranged: bool) -> str:
    """The name of one number of a range: the last number in the name counts up."""
    match = _NUMBER.fullmatch(name)
    if not ranged:
        return name
    if match is None:
        return f"{name}{offset}"
    return f"{match.group(1)}{int(match.group(2)) + offset}{match.group(3)}"


def _access(spec: Elaboration, item: s.BankRowNode) -> tuple[bool, bool]:
    """Whether a row can be read and written. Without clauses it is the register of its name."""
    if item.read is None and item.write is None:
        return True, True
    return item.read is not None, item.write is not None


def _access_function(
    spec: Elaboration, bank: s.BankItem, rows: list[_Row], entity: SharedFunction, writes: bool
) -> Function:
    """`<bank>_read` or `<bank>_write`: a balanced tree of comparisons of the number, so that its depth is
    small.
    """
    body = Body(spec, shared=True)
    scope = _parameters(body, entity)
    body.draft.result_widths = entity.results
    number = entity.parameters[0]

    def otherwise(inner: Scope) -> Block:
        with body.draft.block() as out:
            body.statements.lower_all(bank.otherwise.body, inner.inner())
            if entity.results and not always_leaves(out):
                raise Mistake(
                    bank.otherwise.at, f"`else` of the bank `{bank.name}` gives no value", "let it `raise`"
                )
        return tuple(out)

    starts = {0, *(r.first for r in rows), *(r.last + 1 for r in rows)}
    edges = sorted(start for start in starts if start < 1 << number.width)
    leaves: list[tuple[int, Block]] = []
    for start in edges:
        matching = [r for r in rows if r.first <= start <= r.last]
        block: Block = otherwise(scope)
        for row in reversed(matching):
            with spec.report.recover(row.item.at):
                block = _leaf(spec, body, row, scope, writes, block)
        leaves.append((start, block))
    body.draft.out.extend(_tree(number, leaves))
    return Function(
        name=entity.name,
        parameters=entity.parameters,
        results=entity.results,
        body=tuple(body.draft.out),
        span=span_of(bank.at),
    )


def _tree(number: Local, leaves: list[tuple[int, Block]]) -> Block:
    merged: list[tuple[int, Block]] = []
    for start, block in leaves:
        if not merged or merged[-1][1] != block:
            merged.append((start, block))
    if len(merged) == 1:
        return merged[0][1]
    middle = len(merged) // 2
    condition = build.binary("ult", number, Const(number.width, merged[middle][0]))
    return (If(condition, _tree(number, merged[:middle]), _tree(number, merged[middle:])),)


def _leaf(spec: Elaboration, body: Body, row: _Row, outer: Scope, writes: bool, otherwise: Block) -> Block:
    """One row's access, or `otherwise` where its `when` or its features say that it is not there."""
    item = row.item
    scope = outer.inner()
    if row.bank.index.name not in scope.outer.names:  # type: ignore[union-attr]
        scope.names[row.bank.index.name] = Values((next(iter(outer.names.values())).items[0],))  # type: ignore[union-attr]
    with body.draft.block() as out:
        conditions: list[Expr] = [body.calls.feature(n.name, n.at) for n in item.needs]
        if item.when is not None:
            conditions.append(body.expressions.condition(item.when, scope))
        condition = build.conjunction(conditions)
    statements: list[Stmt] = list(out)
    if condition == build.FALSE:
        return otherwise
    with body.draft.block() as inner:
        exists = _write_access(spec, body, item, scope) if writes else _read_access(spec, body, item, scope)
    if not exists:
        return otherwise
    if condition is None:
        return (*statements, *inner)
    return (*statements, If(condition, tuple(inner), otherwise))


def _read_access(spec: Elaboration, body: Body, item: s.BankRowNode, scope: Scope) -> bool:
    width = body.draft.result_widths[0]
    if item.read is None:
        if item.write is not None:
            return False
        element = _plain_register(spec, item, width)
        value = element_place(element, None).read(body.draft, item.at)
        body.draft.emit(Return((value,)), item.at)
        return True
    if isinstance(item.read, s.BlockStmt):
        body.statements.lower_all(item.read.body, scope.inner())
        if not body.draft.failed and not always_leaves(body.draft.out):
            raise Mistake(item.read.at, f"reading `{item.name}` does not return a value on every path")
        return True
    body.draft.emit(Return((body.expr(item.read, scope, width),)), item.at)
    return True


def _write_access(spec: Elaboration, body: Body, item: s.BankRowNode, scope: Scope) -> bool:
    if item.write is None:
        if item.read is not None:
            return False
        found = scope.find("new")
        assert isinstance(found, Values)
        element = _plain_register(spec, item, found.items[0].width)
        element_place(element, None).write(body.draft, found.items[0], item.at)
    else:
        body.statements.lower_all(item.write.body, scope.inner())
    if not always_leaves(body.draft.out):
        body.draft.emit(Return(()), item.at)
    return True


def _plain_register(spec: Elaboration, item: s.BankRowNode, width: int) -> StateElement:
    element = known_register(spec, item.name, item.at)
    if element.width != width:
        raise Mistake(
            item.at,
            f"the register `{item.name}` has {plural(element.width, 'bit')}, and the bank {width}",
            "say how it is read and written: read zext(...) write ...",
        )
    return element
