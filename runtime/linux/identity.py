"""System calls about who the process is, what the system is, and what it may use."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import SYSINFO32, SYSINFO64
from runtime.linux.memory import CHUNK

if TYPE_CHECKING:
    from runtime.linux.process import Process

UNCHANGED = 0xFFFF_FFFF


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


# --- changing who the process is: to what it is already -------------------------------------------------


def allow(wanted: tuple[int, ...], current: tuple[int, ...]) -> int:
    """A guest stays who it is. Raises EPERM unless each of `wanted` is unchanged (-1) or in `current`."""
    if any(value & UNCHANGED != UNCHANGED and value not in current for value in wanted):
        raise SystemCallError(errno.EPERM)
    return 0


@system_call("setuid", "setuid32")
def setuid(p: Process, user: int) -> int:
    return allow((user,), (os.geteuid(),))


@system_call("setgid", "setgid32")
def setgid(p: Process, group: int) -> int:
    return allow((group,), (os.getegid(),))


@system_call("setreuid", "setreuid32")
def setreuid(p: Process, real: int, effective: int) -> int:
    return allow((real, effective), (os.geteuid(),))


@system_call("setregid", "setregid32")
def setregid(p: Process, real: int, effective: int) -> int:
    return allow((real, effective), (os.getegid(),))


@system_call("setresuid", "setresuid32")
def setresuid(p: Process, real: int, effective: int, saved: int) -> int:
    return allow((real, effective, saved), (os.geteuid(),))


@system_call("setresgid", "setresgid32")
def setresgid(p: Process, real: int, effective: int, saved: int) -> int:
    return allow((real, effective, saved), (os.getegid(),))


@system_call("setfsuid", "setfsuid32")
def setfsuid(p: Process, user: int) -> int:
    return os.geteuid()


@system_call("setfsgid", "setfsgid32")
def setfsgid(p: Process, group: int) -> int:
    return os.getegid()


@system_call("capget")
def capget(p: Process, header: int, data: int) -> int:
    """No capabilities. ``struct __user_cap_header_struct``: version, pid."""
    version = p.abi.unpack(p.memory.read(header, 4))
    sizes = {0x1998_0330: 12, 0x2007_1026: 24, 0x2008_0522: 24}
    if version not in sizes:
        p.put_int(header, 0x2008_0522)
        if data:
            raise SystemCallError(errno.EINVAL)
        return 0
    if data:
        p.memory.write(data, bytes(sizes[version]))
    return 0


@system_call("capset")
def capset(p: Process, header: int, data: int) -> int:
    if any(p.memory.read(data, 12)):
        raise SystemCallError(errno.EPERM)
    return 0


# --- the system -----------------------------------------------------------------------------------------


@system_call("uname")
def uname(p: Process, address: int) -> int:
    """Six names of 65 bytes. The kernel is the host's, the machine the guest's."""
    host = os.uname()
    names = ("Linux", host.nodename, host.release, host.version, p.abi.machine, "(none)")
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
