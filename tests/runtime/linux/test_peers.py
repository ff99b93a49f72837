"""The Linux layer with Unicorn as its CPU against qemu-user: same output and status, on several
architectures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.runtime.linux.conftest import KINDS

CHECKOUT = Path(__file__).resolve().parents[3]
Build = Callable[[str, str], Path]

RUNNER = """
import sys, os
from tests.runtime.linux.unicorn_cpu import UnicornCpu
from runtime.elf import open_elf
from runtime.linux.abi import for_elf
from runtime.linux.descriptors import inherited
from runtime.linux.program import start
from runtime.linux.scheduler import Scheduler
elf = open_elf(sys.argv[1])
abi = for_elf(elf)
cpu = UnicornCpu(abi)
process = start(elf, abi, cpu, cpu.memory, arguments=[os.fsencode(a) for a in sys.argv[1:]],
                environment=[k + b"=" + v for k, v in os.environb.items()])
process.files.table = inherited()
sys.exit(Scheduler(process).run().status)
"""


def run(command: list[str | Path], folder: Path) -> tuple[int, str, str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    environment = {**os.environ, "PROBE": "probed", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["files", "memory", "misc"])
def test_as_under_qemu(
    name: str,
    kind: str,
    build: Build,
    require_tool: Callable[..., str],
    require_module: Callable[[str], ModuleType],
    tmp_path: Path,
) -> None:
    require_module("unicorn")
    program = build(name, kind)
    scratch = tmp_path / "scratch"
    expected = run([require_tool(KINDS[kind][1]), program, scratch], scratch)
    actual = run([sys.executable, "-c", RUNNER, program, scratch], scratch)
    assert actual[1].splitlines() == expected[1].splitlines()
    assert actual[0] == expected[0], actual[2]


@pytest.mark.parametrize(
    ("how", "status"),
    [("null", 139), ("text", 139), ("jump", 139), ("abort", 134), ("term", 143), ("kill", 137), ("exit", 3)],
)
def test_death(
    how: str,
    status: int,
    build: Build,
    require_module: Callable[[str], ModuleType],
    tmp_path: Path,
) -> None:
    require_module("unicorn")
    code, output, errors = run(
        [sys.executable, "-c", RUNNER, build("faults", "riscv64"), how], tmp_path / "scratch"
    )
    assert (code, output) == (status, "before\n")
    if how in ("null", "text", "jump"):
        assert "segmentation fault (SIGSEGV) at pc 0x" in errors
        assert "a0" in errors and "Traceback" not in errors
