"""The compiled library, loaded into this process, and the size of the test runs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import pytest

from runtime.softfloat.symbols import FUNCTIONS

Call = Callable[..., tuple[int, int]]


class Compiled:
    """The compiled functions; ``call(name)`` takes (policy, *operands) and returns (result, flags)."""

    def __init__(self, assembly: str) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.assembly = assembly
        self.module = llvm.parse_assembly(assembly)
        self.module.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
        self._engine = llvm.create_mcjit_compiler(self.module, machine)
        self._engine.finalize_object()

    def call(self, name: str) -> Call:
        """The function of that name in `FUNCTIONS`."""
        symbol = FUNCTIONS[name]
        count = len(symbol.arguments) - 1
        prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * count, ctypes.c_void_p)
        function: Any = prototype(self._engine.get_function_address(name))
        flags = ctypes.c_int64()
        flags_at = ctypes.byref(flags)

        def call(*arguments: int) -> tuple[int, int]:
            flags.value = -1  # the function must store, not merge
            return function(*arguments, flags_at), flags.value

        return call


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    """The library as `llvm_ir` gives it."""
    pytest.importorskip("numba")
    from runtime.softfloat.library import llvm_ir

    return Compiled(llvm_ir())


@pytest.fixture(scope="session")
def scale() -> int:
    """How many times more random cases than in a quick run: ISAGEN_TEST_SCALE."""
    return int(os.environ.get("ISAGEN_TEST_SCALE", "1"))
