"""The command line: starts fast, says what is wrong in one line, and ends with the right status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
HEAVY = ["numba", "numpy", "llvmlite", "lark", "pydantic", "rich", "jinja2", "generator"]


def isagen(*words: str | Path, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isagen", *words], capture_output=True, text=True, timeout=300, cwd=cwd
    )


def test_help_lists_commands() -> None:
    done = isagen("--help")
    assert done.returncode == 0
    for name in ("build", "run", "asm", "disasm", "doc", "conformance", "bench"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", ["build", "run", "asm", "disasm", "doc", "conformance", "bench"])
def test_help_of_commands(name: str) -> None:
    done = isagen(name, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: isagen " + name), done.stderr


def test_version() -> None:
    import isagen as package

    assert isagen("--version").stdout == f"isagen {package.__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["build", "--help"], ["run", "--help"], ["build", "nothing"]])
def test_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom isagen.cli import main\nmain(sys.argv[1:])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frobnicate"], "isagen: no command named 'frobnicate'"),
        (["build", "vax"], "there is no family or target named 'vax'"),
        (["build", "riscv64", "--with", "none.isa"], "none.isa: there is no such file"),
        (["run", "none"], "isagen: none: No such file or directory"),
        (["run", "README.md"], "isagen: README.md: not an ELF file"),
        (["run", "isagen"], "isagen: isagen: it is a directory, not a program"),
        (["run", "--base", "5", "x"], "--base is for images without a system (add --bare)"),
        (["asm", "vax", "x.s"], "there is no target named 'vax'"),
        (["disasm", "README.md"], "isagen: README.md: not an ELF file"),
        (["disasm", "--hex", "vax", "00"], "there is no target named 'vax'"),
        (["doc", "vax"], "there is no family 'vax'"),
    ],
)
def test_bad_input(words: list[str], message: str) -> None:
    done = isagen(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words", [["build"], ["build", "riscv64", "--jobs", "0"], ["run", "--limit", "x", "y"]]
)
def test_bad_usage(words: list[str]) -> None:
    done = isagen(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: isagen ")


def test_wrong_program_for_the_layer(tmp_path: Path) -> None:
    """A program of an architecture that nobody described."""
    header = bytearray(b"\x7fELF\x02\x01\x01" + bytes(57))
    header[16:20] = b"\x02\x00\x16\x00"  # an S/390 executable, little-endian at that
    header[20] = 1
    header[52] = 64
    (tmp_path / "odd").write_bytes(header)
    done = isagen("run", tmp_path / "odd")
    assert done.returncode == 2
    assert "a program for S/390 (64 bits, little-endian), which isn't supported" in done.stderr
