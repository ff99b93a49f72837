"""gdb's numbers of signals, which are those of no system (gdb: include/gdb/signals.def)."""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = 143
"""What a signal is that gdb has no number for."""
_NUMBERS: Final = {
    **{"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGEMT": 7},
    **{"SIGFPE": 8, "SIGKILL": 9, "SIGBUS": 10, "SIGSEGV": 11, "SIGSYS": 12, "SIGPIPE": 13, "SIGALRM": 14},
    **{"SIGTERM": 15, "SIGURG": 16, "SIGSTOP": 17, "SIGTSTP": 18, "SIGCONT": 19, "SIGCHLD": 20},
    **{"SIGTTIN": 21, "SIGTTOU": 22, "SIGIO": 23, "SIGPOLL": 23, "SIGXCPU": 24, "SIGXFSZ": 25},
    **{"SIGVTALRM": 26, "SIGPROF": 27, "SIGWINCH": 28, "SIGUSR1": 30, "SIGUSR2": 31, "SIGPWR": 32},
}


def number_of(name: str | None, number: int) -> int:
    """gdb's number of a signal, which Linux calls `name` (None: it has none) and numbers `number`."""
    if name in _NUMBERS:
        return _NUMBERS[name]
    if 33 <= number <= 63:  # SIG33 is 45, and so on
        return number + 12
    return {32: 77, 64: 78}.get(number, UNKNOWN)


def name_of(number: int) -> str | None:
    """Linux's name of the signal that gdb numbers so, where it has one."""
    return next((name for name, known in _NUMBERS.items() if known == number), None)


def realtime_of(number: int) -> int | None:
    """Linux's number of the real-time signal that gdb numbers so."""
    if 45 <= number <= 75:
        return number - 12
    return {77: 32, 78: 64}.get(number)
