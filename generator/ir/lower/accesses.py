"""Loads that are the first half of a read-modify-write are marked, so that they fault as the write would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from generator.ir.lower.addresses import with_shared_addresses
from generator.ir.nodes import Atomic, Block, ForRange, ForSet, If, Load, Stmt, Store


def mark_updates(block: Sequence[Stmt], inside_atomic: bool = False) -> Block:
    """`block` with `probe_write` set on loads whose address a later statement of the same block stores to.

    In an `atomic`, stores in nested blocks count too (compare and swap).
    """
    result: list[Stmt] = []
    for number, statement in enumerate(block):
        match statement:
            case Load(probe_write=False) if _stored(statement, block[number + 1 :], inside_atomic):
                result.append(replace(statement, probe_write=True))
            case If(condition=condition, then=then, otherwise=otherwise):
                result.append(
                    If(condition, mark_updates(then, inside_atomic), mark_updates(otherwise, inside_atomic))
                )
            case ForRange(body=body) | ForSet(body=body):
                result.append(replace(statement, body=mark_updates(body, inside_atomic)))
            case Atomic(body=body):
                result.append(Atomic(mark_updates(with_shared_addresses(body), True)))
            case _:
                result.append(statement)
    return tuple(result)


def _stored(load: Load, following: Sequence[Stmt], deep: bool) -> bool:
    for statement in following:
        match statement:
            case Store() if (
                statement.space == load.space
                and statement.value.width == load.local.width
                and statement.address == load.address
            ):
                return True
            case If(then=then, otherwise=otherwise) if deep and (
                _stored(load, then, deep) or _stored(load, otherwise, deep)
            ):
                return True
    return False
