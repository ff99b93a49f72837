# mypy: disable-error-code="no-untyped-call, misc, assignment, name-defined, attr-defined"
"""Python functions to LLVM text through numba, fast: the front half of the ahead-of-time compiler. Build time
only.

numba's usual pipeline spends most of its time on what generated code never needs (reference counting,
wrappers, parfors, per-function optimisation and linking). Here every function takes and returns 64-bit
integers and calls only primitives, so five passes suffice, call signatures are looked up once a type, and the
text that results is not even parsed: the caller puts many functions into one module and optimises that
(`runtime.cpu.compile`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from numba.core import compiler, ir, types, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.cpu import CPUContext
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering, NoPythonBackend, NopythonTypeInference
from numba.core.untyped_passes import FixupArgs, IRProcessing, TranslateByteCode

INT: Final = types.int64
"""The type of everything in generated code: registers, addresses, records."""


class _Typing(typing.Context):
    """A typing context that remembers call signatures. Nothing here depends on literal values, so constants
    share.
    """

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}
        super().__init__()
        super().refresh()

    def refresh(self) -> None:
        """Next to never is anything new registered while generated code compiles."""

    def resolve_value_type(self, val: Any) -> Any:
        try:
            return super().resolve_value_type(val)
        except ValueError:  # a primitive that was defined since
            super().refresh()
            return super().resolve_value_type(val)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        plain = tuple(types.unliteral(argument) for argument in args)
        if kws:
            return super().resolve_function_type(func, plain, kws)
        key = (func, plain)
        if key not in self._known:
            self._known[key] = super().resolve_function_type(func, plain, kws)
        return self._known[key]


class _Context(CPUContext):
    """A code generation context that looks for new primitives only where one is missing."""

    _ready = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.operators: dict[Any, Any] = {}
        """Implementations by operator and types of its operands."""

    def refresh(self) -> None:
        if not self._ready:
            self._ready = True
            super().refresh()

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Any:
        try:
            return super().get_function(fn, sig, _firstcall=False)
        except NotImplementedError:
            super().refresh()
            return super().get_function(fn, sig, _firstcall=False)

    def post_lowering(self, mod: Any, library: Any) -> None:
        """No reference counting, nothing to link."""


class _Text:
    """Stands for numba's code library: keeps the module's text and leaves parsing and optimising to the
    caller.
    """

    def __init__(self, codegen: Any, name: str) -> None:
        self.name = name
        self.codegen = codegen
        self.modules: list[Any] = []
        self.recorded_timings: list[Any] = []
        self._reload_init: set[Any] = set()

    def enable_object_caching(self) -> None:
        """Nothing is cached: only the final object is."""

    def create_ir_module(self, name: str) -> Any:
        return self.codegen._create_empty_module(name)

    def add_ir_module(self, module: Any) -> None:
        self.modules.append(module)

    def finalize(self) -> None:
        """Nothing to link."""


class _Lower(Lower):
    """Lowers one function without describing each statement for errors and debuggers first, and with an
    operator's implementation looked up once for its operands' types.
    """

    def lower_block(self, block: Any) -> None:
        self.pre_block(block)
        for statement in block.body:
            self.loc = statement.loc
            self.lower_inst(statement)
        self.post_block(block)

    def lower_inst(self, inst: Any) -> None:
        if isinstance(inst, ir.Assign):
            name = inst.target.name
            self.storevar(self.lower_assign(self.typeof(name), inst), name)
        elif isinstance(inst, ir.Del):
            self.delvar(inst.value)
        else:
            super().lower_inst(inst)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        signature = self.fndesc.calltypes[expr]
        key = (op, signature.args)
        if key not in self.context.operators:
            function = self.context.typing_context.resolve_value_type(op)
            chosen = function.get_call_type(self.context.typing_context, signature.args, {})
            self.context.operators[key] = self.context.get_function(function, chosen)
        arguments = [
            self.context.cast(self.builder, self.loadvar(operand.name), self.typeof(operand.name), wanted)
            for operand, wanted in zip((expr.lhs, expr.rhs), signature.args, strict=True)
        ]
        result = self.context.operators[key](self.builder, arguments)
        return self.context.cast(self.builder, result, signature.return_type, resty)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "isagen_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return _Lower


class _Pipeline(compiler.CompilerBase):
    def define_pipelines(self) -> list[Any]:
        passes = PassManager("isagen")
        for step in (
            TranslateByteCode,
            FixupArgs,
            IRProcessing,
            NopythonTypeInference,
            _Lowering,
            NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


def _flags() -> Any:
    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"  # no checks that raise
    flags.enable_pyobject = False
    return flags


class Lowerer:
    """Lowers functions of 64-bit integers to LLVM text; `target_context` is for primitives that need it."""

    def __init__(self) -> None:
        self.typing_context = _Typing()
        self.target_context = _Context(self.typing_context, "cpu")
        self.target_context.refresh()

    def lower(self, function: Callable[..., Any], symbol: str, attributes: str = "") -> str:
        """LLVM text that defines `symbol`: ``i64 (i64, ...)``, from a Python function of integers.

        `attributes` are LLVM's for the function, e.g. "alwaysinline" or "noinline".
        The text may repeat declarations that other functions' texts have too: see `join`.
        """
        count = function.__code__.co_argcount
        with global_compiler_lock:
            library = _Text(self.target_context.codegen(), symbol)
            result = compiler.compile_extra(
                self.typing_context,
                self.target_context,
                function,
                (INT,) * count,
                INT,
                _flags(),
                {},
                library=library,
                pipeline_class=_Pipeline,
            )
        text = "".join(str(module) for module in library.modules)
        return text + _plain(symbol, result.fndesc.llvm_func_name, count, attributes)


def _plain(symbol: str, mangled: str, count: int, attributes: str) -> str:
    """A function in C's convention around one in numba's (status returned, result through a pointer)."""
    parameters = ", ".join(f"i64 %a{i}" for i in range(count))
    arguments = ", ".join(["ptr %slot", "ptr %error", *(f"i64 %a{i}" for i in range(count))])
    return f"""
