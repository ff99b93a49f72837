"""Threads of the guest on threads of the host (``--threads host``)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.linux.test_programs import RUN, call

Build = Callable[[str, str], Path]
HOST = [*RUN, "--threads", "host"]
COUNTED = """counted 24000 72000 24000 192 0 24000
consumed 250500
joined
handled 30
forked 60
churned 0
"""


@pytest.mark.parametrize("kind", ["riscv64", "x86_64", "i386"])
def test_what_threads_share(kind: str, build: Build, require_target: Callable[[str], Path]) -> None:
    """Locks, atomics, conditions, threads and memory that come and go, signals, forks; ended with threads at
    work.
    """
    require_target(kind)
    program = build("parallel", kind)
    assert call([*HOST, program]) == (3, COUNTED, "")
    # The last step with threads at work: another program, which has threads itself.
    code, output, errors = call([*HOST, program, build("timed", kind)])
    assert (code, output, errors) == (0, COUNTED + "wrong 0, woken 0\n", "")


@pytest.mark.parametrize("name", ["threads", "torture"])
def test_as_under_qemu(
    name: str,
    build: Build,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    require_target("riscv64")
    program = build(name, "riscv64")
    expected = call([require_tool("qemu-riscv64"), program, tmp_path])
    found = call([*HOST, program, tmp_path])
    assert found[:2] == expected[:2], found[2]


ENDS = """
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static volatile long n;
static void *spin(void *p) { for (;;) n++; return p; }
static void *leave(void *p) {
    usleep(1000);
    if (*(char *)p == 'e') exit(21);
    if (*(char *)p == 's') raise(SIGTERM);
    if (*(char *)p == 'f') *(volatile int *)16 = 1;
    return spin(p);
}
int main(int argc, char **argv) {
    pthread_t t;
    if (argc == 1) {
        cpu_set_t cpus;
        sched_getaffinity(0, sizeof cpus, &cpus);
        printf("%d\\n", CPU_COUNT(&cpus));
        return 0;
    }
    for (int i = 0; i < 3; i++) pthread_create(&t, 0, spin, 0);
    pthread_create(&t, 0, leave, argv[1]);
    spin(0);
}
"""


def test_ends_while_threads_run(
    require_tool: Callable[..., str], require_target: Callable[[str], Path], tmp_path: Path
) -> None:
    require_target("riscv64")
    source = tmp_path / "ends.c"
    source.write_text(ENDS)
    program = tmp_path / "ends"
    compiler = require_tool("riscv64-linux-gnu-gcc")
    subprocess.run([compiler, "-O1", "-static", "-o", program, source, "-pthread"], check=True)
    assert call([*HOST, program, "e"]) == (21, "", "")
    assert call([*HOST, program, "s"]) == (-15, "", "")
    code, _, errors = call([*HOST, program, "f"])
    assert code == -11 and "(SIGSEGV) at pc" in errors
    code, _, errors = call([*HOST, "--limit", "30000000", "--count", program, "x"])
    assert code == 124 and int(errors.split()[1]) >= 30000000, errors
    code, _, errors = call([*HOST, "--trace", program])
    assert code == 2 and "leave out --threads host" in errors
    assert int(call([*HOST, program])[1]) >= 2  # CPUs; one where threads take turns
    assert call([*RUN, program])[1] == "1\n"
