"""gdb-multiarch on programs under ``isagen run --gdb``."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = """
#include <stdio.h>
#include <signal.h>
#include <string.h>
struct point { int x, y; double w; };
int counter = 0;
char message[32];
static void on_signal(int n) { message[0] = 'S'; write(1, message, 5); _exit(9); }
int add(int a, int b) { int s = a + b; counter += s; return s; }
int work(int n) { int t = 0; for (int i = 0; i < n; i++) t = add(t, i); return t; }
int main(int argc, char **argv) {
  struct point p = {3, 4, 2.5};
  int r = work(10);
  strcpy(message, "hello");
  printf("%d %d %s\\n", r, p.x, message);
  fflush(stdout);
  if (argc > 1 && argv[1][0] == 'f') { signal(SIGSEGV, on_signal); *(volatile int *)8 = 1; }
  if (argc > 1 && argv[1][0] == 'l') for (;;) counter++;
  return r % 7;
}
"""


@pytest.fixture(scope="module")
def program(
    tmp_path_factory: pytest.TempPathFactory,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
) -> Path:
    require_target("riscv64")
    compiler = require_tool("riscv64-linux-gnu-gcc")
    folder = tmp_path_factory.mktemp("gdb")
    (folder / "prog.c").write_text(SOURCE)
    subprocess.run(
        [compiler, "-w", "-g", "-O0", "-static", "-o", folder / "prog", folder / "prog.c"],
        check=True,
        timeout=60,
    )
    return folder / "prog"


@contextmanager
def waiting(program: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program that waits for gdb, and its port."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "isagen", "run", "--gdb", "0", str(program), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            assert select.select([process.stderr], [], [], 60)[0], "it doesn't start"
            line = process.stderr.readline()
            match = re.search(r"localhost:(\d+)", line)
            assert match, line + process.stderr.read()
            yield process, int(match[1])
        finally:
            process.kill()


def debug(gdb: str, program: Path, port: int, *commands: str) -> str:
    """gdb's output for a script."""
    words = [gdb, "-batch", "-nx", "-ex", "set pagination off", "-ex", "set confirm off"]
    for command in (f"target remote localhost:{port}", *commands):
        words += ["-ex", command]
    found = subprocess.run(
        [*words, str(program)], capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL
    )
    return found.stdout + found.stderr


def test_breakpoints_steps_watchpoints_and_calls(program: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    with waiting(program) as (process, port):
        text = debug(
            gdb, program, port,
            "break add if a == 3", "continue", "bt", "print a", "finish", "delete", "watch counter",
            "continue", "delete", "tbreak 14", "continue", "next", "print p", "print message", "stepi",
            "set var message[0] = 'J'", "call add(100, 200)", "info auxv", "info threads", "monitor regions",
            "x/2i $pc", "continue",
        )  # fmt: skip
        assert process.wait(30) == 3
        assert process.stdout is not None
        output = process.stdout.read()
    assert output == "45 3 Jello\n", text
    assert re.search(r"#0 +add \(a=3, b=3\).*\n#1 .* work \(n=10\).*\n#2 .* main ", text), text
    assert "Value returned is $2 = 6" in text
    assert "Old value = 10\nNew value = 20" in text
    assert "{x = 3, y = 4, w = 2.5}" in text
    assert '"hello"' in text
    assert "= 300" in text
    assert "AT_ENTRY" in text
    assert "exited with code 03" in text


def test_signals_reach_gdb_and_then_the_program(program: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    with waiting(program, "f") as (process, port):
        text = debug(gdb, program, port, "continue", "print $_siginfo", "bt 1", "continue")
        assert process.wait(30) == 9
        assert process.stdout is not None
        assert process.stdout.read() == "45 3 hello\nSello", text
    assert "received signal SIGSEGV" in text
    assert "exited with code 011" in text


def test_interrupting_and_detaching(program: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    with waiting(program, "l") as (process, port):
        commands = [f"target remote localhost:{port}", "continue", "print counter > 0", "bt", "detach"]
        words = [
            gdb,
            "-batch",
            "-nx",
            *(word for command in commands for word in ("-ex", command)),
            str(program),
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as debugger:
            assert process.stdout is not None
            assert process.stdout.readline() == "45 3 hello\n"
            time.sleep(0.3)
            debugger.send_signal(signal.SIGINT)
            text = debugger.communicate(timeout=60)[0]
        assert "received signal SIGINT" in text
        assert "$1 = 1" in text
        assert "main" in text
        assert process.poll() is None  # detached: it runs on


def test_killing(program: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    with waiting(program) as (process, port):
        debug(gdb, program, port, "break main", "continue", "kill")
        assert process.wait(30) == 128 + 9


def test_a_debugger_that_goes_away_detaches(program: Path) -> None:
    import socket

    with waiting(program) as (process, port):
        socket.create_connection(("127.0.0.1", port)).close()
        assert process.wait(30) == 3
