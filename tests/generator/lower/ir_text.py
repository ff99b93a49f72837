"""IR as text, for tests, messages and the curious: one statement a line, every width that is not obvious
written down.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.ir.nodes import (
    Assign,
    Atomic,
    Binary,
    Block,
    CallStmt,
    Const,
    Context,
    Expr,
    Field,
    ForRange,
    ForSet,
    Goto,
    If,
    Let,
    Load,
    Local,
    NextPc,
    Pc,
    Raise,
    ReadReg,
    Return,
    Select,
    Skip,
    Slice,
    Stmt,
    Store,
    Unary,
    WriteReg,
)

_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "and": "&",
    "or": "|",
    "xor": "^",
    "udiv": "/u",
    "sdiv": "/s",
    "urem": "%u",
    "srem": "%s",
    "shl": "<<",
    "lshr": ">>u",
    "ashr": ">>s",
    "rotl": "<<<",
    "rotr": ">>>",
    "eq": "==",
    "ne": "!=",
    "ult": "<u",
    "ule": "<=u",
    "slt": "<s",
    "sle": "<=s",
    "concat": "@",
}


def show(expr: Expr) -> str:
    """An expression. Fields are `$name`, contexts `%name`, registers bare; constants are `value'width`."""
    match expr:
        case Const(width=width, value=value):
            return f"{value:#x}'{width}" if value > 9 else f"{value}'{width}"
        case Field(name=name):
            return f"${name}"
        case Context(name=name):
            return f"%{name}"
        case Pc():
            return "$pc"
        case NextPc():
            return "$next_pc"
        case Local(name=name):
            return name
        case ReadReg(register=register, index=None):
            return f"[{register}]"
        case ReadReg(register=register, index=index) if index is not None:
            return f"{register}[{show(index)}]"
        case Unary(width=width, op=("zext" | "sext") as op, operand=operand):
            return f"{op}({show(operand)}, {width})"
        case Unary(op=op, operand=operand):
            return f"{op}({show(operand)})"
        case Slice(width=width, operand=operand, low=low):
            return f"{show(operand)}[{low + width - 1}:{low}]"
        case Binary(op=op, left=left, right=right):
            return f"({show(left)} {_SIGNS[op]} {show(right)})"
        case Select(condition=condition, then=then, otherwise=otherwise, strict=strict):
            name = "pick" if strict else "select"
            return f"{name}({show(condition)}, {show(then)}, {show(otherwise)})"
    raise TypeError(expr)


def show_block(block: Block, indent: str = "") -> str:
    """Statements, one a line."""
    return "\n".join(line for statement in block for line in _lines(statement, indent))


def _lines(statement: Stmt, indent: str) -> Iterator[str]:
    inner = indent + "    "
    match statement:
        case Let(local=local, value=value):
            yield f"{indent}let {local.name}:{local.width} = {show(value)}"
        case Assign(local=local, value=value):
            yield f"{indent}{local.name}:{local.width} := {show(value)}"
        case WriteReg(register=register, index=None, value=value):
            yield f"{indent}[{register}] = {show(value)}"
        case WriteReg(register=register, index=index, value=value) if index is not None:
            yield f"{indent}{register}[{show(index)}] = {show(value)}"
        case Load(local=local, address=address, space=space, little=little, probe_write=probe):
            flags = f"{space}, little={show(little)}{', update' if probe else ''}"
            yield f"{indent}load {local.name}:{local.width} <- {show(address)} ({flags})"
        case Store(address=address, value=value, space=space, little=little):
            yield f"{indent}store {show(address)} <- {show(value)} ({space}, little={show(little)})"
        case If(condition=condition, then=then, otherwise=otherwise):
            yield f"{indent}if {show(condition)}:"
            yield from (line for s in then for line in _lines(s, inner))
            if otherwise:
                yield f"{indent}else:"
                yield from (line for s in otherwise for line in _lines(s, inner))
        case ForRange(local=local, first=first, last=last, body=body):
            yield f"{indent}for {local.name}:{local.width} in {first}..{last}:"
            yield from (line for s in body for line in _lines(s, inner))
        case ForSet(local=local, mask=mask, body=body):
            yield f"{indent}for {local.name}:{local.width} in set {show(mask)}:"
            yield from (line for s in body for line in _lines(s, inner))
        case Goto(target=target, delay=delay, annul=annul):
            yield f"{indent}goto {show(target)}{' delay' if delay else ''}" + (
                f" annul {show(annul)}" if annul else ""
            )
        case Skip(condition=condition):
            yield f"{indent}skip {show(condition)}"
        case Raise(trap=trap, code=code, arguments=arguments):
            yield f"{indent}raise {trap} {show(code)} ({', '.join(map(show, arguments))})"
        case CallStmt(results=results, function=function, arguments=arguments, builtin=builtin):
            names = ", ".join(f"{r.name}:{r.width}" for r in results)
            yield (
                f"{indent}{names + ' = ' if names else ''}{'' if builtin else 'call '}{function}("
                + ", ".join(map(show, arguments))
                + ")"
            )
        case Atomic(body=body):
            yield f"{indent}atomic:"
            yield from (line for s in body for line in _lines(s, inner))
        case Return(values=values):
            yield f"{indent}return {', '.join(map(show, values))}"
