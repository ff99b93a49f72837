"""gdb takes the target descriptions of all families, and finds each register where it is sent."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable

import pytest

from runtime.monitor.gdb import GdbServer, StopEvent
from runtime.monitor.gdb.debuggee import RegisterSlot
from runtime.monitor.gdb.descriptions import standard_description
from tests.runtime.monitor.test_server import Box


@pytest.mark.parametrize(
    ("family", "target", "bits", "names"),
    [
        ("x86", "x86_64", 64, "rip rax r15 rsp"),
        ("x86", "i386", 32, "eip eax edi esp"),
        ("arm", "aarch64", 64, "pc x0 x30 sp"),
        ("arm", "arm", 32, "pc r0 r12 lr"),
        ("ppc", "ppc", 32, "pc r0 r31 lr ctr"),
        ("ppc", "ppc64", 64, "pc r0 r31 lr ctr"),
        ("sparc", "sparc", 32, "pc npc g1 o0 i7"),
        ("sparc", "sparc64", 64, "pc npc g1 o0 i7"),
    ],
)
def test_gdb_finds_the_registers(
    family: str, target: str, bits: int, names: str, require_tool: Callable[..., str]
) -> None:
    gdb = require_tool("gdb-multiarch")
    description, rows = standard_description(family, target, bits)
    box = Box()
    box.description = description
    box.slots = tuple(RegisterSlot(row.name, row.bits // 8, row.name) for row in rows)
    box.registers = {row.name: (0x1000 + 4 * n) for n, row in enumerate(rows)}
    if "eflags" in box.registers:
        box.registers["eflags"] = 0x46
    box.byte_order = "big" if family in ("ppc", "sparc") else "little"
    server = GdbServer(box, 0)

    def serve() -> None:
        server.accept()
        server.stopped(StopEvent(), report=False)

    thread = threading.Thread(target=serve)
    thread.start()
    words = [
        gdb,
        "-batch",
        "-nx",
        "-ex",
        f"set endian {box.byte_order}",
        "-ex",
        f"target remote :{server.port}",
    ]
    for name in names.split():
        words += ["-ex", f'printf "{name}=%#lx\\n", (unsigned long)${name}']
    words += ["-ex", "info registers eflags"] if "eflags" in box.registers else []
    done = subprocess.run(
        [*words, "-ex", "disconnect"], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    thread.join(20)
    server.close()
    text = done.stdout + done.stderr
    for name in names.split():
        assert f"{name}={box.registers[name]:#x}\n" in text, text
    if family == "x86":
        assert "[ PF ZF ]" in text
    assert "rejected" not in text
    assert "bogus" not in text
