"""Hostile guests: random system calls with random arguments end in a result, an error number or the
guest's end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.linux.ports import Stop
from runtime.linux.scheduler import Scheduler
from tests.runtime.linux.hostile_calls import make

CHECKOUT = Path(__file__).resolve().parents[3]
KINDS = [(243, 64, 1), (243, 32, 1), (183, 64, 1), (40, 32, 1), (62, 64, 1), (3, 32, 1),
         (20, 32, 0), (21, 64, 0), (21, 64, 1), (2, 32, 0), (43, 64, 0)]  # fmt: skip
CALLS = 3000
FILES = 4000


def attacked(module: str, *numbers: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a module beside this one says and how it ends, in a process and a process group of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"tests.runtime.linux.{module}", *map(str, numbers)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=False,
        process_group=0,
    )


@pytest.mark.parametrize(("machine", "bits", "little"), KINDS)
def test_random_calls(machine: int, bits: int, little: int, tmp_path: Path) -> None:
    done = attacked("hostile_calls", machine, bits, little, 1, CALLS, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr[-3000:]


def test_own_memory_stays_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No way through /proc into this process's memory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/proc/self/mem")
    (tmp_path / "folder").symlink_to(f"/proc/{os.getpid()}")
    process = make(243, 64, True)
    scheduler = Scheduler(process)
    names = [
        b"/proc/self/mem",
        b"link",
        b"folder/mem",
        b"/proc/thread-self/mem",
        b"/proc/self/../self/mem",
        b"/proc/self/task/%d/mem" % os.getpid(),
        b"/dev/fd/../mem",
    ]
    for name in names:
        process.memory.write(0x10000, name + b"\0")
        process.cpu.set("a7", 56)
        for register, value in zip(("a0", "a1", "a2"), (2**64 - 100, 0x10000, os.O_RDWR), strict=True):
            process.cpu.set(register, value)
        scheduler.answer(Stop("trap", 0x10000, 1))
        assert process.cpu.get("a0") - 2**64 in (-13, -2), name


def test_error_numbers_of_sparc() -> None:
    process = make(2, 32, False)
    process.cpu.set("g1", 5000)
    Scheduler(process).answer(Stop("trap", 0x10000, 1))
    assert (process.cpu.get("o0"), process.cpu.get("c")) == (90, 1)  # ENOSYS, carry set


@pytest.mark.parametrize(("machine", "bits", "little"), KINDS)
def test_damaged_programs(machine: int, bits: int, little: int, tmp_path: Path) -> None:
    """Each is loaded or refused with a message, with bounded memory."""
    done = attacked("hostile_files", machine, bits, little, 7, FILES, folder=tmp_path)
    found = re.fullmatch(r"survived (\d+)\n", done.stdout)
    assert done.returncode == 0 and found is not None, done.stderr[-3000:]
    assert FILES // 20 < int(found[1]) < FILES // 2