define i64 @{symbol}({parameters}) nounwind {attributes} {{
  %slot = alloca i64
  %error = alloca ptr
  %status = call i32 @"{mangled}"({arguments})
  %result = load i64, ptr %slot
  ret i64 %result
}}
"""


_ENVIRONMENT = re.compile(r'^@"?_ZN08NumbaEnv\S* = common global .*$\n?', re.MULTILINE)
_HEADER = re.compile(r"^(?:; ModuleID|target |source_filename).*$\n?", re.MULTILINE)
_DECLARE = re.compile(r"^declare .*$\n?", re.MULTILINE)
METADATA: Final = """
!0 = !{}
!1 = !{!"branch_weights", i32 1000, i32 1}
!2 = !{!"branch_weights", i32 1, i32 1000}
"""
"""What the numbers of metadata mean in all texts: 0 nothing (invariant loads), 1 likely, 2 unlikely."""

_MANGLED = re.compile(r'^define (?:linkonce_odr )?i32 @(?="?_ZN)', re.MULTILINE)
_DEFINED = re.compile(r'^define [^@\n]*@"?([\w.$]+)', re.MULTILINE)
_NAME = re.compile(r'@"?([\w.$]+)')
_ATTRIBUTES = re.compile(r"^!\d+ = .*$\n?", re.MULTILINE)


def join(texts: Iterable[str]) -> str:
    """One module from the texts of many: declarations once, numba's environments and headers left out.

    numba marks integer arithmetic as never overflowing ("nsw"); in generated code it wraps, so the marks go.
    What numba defines becomes private to the module; the plain functions stay visible.
    """
    bodies = []
    for text in texts:
        text = _ATTRIBUTES.sub("", _HEADER.sub("", _ENVIRONMENT.sub("", text)))
        text = re.sub(r"\b(add|sub|mul|shl) nsw\b", r"\1", text)
        bodies.append(_MANGLED.sub("define internal i32 @", text))
    whole = "\n".join(bodies)
    defined = set(_DEFINED.findall(whole))
    declarations = {}
    for line in _DECLARE.findall(whole):
        found = _NAME.search(line)
        if found is not None and found.group(1) not in defined:
            declarations[found.group(1)] = line.strip()
    return "\n".join([*declarations.values(), _DECLARE.sub("", whole), METADATA])
