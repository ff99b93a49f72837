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

THREADS = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <unistd.h>
#include <sys/wait.h>
int shared, table[4];
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_barrier_t barrier;
__attribute__((noinline)) void visit(int id, int i) {
  pthread_mutex_lock(&lock);
  shared += id;
  pthread_mutex_unlock(&lock);
  table[id] = i;
}
static void *worker(void *arg) {
  int id = (long)arg;
  char name[16];
  snprintf(name, sizeof name, "worker-%d", id);
  pthread_setname_np(pthread_self(), name);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 5; i++) visit(id, i);
  return arg;
}
static void handler(int n) { write(1, "handled\n", 8); }
int main(int argc, char **argv) {
  pthread_t threads[3];
  setbuf(stdout, 0);
  pthread_barrier_init(&barrier, 0, 4);
  for (long i = 1; i <= 3; i++) pthread_create(&threads[i - 1], 0, worker, (void *)i);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  printf("shared %d\n", shared);
  switch (argc > 1 ? argv[1][0] : 0) {
  case 'a': abort();
  case 'p': signal(SIGUSR1, handler); pause(); puts("woken"); break;
  case 'x': {
    int status;
    pid_t child = fork();
    if (!child) { visit(2, 1); _exit(3); }
    waitpid(child, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
    execl(argv[0], argv[0], (char *)0);
  }
  }
  return 7;
}
"""


def compiled(compiler: str, folder: Path, name: str, source: str) -> Path:
    (folder / f"{name}.c").write_text(source)
    subprocess.run(
        [compiler, "-w", "-g", "-O0", "-static", "-pthread", "-o", folder / name, folder / f"{name}.c"],
        check=True,
        timeout=60,
    )
    return folder / name


@pytest.fixture(scope="module")
def compiler(require_tool: Callable[..., str], require_target: Callable[[str], Path]) -> str:
    require_target("riscv64")
    return require_tool("riscv64-linux-gnu-gcc")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    return compiled(compiler, tmp_path_factory.mktemp("gdb"), "prog", SOURCE)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory, compiler: str) -> Path:
    return compiled(compiler, tmp_path_factory.mktemp("gdb"), "threads", THREADS)


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


def test_threads_and_their_watchpoints(threads: Path, require_tool: Callable[..., str]) -> None:
    gdb = require_tool("gdb-multiarch")
    with waiting(threads, "a") as (process, port):
        text = debug(
            gdb, threads, port,
            "break visit if i == 2", "continue", "info threads", "thread apply all bt", "delete",
            "awatch table[3]", "continue", "delete", "rwatch shared", "continue", "delete",
            "set scheduler-locking on", "next", "info threads", "set scheduler-locking off",
            "continue", "print $_siginfo.si_signo", "continue",
        )  # fmt: skip
        assert process.wait(30) == -signal.SIGABRT
        assert process.stdout is not None
        assert process.stdout.read() == "shared 30\n", text
    first = re.search(r'Thread \d+ "worker-(\d)" hit Breakpoint 1, visit \(id=(\d), i=2\)', text)
    assert first, text
    assert first[1] == first[2]
    for name in ("worker-1", "worker-2", "worker-3"):
        assert re.search(rf'Thread \d+ \(Thread \d+ "{name}"\):\n#0 .*(\n#.*)*worker \(arg=', text), text
    assert re.search(r"pthread_barrier_wait .*\n#\d+ .* in main \(argc=2", text), text
    hit = r'Thread \d+ "worker-3" hit Hardware access \(read/write\) watchpoint 2: table\[3\]\n'
    assert re.search(hit + "\nOld value = 1\nNew value = 2", text), text
    assert re.search(r"hit Hardware read watchpoint 3: shared\n\nValue = \d+", text), text
    assert re.search(r'Thread \d+ "threads" received signal SIGABRT', text), text
    assert "$1 = 6" in text
    assert "Program terminated with signal SIGABRT" in text


def test_a_waiting_program(threads: Path, require_tool: Callable[..., str]) -> None:
    """It can be interrupted, call a function, go on with its system call, and be sent a signal."""
    gdb = require_tool("gdb-multiarch")
    with waiting(threads, "p") as (process, port):
        commands = [f"target remote localhost:{port}", "continue", "bt", "call visit(2, 77)", "print table"]
        words = [gdb, "-batch", "-nx", "-ex", "set confirm off"]
        words += [word for command in (*commands, "signal SIGUSR1") for word in ("-ex", command)]
        with subprocess.Popen(
            [*words, str(threads)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as debugger:
            assert process.stdout is not None
            assert process.stdout.readline() == "shared 30\n"
            time.sleep(0.3)
            debugger.send_signal(signal.SIGINT)
            text = debugger.communicate(timeout=60)[0]
        assert process.wait(30) == 7
        assert process.stdout.read() == "handled\nwoken\n", text
    assert "received signal SIGINT" in text
    assert re.search(r"#0 .* pause \(\)\n#1 .* main ", text), text
    assert "{0, 4, 77, 4}" in text


def test_forks_and_other_programs(threads: Path, require_tool: Callable[..., str]) -> None:
    """The child of a fork has no breakpoints; another program has those that gdb sets anew."""
    gdb = require_tool("gdb-multiarch")
    with waiting(threads, "x") as (process, port):
        text = debug(
            gdb, threads, port, "break visit if id == 2 && i == 1", *["continue"] * 3, "info threads"
        )
        assert process.wait(30) == 7
        assert process.stdout is not None
        assert process.stdout.read() == "shared 30\nchild 3\nshared 30\n", text
    assert text.count("hit Breakpoint 1, visit (id=2, i=1)") == 2, text
    assert "is executing new program" in text
    assert "exited with code 07" in text
