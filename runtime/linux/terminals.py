"""ioctl: what terminals and descriptors are asked and told."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import termios
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import TERMIOS

if TYPE_CHECKING:
    from runtime.linux.process import Process

CHARACTERS = 19
"""Control characters in the host's ``struct termios``."""
KNOWN = (
    *("TCGETS", "TCSETS", "TCSETSW", "TCSETSF", "TCSBRK", "TCXONC", "TCFLSH", "TIOCEXCL", "TIOCNXCL"),
    *("TIOCSCTTY", "TIOCGPGRP", "TIOCSPGRP", "TIOCOUTQ", "TIOCGWINSZ", "TIOCSWINSZ", "FIONREAD"),
    *("TIOCNOTTY", "FIONBIO"),
)
HOST_REQUESTS = {
    **{name: int(getattr(termios, name)) for name in KNOWN},
    **{"TCSBRKP": 0x5425, "TIOCGSID": 0x5429, "TIOCGPTN": 0x8004_5430, "TIOCSPTLCK": 0x4004_5431},
    **{"TIOCGPTPEER": 0x5441, "SIOCATMARK": 0x8905, "FIGETBSZ": 2, "FICLONE": 0x4004_9409},
}
INTEGERS_OUT = frozenset(
    {"TIOCGPGRP", "TIOCOUTQ", "FIONREAD", "TIOCGSID", "TIOCGPTN", "SIOCATMARK", "FIGETBSZ"}
)
INTEGERS_IN = frozenset({"TIOCSPGRP", "TIOCSPTLCK"})
PLAIN = frozenset({"TCSBRK", "TCXONC", "TCFLSH", "TIOCEXCL", "TIOCNXCL", "TIOCSCTTY", "TIOCNOTTY", "TCSBRKP"})


@system_call("ioctl")
def ioctl(p: Process, number: int, request: int, argument: int) -> int:
    """Others than those in `HOST_REQUESTS` are ENOTTY, as for files that don't know them."""
    descriptor = p.files.find(number)
    host = descriptor.file.host
    name = p.abi.ioctl_names.get(request & 0xFFFF_FFFF, "")
    if name in ("FIOCLEX", "FIONCLEX"):
        descriptor.close_on_exec = name == "FIOCLEX"
    elif name == "FIONBIO":
        os.set_blocking(host, not p.int_at(argument))
    elif name in INTEGERS_OUT:
        value = array.array("i", [0])
        fcntl.ioctl(host, HOST_REQUESTS[name], value)
        p.put_int(argument, value[0])
    elif name in INTEGERS_IN:
        fcntl.ioctl(host, HOST_REQUESTS[name], array.array("i", [p.int_at(argument)]))
    elif name in PLAIN:
        fcntl.ioctl(host, HOST_REQUESTS[name], signed(argument))
    elif name == "TIOCGPTPEER":
        return p.files.add(fcntl.ioctl(host, HOST_REQUESTS[name], p.abi.open_flags(argument) | os.O_CLOEXEC))
    elif name == "TIOCGWINSZ":
        sizes = array.array("H", [0] * 4)
        fcntl.ioctl(host, termios.TIOCGWINSZ, sizes)
        p.memory.write(argument, b"".join(p.abi.pack(size, 2) for size in sizes))
    elif name == "TIOCSWINSZ":
        data = p.memory.read(argument, 8)
        sizes = array.array("H", [p.abi.unpack(data[i : i + 2]) for i in range(0, 8, 2)])
        fcntl.ioctl(host, termios.TIOCSWINSZ, sizes)
    elif name == "TCGETS":
        buffer = bytearray(64)
        fcntl.ioctl(host, termios.TCGETS, buffer)
        p.memory.write(argument, guest_termios(p, bytes(buffer)))
    elif name in ("TCSETS", "TCSETSW", "TCSETSF"):
        data = host_termios(p, p.memory.read(argument, len(guest_termios(p, bytes(64)))))
        fcntl.ioctl(host, HOST_REQUESTS[name], data)
    elif name == "FICLONE":
        p.need("write")
        fcntl.ioctl(host, HOST_REQUESTS[name], p.files.host(argument))
    else:
        raise SystemCallError(errno.ENOTTY)
    return 0


def guest_termios(p: Process, data: bytes) -> bytes:
    """The host's ``struct termios`` (four flag words, line, 19 control characters) in the guest's form.

    PowerPC has the line behind the control characters, SPARC 17 of these. (Flags are passed as they are:
    PowerPC's and SPARC's differ in some bits.)
    """
    flags = TERMIOS.pack(p.abi.order, TERMIOS.unpack("<", data[: TERMIOS.size]))
    line = data[TERMIOS.size : TERMIOS.size + 1]
    characters = data[TERMIOS.size + 1 : TERMIOS.size + 1 + CHARACTERS]
    if p.abi.name.startswith("ppc"):
        return flags + characters + line
    if p.abi.name.startswith("sparc"):
        return flags + line + characters[:17]
    return flags + line + characters


def host_termios(p: Process, data: bytes) -> bytes:
    flags = TERMIOS.pack("<", TERMIOS.unpack(p.abi.order, data[: TERMIOS.size]))
    rest = data[TERMIOS.size :]
    if p.abi.name.startswith("ppc"):
        rest = rest[CHARACTERS : CHARACTERS + 1] + rest[:CHARACTERS]
    elif p.abi.name.startswith("sparc"):
        rest = rest[:18] + b"\0\0"
    return (flags + rest).ljust(64, b"\0")
