"""Syntax tables straight from the specs: no target has to be built for these tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from runtime.assembly.tables import Syntax

SPECS = Path(__file__).resolve().parents[3] / "isa"


@cache
def _syntax(family: str, target: str) -> Syntax:
    from generator.emit.render import render
    from generator.emit.syntax import syntax_tables
    from generator.load import load_target

    source = render("syntax.py.j2", tables=syntax_tables(load_target(SPECS, family, target)))
    names: dict[str, object] = {}
    exec(compile(source, f"{target}/syntax.py", "exec"), names)
    syntax = names["SYNTAX"]
    assert isinstance(syntax, Syntax)
    return syntax


@pytest.fixture(scope="session")
def syntax_of() -> Callable[[str, str], Syntax]:
    """``syntax_of(family, target)``: the target's tables."""
    return _syntax
