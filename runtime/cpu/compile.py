"""The ahead-of-time compiler: a generated package to object code. Build time only: imports numba.

numba turns every executor, shared function and function of the cold code into LLVM text
(`runtime.cpu.lowering`); the threaded code is written around the executors (`runtime.cpu.threading`). The
work is cut into parts, always the same ones for the same input, so that the objects do not depend on how many
processes compile them:

* ``cold``: the run loop, the decoder and the slow memory accesses, alike for all targets;
* ``steps-N``: executors with their steps;
* ``functions-N``: shared functions;
* ``entry``: the dispatch table and `isagen_threaded`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import llvmlite.binding as llvm

from runtime.cpu import block, native, symbols, templates
from runtime.cpu.lowering import Lowerer, join
from runtime.cpu.primitives import definitions, external
from runtime.cpu.support import SUPPORT
from runtime.cpu.threading import Shape, Threading
from runtime.cpu.translator.template import encode
from runtime.softfloat.symbols import FUNCTIONS

PART_SIZE: Final = 12
"""Executors in a part, about: a change of one compiles these again."""
LEVEL: Final = 2
"""LLVM's optimisation level, of passes and of code generation."""

_lowerer: Lowerer | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A unit of compilation: `kind` is cold, steps, functions or entry; `names` what of the package belongs
    to it.
    """

    kind: str
    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Object:
    """Compiled code: an ELF (or Mach-O, COFF) relocatable object."""

    name: str
    code: bytes
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Steps: the translator's templates by executor (`runtime.cpu.templates`)."""


class Package:
    """The generated modules that are compiled: `executors` and `functions` in `directory`."""

    def __init__(self, directory: Path) -> None:
        digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
        self.functions = _load(directory, f"isagen_generated_{digest}", "functions")
        self.executors = _load(directory, f"isagen_generated_{digest}", "executors")
        self.shapes: tuple[Shape, ...] = self.executors.SHAPES
        self.record_size: int | None = getattr(self.executors, "RECORD_SIZE", None)
        self._sources: dict[str, Mapping[str, str]] = {}
        self.function_names = tuple(function.__name__ for function in self.functions.FUNCTIONS)

    def callable(self, module: ModuleType, name: str) -> Callable[..., Any]:
        """A function of a generated module that calls shared functions as C functions."""
        function = getattr(module, name)
        assert isinstance(function, FunctionType)
        names = dict(module.__dict__)
        for shared in self.functions.FUNCTIONS:
            names[shared.__name__] = external(f"fn_{shared.__name__}", shared.__code__.co_argcount)
        return FunctionType(function.__code__, names, name)

    def source(self, module: ModuleType, name: str) -> str:
        """What a function of a generated module says, with the values of the constants that it names and the
        widths of the shared functions that it calls.
        """
        code = getattr(module, name).__code__
        calls = {shared.__name__: shared.__code__.co_argcount for shared in self.functions.FUNCTIONS}
        constants = {
            used: calls.get(used, module.__dict__.get(used))
            for used in code.co_names
            if used in calls or isinstance(module.__dict__.get(used), int)
        }
        return f"{self._statements(module)[name]}\n{sorted(constants.items())}"

    def _statements(self, module: ModuleType) -> Mapping[str, str]:
        """Functions of a generated module, by name, without their comments and descriptions."""
        if module.__name__ not in self._sources:
            text = Path(str(module.__file__)).read_text()
            found = re.findall(r"^def (\w+)(\(.*?)(?=^def |^\w|\Z)", text, re.MULTILINE | re.DOTALL)
            plain = re.compile(r'^ +(?:#.*|"""(?:.|\n)*?""")\n', re.MULTILINE)
            self._sources[module.__name__] = {name: plain.sub("", body) for name, body in found}
        return self._sources[module.__name__]


