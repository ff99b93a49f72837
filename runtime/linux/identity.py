"""System calls about who the process is, what the system is, and what it may use."""

from __future__ import annotations

import errno
import os
import platform
import resource
import time
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import SYSINFO32, SYSINFO64
from runtime.linux.loader import STACK_SIZE
from runtime.linux.memory import CHUNK

if TYPE_CHECKING:
    from runtime.linux.process import Process

RLIMIT_STACK = 3
RLIMIT_COUNT = 16
INFINITY64 = (1 << 64) - 1


@system_call("getpid", "gettid")
def getpid(p: Process) -> int:
    return os.getpid()


@system_call("getppid")
def getppid(p: Process) -> int:
    return os.getppid()


@system_call("getpgrp")
def getpgrp(p: Process) -> int:
    return os.getpgrp()


@system_call("getpgid")
def getpgid(p: Process, pid: int) -> int:
    return os.getpgid(signed(pid))


@system_call("getsid")
def getsid(p: Process, pid: int) -> int:
    return os.getsid(signed(pid))


@system_call("getuid", "getuid32")
def getuid(p: Process) -> int:
    return os.getuid()


@system_call("geteuid", "geteuid32")
def geteuid(p: Process) -> int:
    return os.geteuid()


@system_call("getgid", "getgid32")
def getgid(p: Process) -> int:
    return os.getgid()


@system_call("getegid", "getegid32")
def getegid(p: Process) -> int:
    return os.getegid()


def write_ids(p: Process, addresses: tuple[int, ...], values: tuple[int, ...]) -> int:
    for address, value in zip(addresses, values, strict=True):
        p.memory.write(address, p.abi.pack(value, 4))
    return 0


@system_call("getresuid", "getresuid32")
def getresuid(p: Process, real: int, effective: int, saved: int) -> int:
    return write_ids(p, (real, effective, saved), os.getresuid())


@system_call("getresgid", "getresgid32")
def getresgid(p: Process, real: int, effective: int, saved: int) -> int:
    return write_ids(p, (real, effective, saved), os.getresgid())


@system_call("getgroups", "getgroups32")
def getgroups(p: Process, count: int, address: int) -> int:
    groups = os.getgroups()
    count = signed(count)
    if count:
        if count < len(groups):
            raise SystemCallError(errno.EINVAL)
        p.memory.write(address, b"".join(p.abi.pack(group, 4) for group in groups))
    return len(groups)


@system_call("uname")
def uname(p: Process, address: int) -> int:
    """Six names of 65 bytes. The kernel is the host's, the machine the guest's."""
    host = platform.uname()
    names = ("Linux", host.node, host.release, host.version, p.abi.machine, "(none)")
    p.memory.write(address, b"".join(name.encode()[:64].ljust(65, b"\0") for name in names))
    return 0


@system_call("sysinfo")
def sysinfo(p: Process, address: int) -> int:
    layout = SYSINFO64 if p.abi.bits == 64 else SYSINFO32
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = os.sysconf("SC_AVPHYS_PAGES") * page
    unit = 1 if p.abi.bits == 64 else page
    values = {
        "uptime": int(time.clock_gettime(time.CLOCK_BOOTTIME)),
        "totalram": total // unit,
        "freeram": free // unit,
        "procs": 1,
        "mem_unit": unit,
    }
    loads = os.getloadavg()
    values |= {f"load{minutes}": int(loads[i] * 65536) for i, minutes in enumerate((1, 5, 15))}
    p.memory.write(address, layout.pack(p.abi.order, values))
    return 0


@system_call("getrandom")
def getrandom(p: Process, address: int, count: int, flags: int) -> int:
    if flags & ~7:
        raise SystemCallError(errno.EINVAL)
    count = min(count, 33_554_431)
    for done in range(0, count, CHUNK):
        p.memory.write(address + done, os.urandom(min(CHUNK, count - done)))
    return count


# --- limits -------------------------------------------------------------------------------------------


def limits_of(p: Process, which: int) -> tuple[int, int]:
    """The soft and hard limit (`INFINITY64` for none). Raises EINVAL."""
    if not 0 <= which < RLIMIT_COUNT:
        raise SystemCallError(errno.EINVAL)
    if which in p.limits:
        return p.limits[which]
    if which == RLIMIT_STACK:
        return STACK_SIZE, INFINITY64
    if which == resource.RLIMIT_NOFILE:
        return p.files.limit, p.files.limit
    soft, hard = resource.getrlimit(which)
    return soft & INFINITY64, hard & INFINITY64


def set_limits(p: Process, which: int, soft: int, hard: int) -> None:
    _, old_hard = limits_of(p, which)
    if soft > hard:
        raise SystemCallError(errno.EINVAL)
    if hard > old_hard:
        raise SystemCallError(errno.EPERM)
    p.limits[which] = (soft, hard)


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
