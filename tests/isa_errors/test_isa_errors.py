"""Every diagnosis: a tiny wrong spec in this folder, and beside it what has to be said about it.

``name.isa`` is loaded and checked for its first target; ``name.txt`` holds the rendered diagnostics. To
accept new ones, run ``ISAGEN_ACCEPT=1 pytest tests/isa_errors`` and read the difference.
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
from generator.ir.places import Places
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
        target = load_sources([source], names[0] if names else "toy", places := Places())
    except SpecErrors as problem:
        return list(problem.diagnostics)
    return errors(run_checks(target, {source.name: source.text}, places=places))


@pytest.mark.parametrize("name", CASES)
def test_diagnosis(name: str) -> None:
    source = Source(f"{name}.isa", (FOLDER / f"{name}.isa").read_text())
    found = "\n".join(diagnostic.render() for diagnostic in diagnose(source)) + "\n"
    expected = FOLDER / f"{name}.txt"
    if os.environ.get("ISAGEN_ACCEPT") == "1":
        expected.write_text(found)
    assert found.strip(), "nothing is found to be wrong"
    assert found == expected.read_text()


GENERATED = {
    "the file has more than": "# \n" * 2_000_000,
    "brackets nest deeper than": "reg a : bits(" + "(" * 300 + "1" + ")" * 300 + ")\n",
}


@pytest.mark.parametrize("message", GENERATED)
def test_generated(message: str) -> None:
    """What would be too big for a file in the folder."""
    found = diagnose(Source("generated.isa", GENERATED[message]))
    assert any(d.message.startswith(message) for d in found)


ELSEWHERE = {  # part of a message -> where it is tested
    "has no value on some path": "hand-made: tests/generator/checks/test_behaviour_checks.py",
    "ends without a result on some path": "as above",
    "bits one after the other": "tests/generator/checks/test_behaviour_checks.py",
    "is not assembled": "needs an assembler: tests/generator/checks/test_examples.py",
    "`...` is ..., not ...": "needs an assembler: tests/generator/checks/test_examples.py",
    "no case of the operands is possible here": "a second line of defence: such cases are dropped one by one",
    "this is nested too deeply": "a second line of defence behind the parser's limits",
}


def test_every_kind_of_diagnosis_has_a_case() -> None:
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.txt"))]
    texts += [f"{message} 1 characters levels" for message in GENERATED]
    kinds = _messages().kinds()
    assert len(kinds) > 100
    missing = [
        f"{kind.place}: {kind.pattern}"
        for kind in kinds
        if not any(kind.found_in(text) for text in texts)
        and not any(text in kind.plain for text in ELSEWHERE)
    ]
    assert not missing, "no case in tests/isa_errors for:\n" + "\n".join(missing)
