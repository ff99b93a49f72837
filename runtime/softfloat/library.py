"""Compiles the integer implementation to one self-contained LLVM module. Build time only: imports numba.

numba turns the Python functions into LLVM assembly; the entry points, which only fix the format and other
constants, are written as LLVM text. Nothing but the entry points is visible from outside, and nothing outside
is referenced.
"""

from __future__ import annotations

import typing
from typing import Any, Final

import llvmlite.binding as llvm
from numba.core import compiler, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from runtime.softfloat import arithmetic, compare, convert, encoding, extended, fast, transcendental
from runtime.softfloat.symbols import FUNCTIONS, Symbol

# Operation -> (function for any width, its constants, functions for one width that stand before it).
_CORES: Final[dict[str, tuple[Any, tuple[int, ...], dict[int, Any]]]] = {
    "add": (arithmetic.add_signed, (0,), {32: fast.add_signed_32, 64: fast.add_signed_64}),
    "sub": (arithmetic.add_signed, (1,), {32: fast.add_signed_32, 64: fast.add_signed_64}),
    "mul": (arithmetic.multiply, (), {32: fast.multiply_32, 64: fast.multiply_64}),
    "div": (arithmetic.divide, (), {32: fast.divide_32, 64: fast.divide_64}),
    "sqrt": (arithmetic.square_root, (), {32: fast.square_root_32, 64: fast.square_root_64}),
    "fma": (
        arithmetic.fused_multiply_add,
        (),
        {32: fast.fused_multiply_add_32, 64: fast.fused_multiply_add_64},
    ),
    "compare": (compare.compare, (), {}),
    "relation": (compare.relation, (), {}),
    "extremum": (compare.extremum, (), {}),
    "classify": (compare.classify, (), {}),
    "round_to_integral": (convert.round_to_integral, (), {}),
    "to_integer": (convert.to_integer, (), {32: fast.to_integer_32, 64: fast.to_integer_64}),
    "from_integer": (convert.from_integer, (), {32: fast.from_integer_32, 64: fast.from_integer_64}),
    "convert": (convert.convert, (), {32: fast.convert_32, 64: fast.convert_64}),
    **{
        f"x_{name}": (core, (), {80: core})
        for name, core in {
            "add": extended.add,
            "mul": extended.multiply,
            "div": extended.divide,
            "sqrt": extended.square_root,
            "relation": extended.relation,
            "integral": extended.round_to_integral,
            "to_integer": extended.to_integer,
            "from_integer": extended.from_integer,
            "to_narrow": extended.to_narrow,
            "from_narrow": extended.from_narrow,
            "scale": extended.scale,
            "remainder": extended.remainder,
            "exponential": transcendental.exponential,
            "logarithm": transcendental.logarithm,
            "logarithm_of_successor": transcendental.logarithm_of_successor,
            "arctangent": transcendental.arctangent,
            "trigonometric": transcendental.trigonometric,
        }.items()
    },
}

# The slow cores behind the fast paths: one copy for all widths keeps the module small.
_NOT_INLINED: Final = (
    arithmetic.add_signed,
    arithmetic.multiply,
    arithmetic.divide,
    arithmetic.square_root,
    arithmetic.fused_multiply_add,
    convert.to_integer,
    convert.from_integer,
    convert.convert,
    extended.round_extended,
    extended.propagated,
    extended.to_narrow,
    extended.to_integer,
    extended.remainder,
    transcendental.trigonometric,
)

_COMPILER: Any = compiler  # untyped
_PAIR: Final = "{ i64, i64 }"
_TYPES: Any = types  # untyped, too
_NUMBA_TYPES: Final[dict[Any, Any]] = {
    int: types.int64,
    bool: types.boolean,
    tuple[int, int]: _TYPES.UniTuple(types.int64, 2),
}


