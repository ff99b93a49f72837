"""Programs of x86-64 and i386, static and dynamic, as natively or under qemu."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.linux.conftest import PROGRAMS

CHECKOUT = Path(__file__).resolve().parents[3]
RUN = [sys.executable, "-m", "isagen", "run"]
READ = CHECKOUT / "README.md"
"""What the host's programs are to read."""
COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "i386": "i686-linux-gnu-gcc"}


def call(command: list[str | Path], cwd: Path = CHECKOUT) -> tuple[int, str, str]:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        timeout=150,
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def native() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the host is no x86")


@pytest.fixture
def program(
    require_tool: Callable[..., str], require_target: Callable[[str], Path], tmp_path: Path
) -> Callable[..., Path]:
    """``program(name, kind, *options)``: a static executable."""

    def build(name: str, kind: str, *options: str) -> Path:
        require_target(kind)
        file = tmp_path / name
        usual: list[str | Path] = [
            "-static",
            "-w",
            "-D_FILE_OFFSET_BITS=64",
            "-o",
            file,
            PROGRAMS / f"{name}.c",
            "-lm",
            "-pthread",
        ]
        subprocess.run(
            [require_tool(COMPILERS[kind]), *(options or ("-O2",)), *usual],
            check=True,
        )
        return file

    return build


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("kind", COMPILERS)
@pytest.mark.parametrize("name", ["files", "misc", "torture"])
def test_as_under_qemu(
    name: str, kind: str, program: Callable[..., Path], require_tool: Callable[..., str], tmp_path: Path
) -> None:
    built = program(name, kind)
    results = []
    for number, runner in enumerate(([require_tool(f"qemu-{kind}")], RUN)):
        scratch = tmp_path / f"scratch{number}" / "scratch"
        scratch.mkdir(parents=True)
        results.append(call([*runner, built, scratch]))
    assert results[1][1].replace("scratch1", "scratch0").splitlines() == results[0][1].splitlines()
    assert results[1][0] == results[0][0], results[1][2]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("x86_64", ["-O3"]),
        ("x86_64", ["-O0"]),
        ("x86_64", ["-O2", "-mfpmath=387"]),
        ("i386", ["-O2"]),
        ("i386", ["-O3", "-msse2", "-mfpmath=sse"]),
        ("i386", ["-O0", "-mno-sse"]),
    ],
)
def test_floating_point_as_natively(kind: str, options: list[str], program: Callable[..., Path]) -> None:
    """Through SSE2 and through the x87, to the last digit."""
    built = program("mixed", kind, *options)
    expected = call([built, "floating"])
    assert expected[0] == 0 and expected[1]
    assert call([*RUN, built, "floating"]) == expected


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "command",
    [
        ["/bin/ls", "-l", str(READ)],
        ["/usr/bin/gzip", "-9", "-c", str(READ)],
        ["/usr/bin/openssl", "dgst", "-sha256", str(READ)],
        [
            "/usr/bin/sqlite3",
            ":memory:",
            "create table t(a, b); insert into t values(1, 2.5); select a + b from t;",
        ],
    ],
    ids=lambda command: Path(command[0]).name,
)
def test_hosts_own_programs(
    command: list[str], require_target: Callable[[str], Path], require_tool: Callable[..., str]
) -> None:
    require_target("x86_64")
    require_tool(command[0])

    def output(runner: list[str]) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [*runner, *command], capture_output=True, timeout=150, cwd=CHECKOUT, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert output([*RUN, "--sysroot", "/"]) == output([])
