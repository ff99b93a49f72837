"""Details of single instructions, in one program that runs natively and here."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("name", "lines"), [("details", 14), ("faults", 49)])
def test_details_are_the_hosts(
    name: str,
    lines: int,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """details: EMMS' top of stack, CMPXCHG's upper halves, ENTER where a push would fault, underflows that
    aren't masked. faults: page faults' error codes, and what is written before them.
    """
    if platform.machine() != "x86_64":
        pytest.skip("the host is no x86")
    require_target("x86_64")
    program = tmp_path / name
    source = Path(__file__).with_name(f"{name}.c")
    compiler = require_tool("x86_64-linux-gnu-gcc")
    subprocess.run([compiler, "-O1", "-static", "-o", program, source], check=True)

    def output(*command: str | Path) -> list[str]:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=CHECKOUT)
        return done.stdout.splitlines()

    expected = output(program)
    assert len(expected) == lines, expected
    assert output(sys.executable, "-m", "isagen", "run", program) == expected
