"""Every diagnosis: a tiny wrong spec in this folder, and beside it what has to be said about it.

``name.isa`` is loaded and checked for its first target; ``name.txt`` holds the rendered diagnostics. To accept new ones,
run ``ISAGEN_ACCEPT=1 pytest tests/isa_errors`` and read the difference.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from generator.checks import errors, run_checks
from generator.errors import Diagnostic, SpecErrors
from generator.ir.lower.report import Report
from generator.ir.lower.target import target_names
from generator.language.parser import parse
from generator.language.source import Source
from generator.load import load_sources

FOLDER = Path(__file__).parent
CASES = sorted(path.stem for path in FOLDER.glob("*.isa"))


def _messages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("isa_error_messages", FOLDER / "messages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def diagnose(source: Source) -> list[Diagnostic]:
    """What is wrong with a spec: what loading says, else what the checks say."""
    report = Report()
    names = target_names([(source, parse(source, report.diagnostics))], report)
    try:
        target = load_sources([source], names[0] if names else "toy")
    except SpecErrors as problem:
        return list(problem.diagnostics)
    return errors(run_checks(target, {source.name: source.text}))


@pytest.mark.parametrize("name", CASES)
def test_diagnosis(name: str) -> None:
    source = Source(f"{name}.isa", (FOLDER / f"{name}.isa").read_text())
    found = "\n".join(diagnostic.render() for diagnostic in diagnose(source)) + "\n"
    expected = FOLDER / f"{name}.txt"
    if os.environ.get("ISAGEN_ACCEPT") == "1":
        expected.write_text(found)
    assert found.strip(), "nothing is found to be wrong"
    assert found == expected.read_text()


def test_a_huge_file_is_refused() -> None:
    """Not a file in the folder, for its size."""
    found = diagnose(Source("huge.isa", "# \n" * 2_000_000))
    assert [d.message for d in found][0].startswith("the file has more than")


UNREACHED = {
    # A message that no spec can provoke, and why it is there all the same.
}


def test_every_kind_of_diagnosis_has_a_case() -> None:
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.txt"))] + ["the file has more than 1 characters"]
    kinds = _messages().kinds()
    assert len(kinds) > 100
    missing = [
        f"{kind.place}: {kind.pattern}"
        for kind in kinds
        if not any(kind.found_in(text) for text in texts) and kind.pattern not in UNREACHED
    ]
    assert not missing, "no case in tests/isa_errors for:\n" + "\n".join(missing)