def _compile(dispatcher: Any) -> tuple[str, str]:
    """(name, LLVM assembly) of one function, unlinked: its callees, compiled before, are only declared.

    Going through the dispatcher would link, optimise and load every function by itself (a third of the time),
    and compile one copy for each literal argument.
    """
    function = dispatcher.py_func
    hints = typing.get_type_hints(function)
    arguments = tuple(
        _NUMBA_TYPES[hints[name]] for name in function.__code__.co_varnames[: function.__code__.co_argcount]
    )
    flags: Any = _COMPILER.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"  # no checks that raise
    result = _COMPILER.compile_extra(
        cpu_target.typing_context, cpu_target.target_context, function, arguments, None, flags, {}
    )
    handle = object()  # stands for the machine code's address as the key by which callers find the function
    cpu_target.target_context.insert_user_function(handle, result.fndesc)
    dispatcher.overloads[arguments] = result._replace(entry_point=handle)
    dispatcher.disable_compile()
    return result.fndesc.llvm_func_name, result.library.get_llvm_str()


def _entry_point(symbol: Symbol, names: dict[int, str]) -> str:
    """LLVM text of the C function of one symbol, which calls the compiled function with its constants."""
    core, constants, by_width = _CORES[symbol.operation]
    values = [f"i64 %{operand}" for operand in symbol.operands]
    if symbol.width in by_width:
        core = by_width[symbol.width]
    else:
        values.insert(0, f"i64 {symbol.width}")
    values += [f"i64 {constant}" for constant in (*constants, *symbol.constants)]
    parameters = ", ".join(f"i64 %{name}" for name in symbol.arguments[:-1])
    types_called = ", ".join(["ptr", "ptr", "i64", *["i64"] * len(values)])
    name = names[id(core)]
    return f"""
declare i32 @"{name}"({types_called})
define i64 @{symbol.name}({parameters}, ptr noalias %flags) {{
  %pair = alloca {_PAIR}
  %error = alloca ptr
  %status = call i32 @"{name}"(ptr %pair, ptr %error, i64 %policy, {", ".join(values)})
  %result = load i64, ptr %pair
  %second = getelementptr inbounds {_PAIR}, ptr %pair, i64 0, i32 1
  %raised = load i64, ptr %second
  store i64 %raised, ptr %flags
  ret i64 %result
}}
"""


def _linked() -> llvm.ModuleRef:
    """All functions and entry points in one module, not optimised; only entry points are external."""
    with global_compiler_lock:
        compiled = [(dispatcher, *_compile(dispatcher)) for dispatcher in encoding.FUNCTIONS]
    names = {id(dispatcher): name for dispatcher, name, _ in compiled}
    module = llvm.parse_assembly(compiled[0][2])
    for _, _, text in compiled[1:]:
        module.link_in(llvm.parse_assembly(text))
    entry_points = "".join(_entry_point(symbol, names) for symbol in FUNCTIONS.values())
    # LLVM refuses a second declaration of the same function in one text.
    declarations = set()
    lines = []
    for line in entry_points.splitlines():
        if line.startswith("declare"):
            declarations.add(line)
        else:
            lines.append(line)
    module.link_in(llvm.parse_assembly("\n".join([*sorted(declarations), *lines])))
    for function in module.functions:
        if not function.is_declaration and function.name not in FUNCTIONS:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    for dispatcher in _NOT_INLINED:
        module.get_function(names[id(dispatcher)]).add_function_attribute("noinline")
    # numba numbers its names by what else the process has compiled; the text must not depend on that.
    for dispatcher, name, _ in compiled:
        function = dispatcher.py_func
        module.get_function(name).name = f"{function.__module__}.{function.__name__}"
    return module


def llvm_ir() -> str:
    """LLVM assembly of the library, optimised, for the host's architecture: one definition for each of
    `FUNCTIONS`.

    The text names no CPU, so it may be linked into any module of the same architecture and refers to no other
    symbol.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = _linked()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc="pic")
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    module.verify()
    foreign = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    if foreign or any(variable.is_declaration for variable in module.global_variables):
        raise AssertionError(f"softfloat refers to symbols that it does not define: {foreign}")
    return str(module)
