"""Stores in an `atomic` share the address of the load of the same place, and only of the same."""

from __future__ import annotations

from generator.ir.lower.accesses import mark_updates
from generator.ir.nodes import Atomic, Binary, Const, Expr, Let, Load, Local, ReadReg, Stmt, Store, WriteReg

VALUE = Local(32, "value")
TRUE = Const(1, 1)


def at(offset: int) -> Expr:
    return Binary(32, "add", ReadReg(32, "x", Const(3, 2)), Const(32, offset))


def update(between: tuple[Stmt, ...] = (), offset: int = 8) -> tuple[Load, Store]:
    """The accesses of ``mem[x2 + 8] = mem[x2 + offset]`` whose addresses were computed one by one."""
    first, second = Local(32, "a"), Local(32, "a_2")
    load = (Let(first, at(8)), Load(VALUE, first, "data", TRUE))
    store = (Let(second, at(offset)), Store(second, VALUE, "data", TRUE))
    (atomic,) = mark_updates((Atomic((*load, *between, *store)),))
    assert isinstance(atomic, Atomic)
    loaded, stored = (s for s in atomic.body if isinstance(s, Load | Store))
    assert isinstance(loaded, Load) and isinstance(stored, Store)
    return loaded, stored


def test_one_place_has_one_address() -> None:
    load, store = update()
    assert store.address == load.address and load.probe_write


def test_another_place_keeps_its_own() -> None:
    load, store = update(offset=12)
    assert store.address != load.address and not load.probe_write


def test_a_register_that_changes_makes_another_place() -> None:
    load, store = update((WriteReg("x", Const(3, 2), Const(32, 0)),))
    assert store.address != load.address and not load.probe_write


def test_another_register_does_not() -> None:
    load, store = update((WriteReg("flag", None, Const(1, 0)),))
    assert store.address == load.address
