"""``isagen disasm``: functions of ELF files, colours."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from isagen import colors
from isagen.cli import main


@pytest.fixture
def program(tmp_path: Path, require_tool: Callable[..., str], require_target: Callable[[str], Path]) -> Path:
    require_target("riscv64")
    source = tmp_path / "two.c"
    source.write_text("int twice(int x) { return 2 * x; }\nint main(void) { return twice(21); }\n")
    command = [require_tool("riscv64-linux-gnu-gcc"), "-O0", "-o", str(tmp_path / "two"), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return tmp_path / "two"


def test_one_function(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disasm", "--symbol", "main", "--symbol", "twice", str(program)]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == ["main", "twice"]
    assert re.search(r"jal .*<twice>", text)
    assert "\x1b" not in text
    assert main(["disasm", "--symbol", "nothing", str(program)]) == 2


def test_colours_change_nothing_else(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["disasm", "--color", "never", str(program)])
    plain = capsys.readouterr().out
    main(["disasm", "--color", "always", str(program)])
    painted = capsys.readouterr().out
    assert painted.count("\x1b[1m") > 50
    assert re.sub(r"\x1b\[\d+m", "", painted) == plain


def test_no_colours_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not colors.wanted("auto")
    assert colors.wanted("always")
    assert not colors.wanted("never")


def test_symbols_are_for_files() -> None:
    assert main(["disasm", "--hex", "riscv64", "--symbol", "x", "13000000"]) == 2
