"""Bare-metal programs on RV64 and RV32: exit codes, console, signatures, limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
CHECKOUT = Path(__file__).resolve().parents[2]
Build = Callable[..., Path]

WIDTHS = {64: ("rv64gc", "lp64d"), 32: ("rv32gc", "ilp32d")}


@pytest.fixture(scope="session")
def build(
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Build:
    """``build(bits, mode, script, sources)``: a bare-metal executable, compiled once."""
    folder = tmp_path_factory.mktemp("bare")

    def make(
        bits: int,
        mode: str = "PLAIN",
        script: str = "link.ld",
        sources: Sequence[str] = ("start.S", "work.c"),
    ) -> Path:
        require_target(f"riscv{bits}")
        output = folder / f"{bits}-{mode}-{script}"
        if not output.exists():
            march, mabi = WIDTHS[bits]
            options = (
                f"-march={march} -mabi={mabi} -O2 -static -nostdlib -ffreestanding -mcmodel=medany -fno-pic"
            )
            options += f" -no-pie -Wl,--build-id=none -Wl,--no-relax -w -DMODE_{mode}"
            compiler = require_tool("riscv64-linux-gnu-gcc")
            files = [PROGRAMS / source for source in sources]
            command = [compiler, *options.split(), "-T", PROGRAMS / script, *files, "-o", output]
            subprocess.run(command, check=True)
        return output

    return make


@pytest.fixture(scope="session")
def expected(require_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The first six words of the signature, computed by the host."""
    program = tmp_path_factory.mktemp("host") / "host"
    subprocess.run([require_tool("gcc"), "-O1", "-o", program, PROGRAMS / "host.c"], check=True)
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isagen", "run", "--bare", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=CHECKOUT)


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("script", ["link.ld", "shared.ld"])
def test_program(bits: int, script: str, build: Build, expected: list[str], tmp_path: Path) -> None:
    """With ``tohost`` on a page of its own, and on a page with code."""
    file = tmp_path / "signature"
    done = run("--signature", file, build(bits, script=script))
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello from the machine\n", "")
    words = file.read_text().split()
    assert words == [*expected, "00000017", f"{bits // 8:08x}"]


@pytest.mark.parametrize("granularity", [4, 8, 16])
def test_granularity(granularity: int, build: Build, expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "signature"
    run("--signature", file, "--signature-granularity", str(granularity), build(64))
    lines = file.read_text().split()
    words = [*expected, "00000017", "00000008"]
    step = granularity // 4
    assert lines == ["".join(words[i : i + step][::-1]) for i in range(0, 8, step)]


@pytest.mark.parametrize("bits", [64, 32])
def test_trap(bits: int, build: Build) -> None:
    assert run(build(bits, "ILLEGAL")).returncode == 100 + 2  # the program's handler: 100 + cause


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("script", ["link.ld", "shared.ld"])
def test_characters(bits: int, script: str, build: Build) -> None:
    """The console device by 64-bit writes or two 32-bit ones; ``wfi``, which nothing here would end."""
    done = run("--limit", "100000", build(bits, "CHARACTERS", script, sources=("characters.S",)))
    assert (done.returncode, done.stdout, done.stderr) == (5, "abc\n", "")


def test_count_is_exact(build: Build) -> None:
    """A limit of what a run counts reaches the end; one less doesn't."""
    program = build(64)
    done = run("--count", program)
    count = int(done.stderr.split()[1])
    assert 30_000 < count < 100_000
    assert run("--limit", str(count), program).returncode == 7
    limited = run("--limit", str(count - 1), "--count", program)
    assert limited.returncode == 124
    assert f"isagen: {count - 1} instructions\n" in limited.stderr


def test_endless(build: Build) -> None:
    done = run("--limit", "1000000", build(64, "LOOP"))
    assert done.returncode == 124
    assert done.stderr == "isagen: stopped after 1000000 instructions, as --limit asks\n"


def test_lost(build: Build) -> None:
    """Traps that trap for ever are found out."""
    done = run(build(64, "LOST"))
    assert done.returncode == 2
    assert "pc 0x0 after" in done.stderr and "no memory is there to execute" in done.stderr


def test_raw(build: Build, require_tool: Callable[..., str], tmp_path: Path) -> None:
    """Raw code: it has no way to end but the limit."""
    raw = tmp_path / "raw"
    raw.write_bytes(bytes.fromhex("13050500 6ff0dfff"))  # addi a0, a0, 0; j .-4
    done = run("--base", "0x80000000", "--target", "riscv64", "--limit", "11", "--trace", raw)
    assert done.returncode == 124
    lines = done.stderr.splitlines()
    assert len(lines) == 12
    assert lines[1].split() == ["0000000080000004", "6ff0dfff", "j", "0x80000000"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--base", "0", "pyproject.toml"], "raw bytes don't say what they are for (add --target)"),
        (["pyproject.toml"], "not an ELF file"),
        (["none"], "none: No such file or directory"),
        (["--isa", "rv64q", "{program}"], "there is no feature 'q'"),
        (["--isa", "rv32i", "{program}"], "target riscv64 isn't RV32"),
        (["--memory", "3", "{program}"], "whole pages"),
        (["--memory", "900G", "{program}"], "take at most"),
        (["--ram", "0xffffffffffff0000", "{program}"], "beyond the 64-bit address space"),
        (["--target", "riscv32", "{program}"], "can't run on target riscv32"),
        (["--target", "vax", "{program}"], "there is no target named 'vax'"),
    ],
)
def test_bad_input(words: list[str], message: str, build: Build) -> None:
    build(32)
    program = str(build(64))
    done = run(*[word.format(program=program) for word in words])
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
