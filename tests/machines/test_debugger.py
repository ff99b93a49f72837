"""gdb-multiarch on a machine: a kernel in miniature with high addresses, two harts and a timer."""

from __future__ import annotations

import random
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.monitor.address import Address
from tests.machines.debugging import booted, debug

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def kernel(
    tmp_path_factory: pytest.TempPathFactory,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
) -> Path:
    require_target("riscv64")
    compiler = require_tool("riscv64-linux-gnu-gcc")
    image = tmp_path_factory.mktemp("kernel") / "kernel.elf"
    flags = ["-march=rv64gc", "-mabi=lp64d", "-mcmodel=medany", "-ffreestanding", "-fno-pic", "-nostdlib"]
    flags += [
        "-fno-stack-protector",
        "-static",
        "-g",
        "-O1",
        "-w",
        "-Wl,--build-id=none,--no-warn-rwx-segments",
    ]
    sources = [PROGRAMS / "supervisor.S", PROGRAMS / "supervisor.c"]
    script = ["-T", PROGRAMS / "supervisor.ld"]
    subprocess.run([compiler, *flags, *script, "-o", image, *sources], check=True, timeout=60)
    return image


def test_a_kernel_with_two_harts(kernel: Path, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    with booted(tmp_path, "--bios", str(kernel), "-S", "--smp", "2") as path:
        text = debug(
            gdb, kernel, path,
            "hbreak work if hart == 1 && cells[0].count > 100", "continue", "bt", "info threads",
            "print /x $mhartid", "print $priv", "print /x $satp >> 60", "print /x $stvec", "thread 1",
            "print $mhartid", "delete", "watch cells[1].count", "continue", "delete",
            "set var cells[0].count = 5000000", "print cells[0].count", "stepi", "stepi",
            "maintenance packet qqemu.PhyMemMode", "maintenance packet Qqemu.PhyMemMode:1",
            "x/1gx 0x80010000", "maintenance packet Qqemu.PhyMemMode:0", "x/1gx 0xffffffff80010000",
            "set $sscratch = 0x1234", "print /x $sscratch", "set $mhartid = 7", "print $mhartid",
            "x/2i mix", "monitor info status", "monitor info cpus", "info registers fcsr",
        )  # fmt: skip
    assert re.search(r"#0 +work \(hart=hart@entry=1, n=n@entry=10\).*\n#1 .* in kernel \(hart=1\)", text), (
        text
    )
    assert "Thread 1 (hart 0)" in text and "* 2    Thread 2 (hart 1)" in text
    for line in ("= 0x1", "= 1", "= 0x8", "= 0x0", "= 0", "= 5000000", "= 0x1234"):
        assert re.search(rf"^\$\d+ {line}", text, re.MULTILINE), (line, text)
    change = re.search(r"Old value = (\d+)\nNew value = (\d+)", text)
    assert change is not None, text
    old, new = change.groups()
    assert int(new) == int(old) + 1
    physical, virtual = re.findall(r"^0x\w+0010000(?: <\w+>)?:\s+(0x\w{16})$", text, re.MULTILINE)
    assert physical == virtual
    assert "VM status: paused (debug)" in text and "<mix>:\tsll" in text


@pytest.mark.parametrize("clock", ["counted", "host"])
def test_backwards(kernel: Path, tmp_path: Path, require_tool: Callable[..., str], clock: str) -> None:
    gdb = require_tool("gdb-multiarch")
    with booted(tmp_path, "--bios", str(kernel), "-S", "--smp", "2", "--clock", clock) as path:
        text = debug(
            gdb, kernel, path,
            "hbreak work if cells[0].count == 500", "continue", "delete",
            "watch history[3]", "continue", "print $pc", "print history[3]",
            "reverse-stepi", "print history[3]", "stepi", "print history[3]", "delete", "break mix",
            "reverse-continue", "bt 2", "reverse-finish", "delete", "print cells[0].count",
            "tbreak kernel", "reverse-continue", "print cells[0].count", "reverse-continue", "print $pc",
            "set var cells[0].count = 1", "stepi", "continue", "print history[3]",
            "set var cells[0].count = 7000", "stepi", "reverse-stepi", "print cells[0].count", "stepi",
            "print cells[0].count",
        )  # fmt: skip
    values = re.findall(r"^\$\d+ = (?:\(.*\) )?(\S+)", text, re.MULTILINE)
    assert values[1] == values[3] != values[2], text
    assert values[4].isdigit() and int(values[4]) > 400
    assert values[5] == "0"  # where the kernel begins
    assert values[6] == "0x1000" and "No more reverse-execution history" in text
    assert "Cannot access memory" in text  # the past stays as it is
    assert values[7] == values[1]  # and leads to the same present
    assert values[8] == values[9] == "7000"


def test_noise_does_not_harm(kernel: Path, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    generator = random.Random(9)
    packets = re.findall(
        r"\S+",
        """
        g p20 p500 P41=00 mffffffff80010000,40 m0,ffffffff M80010000,2:0000 bs bc vCont;s:1 vCont;s:2;c
        vCont;c:9 vCont;r0,ffffffffffffffff:1 Z0,80000004,4 z0,80000004,4 Z2,80010000,8 z2,80010000,8 Hg2 Hg-1
        Hg99 T2 qC ? c s qXfer:features:read:target.xml:0,fff qRcmd,696e666f qRcmd,6c6f6164766d2078
        Qqemu.PhyMemMode:2 Qqemu.PhyMemMode:1 G00 X80010000,1:} qThreadExtraInfo,2 vCont; D1 QStartNoAckMode
        """,
    )
    with booted(tmp_path, "--bios", str(kernel), "--smp", "2") as path:
        for _ in range(12):
            with Address(path=str(path)).connect(10) as peer:
                for _ in range(40):
                    packet = generator.choice(packets).encode()
                    if generator.random() < 0.2:
                        packet += generator.randbytes(3)
                    noise = (
                        b"\x03"
                        if generator.random() < 0.1
                        else b"$" + packet + b"#%02x" % (sum(packet) & 0xFF)
                    )
                    try:
                        peer.sendall(noise)
                    except ConnectionError:  # some of it ends the connection
                        break
                peer.settimeout(0.05)
                try:
                    while peer.recv(1 << 16):
                        pass
                except (TimeoutError, ConnectionError):
                    pass
                if generator.random() < 0.5:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        text = debug(gdb, kernel, path, "info threads", "stepi")
    assert "Thread 2 (hart 1)" in text
