"""The examples of docs/python.md, run in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT

PAGE = CHECKOUT / "docs" / "python.md"


def test_the_examples_run(
    require_target: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_target("riscv64")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    space: dict[str, Any] = {}
    examples = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert len(examples) > 8
    for example in examples:
        line = text.count("\n", 0, example.start()) + 1
        exec(compile("\n" * line + example[1], str(PAGE), "exec"), space)
