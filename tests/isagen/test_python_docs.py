"""The examples of docs/python.md and docs/control.md, run in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT

PAGES = {"python.md": 8, "control.md": 3}
"""How many examples there are more than."""


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_run(
    name: str,
    require_target: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_target("riscv64")
    monkeypatch.chdir(tmp_path)
    page = CHECKOUT / "docs" / name
    text = page.read_text()
    space: dict[str, Any] = {}
    examples = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert len(examples) > PAGES[name]
    for example in examples:
        line = text.count("\n", 0, example.start()) + 1
        exec(compile("\n" * line + example[1], str(page), "exec"), space)
