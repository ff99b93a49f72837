"""Hostile guests: random system calls with random arguments end in a result, an error number or the
guest's end.
"""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.elf import parse_elf
from runtime.elf.writer import OutputSection, write_executable
from runtime.linux.abi import for_elf
from runtime.linux.abi.base import Abi
from runtime.linux.calls import HANDLERS
from runtime.linux.errors import GuestExit
from runtime.linux.ports import Stop
from runtime.linux.process import Process, Settings
from runtime.linux.program import start
from runtime.linux.scheduler import Scheduler
from tests.runtime.linux.fake_cpu import FakeCpu, FakeMemory

# Calls that wait, or that would change the test's own process.
LEFT_OUT = {
    *("pause", "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64"),
    *("nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "futex", "futex_time64", "flock", "sync"),
    *("fcntl", "fcntl64", "chdir", "fchdir", "pipe", "pipe2"),
}

KINDS = [(243, 64, True), (243, 32, True), (183, 64, True), (40, 32, True), (62, 64, True), (3, 32, True),
         (20, 32, False), (21, 64, False), (21, 64, True), (2, 32, False), (43, 64, False)]  # fmt: skip


def make(machine: int, bits: int, little: bool) -> Process:
    sections = [OutputSection(".data", 3, 0x10000, 0x3000, bytes(0x3000))]
    data = write_executable(
        sections,
        bits=bits,
        little_endian=little,
        machine=machine,
        entry=0x10000,
        flags=0x5000000 if machine == 40 else 0,
        page=0x2000,
    )
    elf = parse_elf(data, "hostile")
    abi: Abi = for_elf(elf)
    settings = Settings(memory_limit=1 << 28)
    return start(elf, abi, FakeCpu(), FakeMemory(), arguments=[b"hostile"], environment=[], settings=settings)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 16 MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(("machine", "bits", "little"), KINDS)
def test_random_calls(
    machine: int, bits: int, little: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = make(machine, bits, little)
    abi = process.abi
    chance = random.Random(machine * 100 + bits + little)
    for number in (0, 1, 2):
        process.files.close(number)
    for i in range(40):  # places that hold names of files here
        name = chance.choice(
            [b"one", b"two", b"sub", b"sub/three", b".", b"", b"x" * 300, b"/proc/self/maps"]
        )
        process.memory.write(0x10000 + 64 * i, name[:60] + b"\0")
    handlers = load_handlers()
    names = sorted(n for n in handlers if n in abi.call_names.values() and n not in LEFT_OUT)
    numbers = {name: number for number, name in abi.call_names.items()}
    assert len(names) > 60

    def argument() -> int:
        kind = chance.randrange(10)
        if kind < 3:
            return chance.randrange(-2, 12) & abi.mask
        if kind < 6:
            return 0x10000 + 64 * chance.randrange(40)
        if kind == 6:
            return 0x10000 + chance.randrange(0x4000)
        if kind == 7:
            return (abi.stack_top - chance.randrange(1 << 14)) & abi.mask
        if kind == 8:
            return 1 << chance.randrange(bits)
        return chance.getrandbits(bits)

    for _ in range(4000):
        name = chance.choice(names)
        process.cpu.set(abi.number_register, numbers[name])
        for register in abi.argument_registers:
            process.cpu.set(register, argument())
        try:
            process.system_call(Stop("trap", 0x10000, 1))
        except GuestExit as ended:
            assert 0 <= ended.status <= 255
            assert name in ("exit", "exit_group", "kill", "tkill", "tgkill")
            process.signals.pending.clear()
    assert process.memory.mapped <= 1 << 28
    assert len(process.files.table) <= process.files.limit
    for number in list(process.files.table):
        process.files.close(number)
    assert os.getcwd() == str(tmp_path)  # noqa: PTH109


def test_own_memory_stays_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No way through /proc into this process's memory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/proc/self/mem")
    (tmp_path / "folder").symlink_to(f"/proc/{os.getpid()}")
    process = make(243, 64, True)
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
        process.system_call(Stop("trap", 0x10000, 1))
        assert process.cpu.get("a0") - 2**64 in (-13, -2), name


def test_error_numbers_of_sparc() -> None:
    process = make(2, 32, False)
    process.cpu.set("g1", 5000)
    process.system_call(Stop("trap", 0x10000, 1))
    assert (process.cpu.get("o0"), process.cpu.get("c")) == (90, 1)  # ENOSYS, carry set
