"""What blocks of IR do, whatever they compute: only compute, or never get to their end."""

from __future__ import annotations

from collections.abc import Sequence

from generator.ir.nodes import Assign, Block, CallStmt, ForRange, ForSet, If, Let, Raise, Return, Stmt


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


def never_ends(statement: Stmt) -> bool:
    """Whether nothing behind `statement` runs."""
    match statement:
        case Raise() | Return():
            return True
        case If(then=then, otherwise=otherwise):
            return any(map(never_ends, then)) and any(map(never_ends, otherwise))
        case _:
            return False


def always_leaves(block: Sequence[Stmt]) -> bool:
    """Whether every path through `block` returns or traps."""
    return any(never_ends(statement) for statement in block)
