"""Prints system calls as strace(1) does, one a line."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from runtime.linux.calls import HANDLERS
from runtime.linux.ports import READ
from runtime.linux.process import Process
from runtime.linux.scheduler import End
from runtime.linux.siginfo import SignalInfo
from runtime.linux.signals import name_of

SHOWN: Final = 32
"""Bytes of a string."""
MOST_STRINGS: Final = 32

# What arguments are: s path or string, b buffer whose size is the next argument, r the same, filled by the
# call as far as its result says, f descriptor, d directory descriptor, i signed, u unsigned, o octal, O open
# flags, c ioctl's request, P protection, M mapping flags, S signal, v list of strings, x anything else
# (hexadecimal).
FORMATS: Final = {
    **dict.fromkeys(
        ("fork", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getpgrp", "getpid",
         "getppid", "gettid", "getuid", "getuid32", "inotify_init", "pause", "rt_sigreturn", "sched_yield",
         "setsid", "sync", "vfork"),
        "",
    ),
    "access": "so", "bind": "fxi", "brk": "x", "chdir": "s", "chmod": "so", "clock_gettime": "ix",
    "clone": "xxxxx", "close": "f", "connect": "fxi", "dup": "f", "dup2": "ff", "dup3": "ffO",
    "epoll_create1": "O", "epoll_ctl": "fifx", "epoll_pwait": "fxiixi", "eventfd2": "uO", "execve": "svx",
    "exit": "i", "exit_group": "i", "faccessat": "dso", "faccessat2": "dsox", "fchdir": "f", "fchmod": "fo",
    "fchmodat": "dso", "fchownat": "dsiix", "fcntl": "fix", "fcntl64": "fix", "fstat": "fx", "fstat64": "fx",
    "fstatat64": "dsxx", "fsync": "f", "ftruncate": "fi", "futex": "xiixxi", "getcwd": "xu",
    "getdents64": "fxu", "getpgid": "i", "getpriority": "ii", "getrandom": "xux", "getrlimit": "ix",
    "getsid": "i", "ioctl": "fcx", "kill": "iS", "lchown": "sii", "link": "ss", "linkat": "dsdsx",
    "listen": "fi", "lseek": "fii", "lstat": "sx", "lstat64": "sx", "madvise": "xui", "memfd_create": "sx",
    "mkdir": "so", "mkdirat": "dso", "mknodat": "dsox", "mmap": "xuPMfx", "mmap2": "xuPMfx",
    "mprotect": "xuP", "mremap": "xuuxx", "munmap": "xu", "nanosleep": "xx", "newfstatat": "dsxx",
    "open": "sOo", "openat": "dsOo", "pipe": "x", "pipe2": "xO", "poll": "xui", "ppoll": "xuxxu",
    "prctl": "ixx", "pread64": "fruu", "preadv": "fxiu", "prlimit64": "iixx", "pselect6": "ixxxxx",
    "pwrite64": "fbuu", "read": "fru", "readlink": "sru", "readlinkat": "dsru", "readv": "fxi",
    "recvfrom": "fruxxx", "recvmsg": "fxx", "rename": "ss", "renameat": "dsds", "renameat2": "dsdsx",
    "rmdir": "s", "rt_sigaction": "Sxxu", "rt_sigprocmask": "ixxu", "rt_sigsuspend": "xu",
    "rt_sigtimedwait": "xxxu", "sendfile": "ffxu", "sendmsg": "fxx", "sendto": "fbuxxi",
    "set_robust_list": "xu", "set_tid_address": "x", "setpgid": "ii", "setsockopt": "fiixi",
    "shutdown": "fi", "socket": "iii", "socketpair": "iiix", "stat": "sx", "stat64": "sx", "statfs": "sx",
    "statx": "dsxxx", "symlink": "ss", "symlinkat": "sds", "tgkill": "iiS", "tkill": "iS", "truncate": "si",
    "umask": "o", "unlink": "s", "unlinkat": "dsx", "utimensat": "dsxx", "wait4": "ixix",
    "waitid": "iixix", "waitpid": "ixi", "write": "fbu", "writev": "fxi",
}  # fmt: skip
HEXADECIMAL_RESULTS: Final = frozenset({"brk", "mmap", "mmap2", "mremap"})
OPEN_FLAGS: Final = (
    *("O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_DIRECT", "O_DIRECTORY"),
    *("O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC", "O_PATH"),
)
ACCESS_MODES: Final = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")
PROTECTIONS: Final = {1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC"}
MAPPINGS: Final = {
    1: "MAP_SHARED", 2: "MAP_PRIVATE", 0x10: "MAP_FIXED", 0x20: "MAP_ANONYMOUS", 0x800: "MAP_DENYWRITE",
    0x4000: "MAP_NORESERVE", 0x20000: "MAP_STACK", 0x100000: "MAP_FIXED_NOREPLACE",
}  # fmt: skip


class Strace:
    """A `runtime.linux.scheduler.Observer` that prints to a copy of the standard error stream."""

    def __init__(self) -> None:
        try:
            self._descriptor = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 100)
        except OSError:
            self._descriptor = -1
        self._first = os.getpid()

    def _print(self, p: Process, text: str) -> None:
        """One line, in one piece: other processes print there, too."""
        prefix = ""
        if len(p.threads) > 1 or os.getpid() != self._first:
            prefix = f"[pid {p.thread.id}] "
        try:
            os.write(self._descriptor, f"{prefix}{text}\n".encode(errors="backslashreplace"))
        except OSError:
            return

    # --- the observer ---------------------------------------------------------------------------------

    def entered(self, p: Process, name: str, arguments: list[int]) -> None:
        # What is printed when the call ends is read now, as far as the call may change it.
        count = HANDLERS[name][1] if name in HANDLERS else 6
        letters = FORMATS.get(name, "x" * count)
        texts = [
            "" if letter == "r" else self._argument(p, letter, value, arguments[at + 1 : at + 2])
            for at, (letter, value) in enumerate(zip(letters, arguments, strict=False))
        ]
        p.thread.traced = (name, letters, texts)

    def left(self, p: Process, name: str, arguments: list[int], result: int, error: int) -> None:
        name, letters, texts = p.thread.traced or (name, "", [])
        for at, letter in enumerate(letters):
            if letter == "r":
                texts[at] = self._buffer(p, arguments[at], 0 if error else result)
        if error:
            end = f"-1 {errno.errorcode.get(error, error)} ({os.strerror(error)})"
        elif name in HEXADECIMAL_RESULTS or result > 1 << 31:
            end = f"{result:#x}"
        else:
            end = str(result)
        self._print(p, f"{name}({', '.join(texts)}) = {end}")

    def took_over(self, p: Process, name: str, arguments: list[int]) -> None:
        name, _, texts = p.thread.traced or ("execve", "", [])
        self._print(p, f"{name}({', '.join(texts)}) = {'0' if name.startswith('execve') else '?'}")

    def signalled(self, p: Process, info: SignalInfo) -> None:
        name = name_of(p, info.number)
        where = f", si_addr={info.address:#x}" if info.fault else f", si_pid={info.pid}, si_uid={info.uid}"
        self._print(p, f"--- {name} {{si_signo={name}, si_code={info.code}{where}}} ---")

    def ended(self, p: Process, end: End) -> None:
        if end.signal:
            self._print(p, f"+++ killed by {name_of(p, p.abi.guest_signal(end.signal))} +++")
        else:
            self._print(p, f"+++ exited with {end.status} +++")

    # --- arguments ------------------------------------------------------------------------------------

    def _argument(self, p: Process, letter: str, value: int, following: list[int]) -> str:
        number = value & 0xFFFF_FFFF
        low = number - (1 << 32) if number >> 31 else number
        simple: dict[str, Callable[[], str]] = {
            "s": lambda: self._string(p, value),
            "b": lambda: self._buffer(p, value, following[0] if following else 0),
            "f": lambda: str(low),
            "d": lambda: "AT_FDCWD" if low == -100 else str(low),
            "i": lambda: str(low),
            "u": lambda: str(value),
            "o": lambda: f"{number:#05o}" if number else "0",
            "O": lambda: open_flags(p.abi.open_flags(number)),
            "P": lambda: names(PROTECTIONS, number) or "PROT_NONE",
            "M": lambda: names(MAPPINGS, number) or "0",
            "c": lambda: p.abi.ioctl_names.get(number, f"{number:#x}"),
            "S": lambda: name_of(p, low) if 0 < low <= 64 else str(low),
            "v": lambda: self._strings(p, value),
        }
        if letter in simple:
            return simple[letter]()
        return "NULL" if not value else f"{value:#x}" if value > 9 else str(value)

    def _string(self, p: Process, address: int) -> str:
        if not address:
            return "NULL"
        size = p.memory.accessible(address, 4096, READ)
        data = p.memory.pages.read(address, size) if size else b""
        if b"\0" not in data:
            return f"{address:#x}"
        return quoted(data[: data.index(b"\0")], 4096)

    def _buffer(self, p: Process, address: int, size: int) -> str:
        length = min(size, SHOWN)
        if p.memory.accessible(address, length, READ) < length:
            return f"{address:#x}"
        text = quoted(p.memory.pages.read(address, length) if length else b"", SHOWN)
        return text + ("..." if size > SHOWN else "")

    def _strings(self, p: Process, address: int) -> str:
        found: list[str] = []
        word = p.abi.word
        for i in range(MOST_STRINGS):
            if p.memory.accessible(address + i * word, word, READ) < word:
                return f"{address:#x}"
            pointer = p.word_at(address + i * word)
            if not pointer:
                return f"[{', '.join(found)}]"
            found.append(self._string(p, pointer))
        return f"[{', '.join(found)}, ...]"


def quoted(data: bytes, most: int) -> str:
    """`data` as a string of C."""
    escapes = {0: "\\0", 9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
    text = "".join(
        escapes.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:o}") for byte in data[:most]
    )
    return f'"{text}"'


def names(table: dict[int, str], value: int) -> str:
    found = [name for bit, name in table.items() if value & bit]
    rest = value & ~sum(table)
    return "|".join([*found, f"{rest:#x}"] if rest else found)


def open_flags(flags: int) -> str:
    found = [ACCESS_MODES[flags & 3]]
    for name in OPEN_FLAGS:
        bits = getattr(os, name)
        if flags & bits == bits:
            found.append(name)
    return "|".join(found)
