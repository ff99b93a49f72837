"""The compiled library as a product: complete, self-contained, reproducible."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runtime.softfloat.symbols import FUNCTIONS


def test_defines_exactly_the_table(compiled: Any) -> None:
    external = {
        f.name: f for f in compiled.module.functions if not f.is_declaration and f.linkage.name == "external"
    }
    assert external.keys() == FUNCTIONS.keys()
    for name, function in external.items():
        parameters = [str(argument.type) for argument in function.arguments]
        assert parameters == ["i64"] * (len(FUNCTIONS[name].arguments) - 1) + ["ptr"], name
        assert FUNCTIONS[name].arguments[0] == "policy" and FUNCTIONS[name].arguments[-1] == "flags"


def test_refers_to_nothing_else(compiled: Any) -> None:
    declared = [f.name for f in compiled.module.functions if f.is_declaration]
    assert all(name.startswith("llvm.") for name in declared), declared
    # Tables of constants are the library's own.
    assert all(table.linkage.name in ("private", "internal") for table in compiled.module.global_variables)
    # An intrinsic that a processor lacks becomes a library call: allow only those with plain code everywhere
    # (the memset is of one pair of integers).
    allowed = (
        r"llvm\.(ctlz|lifetime|[su](min|max|cmp)|abs|fabs|fsh[lr]|sqrt|memset"
        r"|[su](add|sub)\.(with\.overflow|sat)|experimental\.noalias)\b"
    )
    assert not [name for name in declared if not re.match(allowed, name)]


def test_floating_point_is_strict(compiled: Any) -> None:
    operations = re.findall(
        r"= (?:tail )?(?:f(?:add|sub|mul|div)|fptrunc|fpext|call .*@llvm.sqrt).*", compiled.assembly
    )
    assert len(operations) > 30
    assert not [
        line for line in operations if re.search(r"\b(fast|contract|reassoc|nnan|ninf|nsz|arcp|afn)\b", line)
    ]


def test_same_text_every_time(compiled: Any) -> None:
    """Whatever numba compiled before (here: the library itself) leaves no trace."""
    numba = pytest.importorskip("numba")
    from runtime.softfloat.library import llvm_ir

    numba.njit("int64(int64)")(lambda x: x + 1)
    assert llvm_ir() == compiled.assembly
