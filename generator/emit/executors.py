"""The generated modules `executors.py` and `functions.py`: behaviour as readable Python for numba."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from generator.emit.expression import NotYetError
from generator.emit.layout import FIRST_EXECUTOR, Layout
from generator.emit.statement import Code, World, executor_code, function_code
from generator.ir import nodes
from generator.ir.effects import RETIRED, Analysis, Jump, statements
from generator.ir.executor import Executor, Plan
from generator.ir.repeats import repeats
from generator.model.target import Function, Target

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

# Primitives that live in `runtime.cpu.wide`: those whose names end in a size, and the constructors; in
# `runtime.cpu.lanes`: those whose names end in a number of lanes.
_WIDE_NAMES = ("128", "256", "512")
_WIDE = frozenset(("wide", "huge", "giant"))
_LANEWISE = re.compile(r"[a-z]+\d+((to|with|of)\d+)?x\d+")
_MEMORY = ("read", "write", "exchange")


class EmitError(Exception):
    """A behaviour that executors cannot express yet; the message names the instruction and its place in the
    spec.
    """


@dataclass(frozen=True, slots=True)
class _Unit:
    """A function to be written out."""

    name: str
    title: str
    where: str
    lines: tuple[str, ...]
    shape: str = ""
    parameters: str = ""


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )


def _is_wide(primitive: str) -> bool:
    if primitive in _WIDE:
        return True
    return primitive.endswith(_WIDE_NAMES) and not primitive.startswith(_MEMORY)


def _module(primitive: str) -> str:
    """Where a primitive is defined."""
    if _LANEWISE.fullmatch(primitive):
        return "runtime.cpu.lanes"
    return "runtime.cpu.wide" if _is_wide(primitive) else "runtime.cpu.primitives"


def _imports(codes: Sequence[Code], extra: Mapping[str, Iterable[str]]) -> list[tuple[str, list[str]]]:
    """Import statements, as isort orders them: constants, then names."""
    used = {name for code in codes for name in code.primitives}
    modules: dict[str, set[str]] = {}
    for name in used:
        modules.setdefault(_module(name), set()).add(name)
    for module, names in extra.items():
        modules.setdefault(module, set()).update(names)
    order = sorted((module for module in modules if modules[module]), key=lambda m: (m.startswith("."), m))
    return [(module, sorted(modules[module], key=_import_order)) for module in order]


def _import_order(name: str) -> tuple[int, list[str | int]]:
    """Constants, classes, functions; numbers in names by value."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _title(users: Sequence[str]) -> str:
    """A docstring of the instructions that share an executor, cut to a line."""
    text = ", ".join(dict.fromkeys(users))
    if len(text) > 90:
        shown = text[:80].rsplit(", ", 1)[0]
        text = f"{shown} and {len(set(users)) - shown.count(', ') - 1} more"
    return text + "."


def _names(plan: Plan, codes: Sequence[Code]) -> dict[int, str]:
    """Names of the executors' functions: those that would hide what executors call get an underscore."""
    taken = {name for code in codes for name in (*code.primitives, *code.functions, *code.builtins)}
    return {e.number: f"{e.name}_" if e.name in taken else e.name for e in plan.executors}


def _shape(executor: Executor, name: str, *, delayed: bool, repeats: bool) -> str:
    """The call that builds the executor's `runtime.cpu.threading.Shape`."""
    effects = executor.effects
    body = tuple(statements(executor.body))
    arguments = [f'"{name}"', str(executor.size)]
    targets = [str(slot.offset) for slot in executor.slots if slot.kind == "target"]
    if targets:
        arguments.append(f"targets=({', '.join(targets)},)")
    flags = {
        "jumps": Jump.DYNAMIC in effects.jumps and not effects.ends_block,
        "dispatches": effects.ends_block,
        "leaves": effects.may_leave,
        "skips": effects.skips,
        "annuls": delayed and any(isinstance(stmt, nodes.Goto) for stmt in body),
        "guard": executor.guard,
        "counts": RETIRED in effects.reads | effects.writes,
        "repeats": repeats,
    }
    arguments += [f"{name}=True" for name, value in flags.items() if value]
    if executor.guard:
        skip = next(slot for slot in executor.slots if slot.kind == "skip")
        arguments.append(f"skip_slot={skip.offset}")
    return f"Shape({', '.join(arguments)})"


