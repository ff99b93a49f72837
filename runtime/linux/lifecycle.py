"""System calls for a process's life: its end, its threads' bookkeeping, futexes of a single thread."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError

if TYPE_CHECKING:
    from runtime.linux.process import Process

FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP = 0, 1, 3, 4, 5
FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 9, 10
FUTEX_COMMAND = 0x7F
FUTEX_CLOCK_REALTIME = 256


@system_call("exit", "exit_group")
def exit_group(p: Process, status: int) -> int:
    p.exit(status)
    return 0


@system_call("set_tid_address")
def set_tid_address(p: Process, address: int) -> int:
    p.clear_child_tid = address
    return os.getpid()


@system_call("set_robust_list")
def set_robust_list(p: Process, head: int, size: int) -> int:
    if size != 3 * p.abi.word:
        raise SystemCallError(errno.EINVAL)
    return 0


@system_call("sched_yield", "membarrier")
def sched_yield(p: Process) -> int:
    return 0


@system_call("sched_getaffinity")
def sched_getaffinity(p: Process, pid: int, size: int, address: int) -> int:
    """One CPU: the guest has one thread, whose order of execution should not depend on the host."""
    if size < p.abi.word or size % p.abi.word:
        raise SystemCallError(errno.EINVAL)
    p.memory.write(address, p.abi.pack_words(1))
    return p.abi.word


@system_call("sched_setaffinity")
def sched_setaffinity(p: Process, pid: int, size: int, address: int) -> int:
    return 0


@system_call("getcpu")
def getcpu(p: Process, cpu: int, node: int) -> int:
    for address in (cpu, node):
        if address:
            p.memory.write(address, bytes(4))
    return 0


def futex(p: Process, address: int, operation: int, value: int, timeout: float | None) -> int:
    """A thread that waits alone waits for its timeout, or for ever, as it would natively."""
    command = operation & FUTEX_COMMAND
    if address % 4:
        raise SystemCallError(errno.EINVAL)
    if command in (FUTEX_WAIT, FUTEX_WAIT_BITSET):
        now = p.abi.unpack(p.memory.read(address, 4))
        if now != value & 0xFFFF_FFFF:
            raise SystemCallError(errno.EAGAIN)
        if timeout is None:
            while True:
                time.sleep(3600)
        time.sleep(max(timeout, 0))
        raise SystemCallError(errno.ETIMEDOUT)
    if command in (FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP):
        p.memory.read(address, 4)
        return 0
    raise SystemCallError(errno.ENOSYS)


def futex_timeout(p: Process, operation: int, address: int, word: int) -> float | None:
    """Seconds to wait. FUTEX_WAIT's timeout is relative, FUTEX_WAIT_BITSET's absolute."""
    command = operation & FUTEX_COMMAND
    if not address or command not in (FUTEX_WAIT, FUTEX_WAIT_BITSET):
        return None
    from runtime.linux.time import read_timespec

    nanoseconds = read_timespec(p, address, word)
    if command == FUTEX_WAIT_BITSET:
        clock = time.CLOCK_REALTIME if operation & FUTEX_CLOCK_REALTIME else time.CLOCK_MONOTONIC
        nanoseconds -= time.clock_gettime_ns(clock)
    return nanoseconds / 1e9


@system_call("futex")
def futex_(p: Process, address: int, operation: int, value: int, timeout: int) -> int:
    return futex(p, address, operation, value, futex_timeout(p, operation, timeout, p.abi.word))


@system_call("futex_time64")
def futex_time64(p: Process, address: int, operation: int, value: int, timeout: int) -> int:
    return futex(p, address, operation, value, futex_timeout(p, operation, timeout, 8))


@system_call("prctl")
def prctl(p: Process, option: int, a1: int, a2: int) -> int:
    """Names, and the questions that start-up code asks; all else is EINVAL as for options that a kernel
    lacks.
    """
    option = signed(option)
    if option == 15:  # PR_SET_NAME
        p.memory.read(a1, 1)
        return 0
    if option == 16:  # PR_GET_NAME
        p.memory.write(a1, os.path.basename(p.executable)[:15].ljust(16, b"\0"))  # noqa: PTH119 - bytes
        return 0
    if option == 3:  # PR_GET_DUMPABLE
        return 1
    if option in (4, 38):  # PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS
        return 0
    raise SystemCallError(errno.EINVAL)


# --- one architecture's own ---------------------------------------------------------------------------


@system_call("arch_prctl")
def arch_prctl(p: Process, code: int, address: int) -> int:
    """x86-64: segment bases."""
    name = {0x1001: "gs_base", 0x1002: "fs_base"}.get(code)
    if name:
        p.cpu.set(name, address)
        return 0
    name = {0x1003: "fs_base", 0x1004: "gs_base"}.get(code)
    if name is None:
        raise SystemCallError(errno.EINVAL)
    p.memory.write(address, p.abi.pack(p.cpu.get(name), 8))
    return 0


@system_call("set_thread_area")
def set_thread_area(p: Process, description: int) -> int:
    """i386: ``struct user_desc`` {entry, base, limit, flags}; entry -1 asks for a free one (12 is the
    first).
    """
    data = p.memory.read(description, 16)
    if p.abi.unpack(data[:4]) == 0xFFFF_FFFF:
        p.memory.write(description, p.abi.pack(12, 4))
    p.abi.set_thread_pointer(p.cpu, p.abi.unpack(data[4:8]))
    return 0


@system_call("set_tls")
def set_tls(p: Process, value: int) -> int:
    """ARM."""
    p.abi.set_thread_pointer(p.cpu, value)
    return 0


@system_call("cacheflush", "riscv_flush_icache")
def flush_instructions(p: Process, start: int, end: int) -> int:
    """The engine sees writes to code by itself: nothing to do."""
    return 0
