"""Self-checking programs in machine mode, by the manuals: registers, traps, interrupts, memory protection,
paging, floating point. A status other than 0 is the number of the check that failed (`bare/env.h`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "bare"
CHECKOUT = Path(__file__).resolve().parents[3]
WIDTHS = {64: ("rv64gc_zfh", "lp64d"), 32: ("rv32gc_zfh", "ilp32d")}


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("name", sorted(file.stem for file in PROGRAMS.glob("*.S")))
def test_program(
    name: str,
    bits: int,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    require_target(f"riscv{bits}")
    march, mabi = WIDTHS[bits]
    program = tmp_path / name
    options = f"-march={march} -mabi={mabi} -static -nostdlib -mcmodel=medany -fno-pic -no-pie"
    options += " -Wl,--build-id=none -Wl,--no-relax"
    command = [require_tool("riscv64-linux-gnu-gcc"), *options.split(), "-T", PROGRAMS / "link.ld"]
    subprocess.run([*command, PROGRAMS / f"{name}.S", "-o", program], check=True, stderr=subprocess.DEVNULL)
    words = [sys.executable, "-m", "isagen", "run", "--bare", "--limit", "1000000", "--count", program]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[1]) > 100  # it did run to its end
