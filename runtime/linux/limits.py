"""System calls on limits and priorities. A guest's limits are kept here; the host's own bind it anyway."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.descriptors import LARGEST_LIMIT
from runtime.linux.errors import SystemCallError
from runtime.linux.loader import STACK_SIZE

if TYPE_CHECKING:
    from runtime.linux.process import Process

RLIMIT_FSIZE, RLIMIT_STACK, RLIMIT_NPROC, RLIMIT_NOFILE = 1, 3, 6, 7
RLIMIT_COUNT = 16
INFINITY64 = (1 << 64) - 1


def limits_of(p: Process, which: int) -> tuple[int, int]:
    """The soft and hard limit (`INFINITY64` for none). Raises EINVAL."""
    if not 0 <= which < RLIMIT_COUNT:
        raise SystemCallError(errno.EINVAL)
    if which in p.limits:
        return p.limits[which]
    if which == RLIMIT_STACK:
        return STACK_SIZE, INFINITY64
    if which == RLIMIT_NOFILE:
        return p.files.limit, LARGEST_LIMIT
    if which == RLIMIT_NPROC:
        return p.settings.process_limit, p.settings.process_limit
    soft, hard = resource.getrlimit(which)
    return soft & INFINITY64, hard & INFINITY64


def set_limits(p: Process, which: int, soft: int, hard: int) -> None:
    _, old_hard = limits_of(p, which)
    if soft > hard:
        raise SystemCallError(errno.EINVAL)
    if hard > old_hard:
        raise SystemCallError(errno.EPERM)
    p.limits[which] = (soft, hard)
    if which == RLIMIT_NOFILE:
        p.files.limit = soft
    elif which == RLIMIT_FSIZE:
        host_hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        within = soft if host_hard == resource.RLIM_INFINITY else min(soft, host_hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1 if within == INFINITY64 else within, host_hard))


def guest_resource(p: Process, which: int) -> int:
    """The host's number of a resource: SPARC swaps two (asm/resource.h)."""
    which = signed(which)
    return {6: 7, 7: 6}.get(which, which) if p.abi.name.startswith("sparc") else which


@system_call("prlimit64")
def prlimit64(p: Process, pid: int, which: int, new: int, old: int) -> int:
    if signed(pid) not in (0, os.getpid()):
        raise SystemCallError(errno.ESRCH)
    which = guest_resource(p, which)
    before = limits_of(p, which)
    if new:
        data = p.memory.read(new, 16)
        set_limits(p, which, p.abi.unpack(data[:8]), p.abi.unpack(data[8:]))
    if old:
        p.memory.write(old, p.abi.pack(before[0], 8) + p.abi.pack(before[1], 8))
    return 0


@system_call("getrlimit", "ugetrlimit")
def getrlimit(p: Process, which: int, address: int) -> int:
    soft, hard = limits_of(p, guest_resource(p, which))
    p.memory.write(address, p.abi.pack_words(min(soft, p.abi.mask), min(hard, p.abi.mask)))
    return 0


@system_call("setrlimit")
def setrlimit(p: Process, which: int, address: int) -> int:
    data = p.memory.read(address, 2 * p.abi.word)
    values = [p.abi.unpack(data[: p.abi.word]), p.abi.unpack(data[p.abi.word :])]
    soft, hard = (INFINITY64 if value == p.abi.mask else value for value in values)
    set_limits(p, guest_resource(p, which), soft, hard)
    return 0


# --- scheduling -----------------------------------------------------------------------------------------

PRIO_PROCESS = 0


@system_call("getpriority")
def getpriority(p: Process, which: int, who: int) -> int:
    """The kernel's answer is 20 less the nice value."""
    return 20 - os.getpriority(signed(which), signed(who))


@system_call("setpriority")
def setpriority(p: Process, which: int, who: int, value: int) -> int:
    if signed(which) != PRIO_PROCESS or signed(who) not in (0, os.getpid()):
        raise SystemCallError(errno.EPERM)
    os.setpriority(os.PRIO_PROCESS, 0, max(signed(value), os.getpriority(os.PRIO_PROCESS, 0)))
    return 0


@system_call("nice")
def nice(p: Process, increment: int) -> int:
    if signed(increment) < 0:
        raise SystemCallError(errno.EPERM)
    return os.nice(min(signed(increment), 40))


@system_call("sched_getscheduler")
def sched_getscheduler(p: Process, pid: int) -> int:
    return 0  # SCHED_OTHER


@system_call("sched_setscheduler")
def sched_setscheduler(p: Process, pid: int, policy: int, address: int) -> int:
    if signed(policy) & ~0x4000_0000 not in (0, 3, 5):  # OTHER, BATCH, IDLE
        raise SystemCallError(errno.EPERM)
    return 0


@system_call("sched_getparam")
def sched_getparam(p: Process, pid: int, address: int) -> int:
    p.put_int(address, 0)
    return 0


@system_call("sched_setparam")
def sched_setparam(p: Process, pid: int, address: int) -> int:
    if p.int_at(address):
        raise SystemCallError(errno.EINVAL)
    return 0


@system_call("sched_get_priority_max", "sched_get_priority_min")
def sched_get_priority_max(p: Process, policy: int) -> int:
    if signed(policy) in (0, 3, 5):
        return 0
    if signed(policy) not in (1, 2):
        raise SystemCallError(errno.EINVAL)
    return 99 if p.abi.name_of_call(p.cpu).endswith("max") else 1


@system_call("ioprio_get", "ioprio_set")
def ioprio_get(p: Process) -> int:
    return 0
