"""Machines from Python: devices of one's own, forks with disks, asyncio, the plugin of pytest."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isagen import AsyncMachine, IsagenError, Machine
from isagen.cli import main
from machines.machine import Ending
from tests.conftest import CHECKOUT

ECHO = """
        li    s0, 0x10000000
        li    t1, 'r'
        sb    t1, 0(s0)
loop:   lbu   t1, 5(s0)
        andi  t1, t1, 1
        beqz  t1, loop
        lbu   t1, 0(s0)
        addi  t2, t1, -'q'
        beqz  t2, quit
        addi  t1, t1, 1
        sb    t1, 0(s0)
        j     loop
quit:   li    t0, 0x100000
        li    t1, 0x5555
        sw    t1, 0(t0)
hang:   j     hang
"""

WAITER = """
        li    s0, 0xc000000         # the interrupt controller: source 20 to hart 0's machine mode
        li    t0, 1
        sw    t0, 80(s0)
        li    t1, 0xc002000
        li    t0, 0x100000
        sw    t0, 0(t1)
        li    t0, 0x800
        csrw  mie, t0
        li    s1, 0x30000000
        lw    t2, 8(s1)             # what the device holds
wait:   wfi
        csrr  t0, mip
        srli  t0, t0, 11
        andi  t0, t0, 1
        beqz  t0, wait
        addi  t2, t2, 1
        sw    t2, 8(s1)
        li    t1, 0xc200000
        lw    t3, 4(t1)             # claim
        sw    t3, 12(s1)
        sw    t3, 4(t1)
        j     wait
"""


@pytest.fixture
def assemble(require_target: Callable[[str], Path], tmp_path: Path) -> Callable[[str], str]:
    require_target("riscv64")

    def run(code: str) -> str:
        source, image = tmp_path / "code.s", tmp_path / "code.bin"
        source.write_text(code)
        assert main(["asm", "--base", "0x80000000", "--raw", "-o", str(image), "riscv64", str(source)]) == 0
        return str(image)

    return run


class Cell:
    def __init__(self) -> None:
        self.words = {8: 40}
        self.line: Any = None

    def read(self, offset: int, size: int) -> int:
        return self.words.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        self.words[offset] = value
        if offset == 8:
            self.line.set(False)

    def save(self) -> dict[str, int]:
        return {str(offset): value for offset, value in self.words.items()}

    def restore(self, saved: dict[str, int]) -> None:
        self.words = {int(offset): value for offset, value in saved.items()}


def test_a_device_of_ones_own(assemble: Callable[[str], str]) -> None:
    with Machine("virt", bios=assemble(WAITER), clock="counted") as vm:
        cell = Cell()
        vm.map_device(0x30000000, 16, cell)
        cell.line = vm.irq(20)
        assert vm.run(10_000).ending in (Ending.ASLEEP, Ending.LIMIT)
        saved = vm.snapshot()
        vm.irq(20).set(True)
        vm.run(10_000)
        assert cell.words == {8: 41, 12: 20}
        vm.restore(saved)
        assert cell.words == {8: 40}
        for address, size in ((0x30000008, 4), (0x80000000, 4096), (0x10000000, 4), (0, 0), (-1, 4)):
            with pytest.raises(IsagenError):
                vm.map_device(address, size, cell)
        with pytest.raises(IsagenError, match="interrupt source"):
            vm.irq(0)


def test_forks_take_what_was_written_to_disks_along(assemble: Callable[[str], str], tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    drive = {"path": str(image), "format": "raw"}
    with Machine("virt", bios=assemble(ECHO), drive=[{**drive, "snapshot": True}]) as vm:
        vm.console.expect("r")
        vm.board.disks[0].pwrite(70_000, b"mine")
        with vm.fork() as child:
            assert bytes(child.board.disks[0].pread(70_000, 4)) == b"mine"
            child.board.disks[0].pwrite(70_000, b"hers")
            child.console.send("1")
            child.console.expect("2")
        assert bytes(vm.board.disks[0].pread(70_000, 4)) == b"mine" and "2" not in vm.console.text
    with (
        Machine("virt", bios=assemble(ECHO), drive=[drive]) as vm,
        pytest.raises(IsagenError, match="one disk"),
    ):
        vm.fork()
    assert image.read_bytes() == bytes(1 << 20)


def test_asyncio(assemble: Callable[[str], str]) -> None:
    async def talk() -> None:
        async with AsyncMachine("virt", bios=assemble(ECHO), paused=True) as vm:
            seen = []

            async def listen() -> None:
                async for event, _ in vm.events():
                    seen.append(event)

            listener = asyncio.create_task(listen())
            await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                await vm.expect("r", timeout=0.05)
            await vm.resume()
            await vm.expect("r", timeout=20)
            saved = await vm.snapshot()
            await vm.send("a")
            await vm.expect("b", timeout=20)
            waiting = asyncio.create_task(vm.expect("never"))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await vm.pause()
            assert "paused" in await vm.monitor("info status")
            await vm.restore(saved)
            await vm.resume()
            with pytest.raises(ZeroDivisionError):
                await vm.call(lambda machine: 1 // 0)
            await vm.send("q")
            assert (await vm.wait()).ending is Ending.OFF
            with pytest.raises(EOFError):
                await vm.expect("never")
            assert await vm.call(lambda machine: machine.executed) > 0
            await listener
            assert seen == ["RESUME", "STOP", "RESUME", "SHUTDOWN"]

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_the_plugin_of_pytest(assemble: Callable[[str], str], tmp_path: Path) -> None:
    image = assemble(ECHO)
    (tmp_path / "test_vm.py").write_text(
        f"""
import pytest

@pytest.mark.vm(bios={image!r})
def test_fresh(vm):
    vm.console.expect("r")

class TestShared:
    pytestmark = pytest.mark.vm(bios={image!r}, until="r")

    @pytest.mark.parametrize("letter", "abc")
    def test_letter(self, vm, letter):
        assert vm.console.text == ""
        vm.console.send(letter)
        assert vm.console.expect(".")[0] == chr(ord(letter) + 1)

    def test_fails(self, vm):
        vm.console.send("k")
        vm.console.expect("l")
        assert False
"""
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "isagen.pytest_plugin", "-p", "no:cacheprovider"]
    # Where isagen is installed the plugin would be there twice.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words += ["--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120)
    assert "4 passed" in done.stdout and "1 failed" in done.stdout, done.stdout + done.stderr
    assert "serial port of vm" in done.stdout and "\nl\n" in done.stdout
