"""A region's LLVM text to machine code. Imports llvmlite: runs in the worker process."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm

from runtime.cpu.linking import LinkError, link

LEVEL: Final = 1
"""LLVM's level of code generation; more brings nothing for regions."""


def has_fused() -> bool:
    """Whether the host has an instruction for x * y + z with one rounding."""
    features = llvm.get_host_cpu_features()
    return bool(features.get("fma")) or llvm.get_default_triple().startswith("aarch64")


@cache
def _set_options() -> None:
    """Once a process: options that LLVM has for all.

    * NewGVN without its operations on phis, which is where it was wrong in the past.

    On x86-64 (LLVM 22):

    * X86FixupBWInsts: a load of 16 bits into the lower part of a register becomes one that clears the upper
      part, where the address is made of the same register.
    * X86CmovConversion makes branches of selections in loops. It can't know that guests' compilers made these
      because branches would be mispredicted.
    """
    llvm.set_option("isagen", "-enable-phi-of-ops=0")
    if llvm.get_default_triple().startswith("x86_64"):
        llvm.set_option("isagen", "-fixup-byte-word-insts=0")
        llvm.set_option("isagen", "-x86-cmov-converter=0")


class Compiler:
    """Compiles LLVM text for this host."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _set_options()
        target = llvm.Target.from_default_triple()
        features = llvm.get_host_cpu_features().flatten()
        # 32-byte vectors are never worth it here, and code that uses them slows down what follows on some
        # hosts.
        self.machine = target.create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features, opt=LEVEL, reloc="pic", codemodel="small"
        )
        self._options = llvm.create_pipeline_tuning_options(speed_level=1)

    def optimised(self, text: str) -> Any:
        """The module of a text after the passes."""
        module = llvm.parse_assembly(text)
        builder = llvm.create_pass_builder(self.machine, self._options)
        passes = llvm.create_new_function_pass_manager()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        passes.add_new_gvn_pass()  # what instructions behind each other test and compute alike
        passes.add_simplify_cfg_pass()
        for function in module.functions:
            if not function.is_declaration:
                passes.run(function, builder)
        return module

    def compile(self, text: str, name: str) -> bytes:
        """The function `name` of a text as an image, or as an object file on hosts that have no images."""
        code: bytes = self.machine.emit_object(self.optimised(text))
        try:
            return link([code], name.__eq__)
        except LinkError:
            return code

    def assembly(self, text: str) -> str:
        """The host's assembly language, to look at."""
        made: str = self.machine.emit_assembly(self.optimised(text))
        return made