def _load(directory: Path, package: str, name: str) -> ModuleType:
    """Import a generated module from wherever it is."""
    if package not in sys.modules:
        parent = ModuleType(package)
        parent.__path__ = [str(directory)]
        sys.modules[package] = parent
    full = f"{package}.{name}"
    sys.modules.pop(full, None)
    spec = importlib.util.spec_from_file_location(full, directory / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{directory / name}.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


# --- parts --------------------------------------------------------------------------------------------------


def _cut(names: Sequence[str]) -> list[tuple[str, ...]]:
    """`names` in parts that depend on names alone: a new one changes one part."""
    count = 1 << max(0, (len(names) // PART_SIZE).bit_length() - 1)
    found: list[list[str]] = [[] for _ in range(count)]
    for name in names:
        found[zlib.crc32(name.encode()) % count].append(name)
    return [tuple(part) for part in found if part]


def parts(package: Package) -> list[Part]:
    """Everything there is to compile."""
    steps = _cut([shape.symbol for shape in package.shapes])
    functions = _cut(package.function_names)
    return [
        Part("cold", "cold"),
        *(Part("functions", f"functions-{number}", names) for number, names in enumerate(functions)),
        *(Part("steps", f"steps-{number}", names) for number, names in enumerate(steps)),
        Part("entry", "entry"),
    ]


def source_of(package: Package, part: Part) -> str:
    """All of the package that the part is compiled from, as text. Comments, which name lines of specs, and
    the functions' own descriptions don't count.
    """
    shapes = {shape.symbol: shape for shape in package.shapes}
    match part.kind:
        case "cold":
            return ""
        case "entry":
            return repr((package.record_size, package.function_names, list(shapes)))
        case "functions":
            texts = [package.source(package.functions, name) for name in part.names]
        case _:
            texts = [repr(shapes[name]) + package.source(package.executors, name) for name in part.names]
    return "\n".join([repr(package.record_size), *texts])


# --- LLVM text ----------------------------------------------------------------------------------------------


def _lower(function: Callable[..., Any], symbol: str, attributes: str = "") -> str:
    global _lowerer
    if _lowerer is None:
        _lowerer = Lowerer()
    return _lowerer.lower(function, symbol, attributes)


def _executor_texts(package: Package, names: Sequence[str]) -> list[str]:
    return [_lower(package.callable(package.executors, name), f"do_{name}", "alwaysinline") for name in names]


def _steps_text(package: Package, names: Sequence[str], texts: Sequence[str]) -> str:
    threading = Threading(package.record_size)
    shapes = {shape.symbol: shape for shape in package.shapes}
    steps = [threading.step(f"step_{name}", shapes[name]) for name in names]
    return join([*texts, *steps, threading.common(), definitions()])


def _templates(
    package: Package, names: Sequence[str], texts: Sequence[str], machine: Any
) -> dict[str, dict[str, Any]]:
    """The translator's templates of some executors."""
    shapes = {shape.symbol: shape for shape in package.shapes}
    before, behind = templates.module_text([shapes[name] for name in names])
    module = optimised(
        join([*texts, behind, before]), machine, lambda name: name.startswith(templates.PREFIX)
    )
    return templates.extract(str(module), shapes)


def _functions_text(package: Package, names: Sequence[str]) -> str:
    texts = []
    for name in names:
        function = package.callable(package.functions, name)
        texts.append(_lower(function, f"fn_{name}", "noinline"))
        texts.append(_exported(name, function.__code__.co_argcount))
    return join([*texts, definitions()])


def _exported(name: str, count: int) -> str:
    """The function as the cold code calls it: with the CPU block's address."""
    parameters = ", ".join(["i64 %s", *(f"i64 %a{n}" for n in range(1, count))])
    arguments = ", ".join(["i64 %cpu", *(f"i64 %a{n}" for n in range(1, count))])
    return f"""
define i64 @isagen_fn_{name}({parameters}) nounwind {{
  %cpu = add i64 %s, {block.HEADER_SIZE}
  %status = tail call i64 @fn_{name}({arguments})
  ret i64 %status
}}
"""


def _absent(symbol: str, count: int) -> str:
    parameters = ", ".join("i64" for _ in range(count))
    return f"define i64 @{symbol}({parameters}) nounwind {{\n  ret i64 {symbols.STATUS_ABSENT}\n}}\n"


def _entry_text(package: Package) -> str:
    threading = Threading(package.record_size)
    texts = [threading.entry([f"step_{shape.symbol}" for shape in package.shapes]), SUPPORT]
    have = {f"isagen_fn_{name}" for name in package.function_names}
    for symbol, count in symbols.IMPORTS.items():
        if symbol != symbols.THREADED and symbol not in have:
            texts.append(_absent(symbol, count))
    return join(texts)


def _cold_text() -> str:
    lowered = [_lower(function, symbol) for symbol, function in native.functions().items()]
    return join([*lowered, definitions()])


def text_of(package: Package, part: Part) -> str:
    """The LLVM text of a part, not optimised."""
    match part.kind:
        case "cold":
            return _cold_text()
        case "steps":
            return _steps_text(package, part.names, _executor_texts(package, part.names))
        case "functions":
            return _functions_text(package, part.names)
        case _:
            return _entry_text(package)


def templates_file(package: Package, found: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The content of the translator's file of a target; `found`: all parts' templates."""
    version = ".".join(str(number) for number in llvm.llvm_version_info)
    functions = [*FUNCTIONS, symbols.COPY_AHEAD, symbols.FILL_AHEAD]
    return encode(package.shapes, found, package.record_size, block.FIRST_EXECUTOR, functions, version)


# --- machine code -------------------------------------------------------------------------------------------


def target_machine() -> Any:
    """LLVM's description of the host, generic within its architecture: objects may move to other machines."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # 128-bit exchanges are written in assembly language
    return llvm.Target.from_default_triple().create_target_machine(opt=LEVEL, reloc="pic", codemodel="small")


def optimised(text: str, machine: Any, visible: Callable[[str], bool]) -> Any:
    """The module of `text`, optimised; what is not `visible` is private to it."""
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if not function.is_declaration and not visible(function.name):
            function.linkage = "internal"
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _visible(part: Part) -> Callable[[str], bool]:
    if part.kind == "cold":
        return symbols.EXPORTS.__contains__
    if part.kind == "steps":
        return re.compile(r"step_").match  # type: ignore[return-value]
    return lambda name: name.startswith(("fn_", "isagen_"))


def compile_part(package: Package, part: Part) -> Object:
    """Compile one part of the package."""
    machine = target_machine()
    if part.kind != "steps":
        module = optimised(text_of(package, part), machine, _visible(part))
        return Object(part.name, machine.emit_object(module))
    texts = _executor_texts(package, part.names)
    module = optimised(_steps_text(package, part.names, texts), machine, _visible(part))
    return Object(part.name, machine.emit_object(module), _templates(package, part.names, texts, machine))


def compile_package(directory: Path) -> list[Object]:
    """Compile the package in `directory`, one part after the other."""
    package = Package(directory)
    return [compile_part(package, part) for part in parts(package)]
