"""Object files loaded by LLVM, on hosts whose files `runtime.cpu.linking` doesn't know. Imports llvmlite."""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.binding as llvm


class LoadedObjects:
    """Code in this process, from object files that refer to each other. RuntimeError: they are damaged."""

    def __init__(self, objects: Sequence[bytes]) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        for data in objects:
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()
        self.size = sum(map(len, objects))
        """Bytes that it takes, about."""

    def address(self, symbol: str) -> int:
        """The host address of a symbol, 0 if there is none."""
        return int(self._engine.get_function_address(symbol))
