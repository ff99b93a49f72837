"""Machines that gdb-multiarch debugs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def booted(folder: Path, *options: str) -> Iterator[Path]:
    """The path of the socket where a machine (`isagen boot virt OPTION...`) waits for gdb."""
    path = folder / "gdb"
    command = [sys.executable, "-m", "isagen", "boot", "virt", "--gdb", f"unix:{path}"]
    with subprocess.Popen(
        [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ
    ) as process:
        try:
            end = time.monotonic() + 60
            while not path.exists():
                assert process.poll() is None and time.monotonic() < end, "it doesn't start"
                time.sleep(0.05)
            yield path
        finally:
            process.terminate()
            assert process.wait(20) == 128 + 15
    assert not path.exists()


def debug(gdb: str, symbols: Path, path: Path, *commands: str) -> str:
    """gdb's output for a script; `symbols`: an ELF file that has them."""
    words = [gdb, "-batch", "-nx", "-ex", "set pagination off", "-ex", "set confirm off"]
    for command in (f"target remote {path}", *commands, "detach"):
        words += ["-ex", command]
    done = subprocess.run(
        [*words, str(symbols)], capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL
    )
    return done.stdout + done.stderr
