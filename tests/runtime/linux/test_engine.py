"""Linux programs on the generated riscv64 engine, as ``isagen run`` runs them, against qemu-riscv64."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.elf.writer import OutputSection, write_executable

CHECKOUT = Path(__file__).resolve().parents[3]
Build = Callable[[str, str], Path]


@pytest.fixture(scope="module", autouse=True)
def target(require_target: Callable[[str], Path]) -> None:
    require_target("riscv64")


def call(command: list[str | Path]) -> tuple[int, str, str]:
    environment = {**os.environ, "PROBE": "probed"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=120,
        cwd=CHECKOUT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def isagen(*words: str | Path) -> tuple[int, str, str]:
    return call([sys.executable, "-m", "isagen", "run", *words])


@pytest.mark.parametrize("name", ["files", "memory", "misc"])
def test_as_under_qemu(name: str, build: Build, require_tool: Callable[..., str], tmp_path: Path) -> None:
    program = build(name, "riscv64")
    scratch = tmp_path / "scratch"
    results = []
    for command in (
        [require_tool("qemu-riscv64"), program],
        [sys.executable, "-m", "isagen", "run", program],
    ):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        results.append(call([*command, scratch]))
    assert results[1][1].splitlines() == results[0][1].splitlines()
    assert results[1][0] == results[0][0], results[1][2]


def test_signals(build: Build, require_tool: Callable[..., str]) -> None:
    """Handlers are called and left as under qemu; the last fault kills the program."""
    program = build("signals", "riscv64")
    expected = call([require_tool("qemu-riscv64"), program])
    code, output, errors = isagen(program)
    assert output.splitlines() == expected[1].splitlines()
    assert (code, expected[0]) == (-11, -11)
    assert "segmentation fault (SIGSEGV)" in errors


def test_masks_of_actions(build: Build) -> None:
    """A signal in the mask of an action waits until its handler is left. (qemu 7.2 reads RISC-V's masks from
    the wrong place: it expects a field sa_restorer, which ``struct sigaction`` doesn't have there.)"""
    lines = isagen(build("signals", "riscv64"), "masks")[1].splitlines()
    assert lines[4:8] == [
        "nested 12 code -6 pid 1 blocked 1 1",
        "nested 12 ends",
        "nested 10 code -6 pid 1 blocked 1 1",
        "nested 10 ends",
    ]


@pytest.mark.parametrize("work", ["integer", "floating", "memory", "branchy", "recursive", "printing"])
def test_work(work: str, build: Build, require_tool: Callable[..., str]) -> None:
    program = build("mixed", "riscv64")
    expected = call([require_tool("qemu-riscv64"), program, work])
    assert isagen(program, work) == expected
    assert expected[0] == 0 and expected[1]


@pytest.mark.parametrize(
    ("how", "status"),
    [("null", -11), ("text", -11), ("jump", -11), ("abort", -6), ("term", -15), ("kill", -9), ("exit", 3)],
)
def test_death(how: str, status: int, build: Build) -> None:
    code, output, errors = isagen(build("faults", "riscv64"), how)
    assert (code, output) == (status, "before\n")
    if how in ("null", "text", "jump"):
        assert "segmentation fault (SIGSEGV) at pc 0x" in errors
        assert "a0" in errors and "Traceback" not in errors


def test_count_and_limit(build: Build) -> None:
    """The count is exact: a limit of as many reaches the end, one less doesn't."""
    program = build("faults", "riscv64")
    code, _, errors = isagen("--count", program)
    assert code == 3
    count = int(errors.split()[1])
    assert isagen("--limit", str(count), program)[0] == 3
    code, _, errors = isagen("--limit", str(count - 1), program)
    assert (code, errors) == (124, f"isagen: stopped after {count - 1} instructions, as --limit asks\n")


def test_trace(build: Build) -> None:
    """As many lines as instructions; each says where, what and what changed."""
    program = build("faults", "riscv64")
    _, _, errors = isagen("--trace", "--limit", "200", program)
    lines = errors.splitlines()
    assert len(lines) == 201
    assert len(lines[0].split()[0]) == 16
    assert sum("=" in line for line in lines[:200]) > 100
    changed = [line for line in lines if "addi sp" in line or "c.addi16sp" in line]
    assert changed and all("sp=" in line for line in changed)


def test_strace(build: Build) -> None:
    _, _, errors = isagen("--strace", build("faults", "riscv64"), "exit")
    assert 'write(1, "before\\n", 7) = 7\n' in errors
    assert errors.endswith("exit_group(259) = ?\n+++ exited with 3 +++\n")


def test_nobody_reads(build: Build) -> None:
    """Writing to a pipe that nobody reads kills the program, as it does natively."""
    command = [sys.executable, "-m", "isagen", "run", build("mixed", "riscv64"), "printing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"    0|0")
        process.stdout.close()
        assert process.wait(60) == -13
        assert process.stderr.read() == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, build: Build, tmp_path: Path) -> None:
    """A program whose standard streams are closed opens its own files as the first ones."""
    program = build("faults", "riscv64")
    shell = ["sh", "-c", f'"$0" -m isagen run --strace "$1" exit {closed}; echo $? > "$2"']
    _, output, errors = call([*shell, sys.executable, program, tmp_path / "status"])
    assert (tmp_path / "status").read_text() == "3\n"
    assert output == ("" if ">&-" in closed.split() else "before\n")
    assert "Traceback" not in errors
    if closed == ">&-":
        assert "= -1 EBADF" in errors


def test_environment(build: Build, tmp_path: Path) -> None:
    assert "probing" in isagen("--env", "PROBE=probing", build("misc", "riscv64"), tmp_path)[1]
    code, _, errors = isagen("--env", "PROBE", build("misc", "riscv64"))
    assert (code, "NAME=VALUE" in errors) == (2, True)


def test_without_extension(build: Build) -> None:
    """A program full of compressed instructions, on a CPU without them."""
    code, _, errors = isagen("--isa", "rv64g", build("faults", "riscv64"))
    assert code == -7 and "bus error (SIGBUS)" in errors  # the first jump to an odd half-word


def test_dynamic_program(require_tool: Callable[..., str], tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text("int main(void) { return 0; }")
    subprocess.run([require_tool("riscv64-linux-gnu-gcc"), "-o", tmp_path / "a", source], check=True)
    code, _, errors = isagen(tmp_path / "a")
    assert code == 2
    assert "its dynamic linker" in errors and "--sysroot" in errors and errors.count("\n") == 1
    assert isagen("--sysroot", "/usr/riscv64-linux-gnu", tmp_path / "a")[0] == 0


def test_32_bits(
    require_tool: Callable[..., str], require_target: Callable[[str], Path], tmp_path: Path
) -> None:
    require_target("riscv32")
    program = tmp_path / "calls32"
    options = ["-march=rv32gc", "-mabi=ilp32d", "-O1", "-nostdlib", "-static", "-ffreestanding", "-w"]
    source = CHECKOUT / "tests/runtime/linux/programs/calls32.c"
    subprocess.run([require_tool("riscv64-linux-gnu-gcc"), *options, "-o", program, source], check=True)
    expected = call([require_tool("qemu-riscv32"), program])
    assert isagen(program) == expected
    assert expected[0] == 9


MOVED = """
    .globl _start
_start:
    li a7, 64
    li a0, 1
    lla a1, text
    li a2, 6
    ecall
    auipc a0, 0
    srli a0, a0, 24    # nonzero where the program was moved up
    snez a0, a0
    addi a0, a0, 3
    li a7, 93
    ecall
    .section .rodata
text: .ascii "moved\\n"
"""


def test_static_position_independent_program(require_tool: Callable[..., str], tmp_path: Path) -> None:
    source = tmp_path / "a.s"
    source.write_text(MOVED)
    linker = ["-Wl,--no-dynamic-linker"]
    command = [
        require_tool("riscv64-linux-gnu-gcc"),
        "-static-pie",
        "-nostdlib",
        *linker,
        "-o",
        tmp_path / "a",
        source,
    ]
    subprocess.run(command, check=True)
    assert isagen(tmp_path / "a") == (4, "moved\n", "")


@pytest.mark.parametrize("seed", range(4))
def test_random_programs(seed: int) -> None:
    """Random code with wild registers: signals or the limit, never a crash of the host."""
    code, output, errors = call(
        [sys.executable, "-m", "tests.runtime.linux.hostile_programs", str(seed), "100"]
    )
    assert (code, output) == (0, "survived\n"), errors[-2000:]


def test_damaged_programs(build: Build, tmp_path: Path) -> None:
    """Damaged headers of a real program: an error of one line, or a guest that ends by itself."""
    original = build("faults", "riscv64").read_bytes()
    chance = random.Random(1)
    for _ in range(25):
        data = bytearray(original)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(4, 64 + 56 * 6)] = chance.choice(
                [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
            )
        file = tmp_path / "damaged"
        file.write_bytes(data)
        code, _, errors = isagen("--limit", "100000", file)
        assert "Traceback" not in errors
        assert code >= 0 or f"({signal.Signals(-code).name})" in errors  # the guest's death, not the host's


def test_huge_segment(tmp_path: Path) -> None:
    """A segment that fits into no memory."""
    sections = [
        OutputSection(".text", 6, 0x10000, 4, b"\x73\0\0\0"),
        OutputSection(".bss", 3, 0x20000, 1 << 37, None),
    ]
    file = tmp_path / "huge"
    file.write_bytes(write_executable(sections, bits=64, little_endian=True, machine=243, entry=0x10000))
    code, _, errors = isagen(file)
    assert code == 2 and "doesn't fit into the address space" in errors