def _constants(world: World, codes: Sequence[Code]) -> list[tuple[str, int]]:
    text = "\n".join(line for code in codes for line in code.lines)
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return sorted((name, offset) for name, offset in world.constants.items() if name in words)


def emit_executors(target: Target, plan: Plan, layout: Layout) -> dict[str, str]:
    """The texts of `executors.py` and `functions.py`. Raises `EmitError`."""
    world = World(target, layout, Analysis(target))
    environment = _environment()
    delayed = plan.record_size is not None
    repeated = {} if delayed else repeats(plan)
    codes, units = [], []
    for executor in plan.executors:
        try:
            codes.append(executor_code(world, executor, repeated.get(executor.number), delayed=delayed))
        except NotYetError as error:
            raise EmitError(
                f"{_where(executor)}: {executor.users[0]}: executors cannot do {error} yet"
            ) from error
    names = _names(plan, codes)
    for executor, code in zip(plan.executors, codes, strict=True):
        name = names[executor.number]
        shape = _shape(executor, name, delayed=delayed, repeats=executor.number in repeated)
        units.append(_Unit(name, _title(executor.users), _where(executor), code.lines, shape=shape))
    calls = {name for code in codes for name in code.functions}
    externals = {name: count for code in codes for name, count in code.builtins.items()}
    extra = {
        "runtime.cpu.threading": ["Shape"],
        ".functions": calls,
        "runtime.cpu.primitives": ["external"] if externals else [],
    }
    executors = environment.get_template("executors.py.j2").render(
        target=target.name,
        count=len(plan.executors),
        forms=len(target.forms),
        first=FIRST_EXECUTOR,
        record_size=plan.record_size,
        imports=_with_policy(_imports(codes, extra), externals, target),
        constants=_constants(world, codes),
        externals=sorted(externals.items()),
        executors=units,
    )
    return {"executors.py": _tidy(executors), "functions.py": _functions(target, world, environment)}


def _where(item: Executor | Function) -> str:
    return f"{item.span.file}:{item.span.line}"


def _with_policy(
    imports: list[tuple[str, list[str]]], externals: Mapping[str, int], target: Target
) -> list[tuple[str, list[str]]]:
    if not externals:
        return imports
    policy = ("runtime.softfloat.policy", [f"{target.float_policy.upper()} as FLOAT_POLICY"])
    return sorted([*imports, policy], key=lambda entry: (entry[0].startswith("."), entry[0]))


def _functions(target: Target, world: World, environment: jinja2.Environment) -> str:
    codes: list[Code] = []
    units: list[_Unit] = []
    for function in target.functions:
        where = _where(function)
        try:
            code = function_code(world, function)
        except NotYetError as error:
            raise EmitError(f"{where}: {function.name}: shared functions cannot do {error} yet") from error
        parameters = ["cpu: int", *(f"{code.names[p.name]}: int" for p in function.parameters)]
        results = ", ".join(f"bits({width})" for width in function.results)
        widths = ", ".join(f"{p.name}: bits({p.width})" for p in function.parameters)
        title = f"{function.name}({widths})" + (f" -> {results}" if results else "")
        codes.append(code)
        units.append(_Unit(function.name, title, where, code.lines, parameters=", ".join(parameters)))
    externals = {name: count for code in codes for name, count in code.builtins.items()}
    extra = {"runtime.cpu.primitives": ["external"] if externals else []}
    text = environment.get_template("functions.py.j2").render(
        target=target.name,
        imports=_with_policy(_imports(codes, extra), externals, target),
        constants=_constants(world, codes),
        externals=sorted(externals.items()),
        functions=units,
    )
    return _tidy(text)


def _tidy(text: str) -> str:
    """Without the blank lines that templates leave where parts are missing: two around functions at most."""
    out: list[str] = []
    blank = 0
    most = 2 if "\ndef " in text else 1
    for line in text.rstrip().split("\n"):
        blank = 0 if line.strip() else blank + 1
        if blank <= most:
            out.append(line.rstrip())
    return "\n".join(out) + "\n"


def describe(plan: Plan) -> Mapping[str, Any]:
    """Numbers for `isagen build`: executors, guards, bytes of records."""
    sizes = [executor.size for executor in plan.executors]
    return {
        "executors": len(plan.executors),
        "guards": sum(executor.guard for executor in plan.executors),
        "largest record": max(sizes, default=0),
        "mean record": round(sum(sizes) / len(sizes), 1) if sizes else 0,
    }
