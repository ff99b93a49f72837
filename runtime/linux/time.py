"""System calls about time. Clocks are the host's."""

from __future__ import annotations

import errno
import os
import resource
import time
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.waiting import Interrupted, Steps, Wait, now

if TYPE_CHECKING:
    from runtime.linux.process import Process

SECOND = 1_000_000_000
TIMER_ABSTIME = 1
LAST_CLOCK = 11  # CLOCK_TAI


def read_timespec(p: Process, address: int, word: int) -> int:
    """Nanoseconds of a ``struct timespec`` whose members have `word` bytes. Raises EINVAL if it isn't one."""
    data = p.memory.read(address, 2 * word)
    seconds = p.abi.unpack(data[:word], signed=True)
    nanoseconds = p.abi.unpack(data[word:], signed=True)
    if p.abi.bits == 32 and word == 8:  # the upper half of tv_nsec is padding
        nanoseconds = signed(nanoseconds)
    if seconds < 0 or not 0 <= nanoseconds < SECOND:
        raise SystemCallError(errno.EINVAL)
    return seconds * SECOND + nanoseconds


def write_timespec(p: Process, address: int, nanoseconds: int, word: int) -> None:
    seconds, rest = divmod(nanoseconds, SECOND)
    p.memory.write(address, p.abi.pack(seconds, word) + p.abi.pack(rest, word))


def host_clock(number: int) -> int:
    number = signed(number)
    if number < 0 and number & 7 in (2, 6):  # a process's or a thread's own (clock_getcpuclockid(3))
        return time.CLOCK_PROCESS_CPUTIME_ID
    if not 0 <= number <= LAST_CLOCK:
        raise SystemCallError(errno.EINVAL)
    return number


@system_call("clock_gettime")
def clock_gettime(p: Process, clock: int, address: int) -> int:
    write_timespec(p, address, time.clock_gettime_ns(host_clock(clock)), p.abi.word)
    return 0


@system_call("clock_gettime64")
def clock_gettime64(p: Process, clock: int, address: int) -> int:
    write_timespec(p, address, time.clock_gettime_ns(host_clock(clock)), 8)
    return 0


@system_call("clock_getres")
def clock_getres(p: Process, clock: int, address: int) -> int:
    resolution = round(time.clock_getres(host_clock(clock)) * SECOND)
    if address:
        write_timespec(p, address, resolution, p.abi.word)
    return 0


@system_call("clock_getres_time64")
def clock_getres_time64(p: Process, clock: int, address: int) -> int:
    resolution = round(time.clock_getres(host_clock(clock)) * SECOND)
    if address:
        write_timespec(p, address, resolution, 8)
    return 0


@system_call("gettimeofday")
def gettimeofday(p: Process, address: int, zone: int) -> int:
    seconds, rest = divmod(time.time_ns(), SECOND)
    if address:
        # sparc64's microseconds are an int followed by padding, which in big-endian order is not a long.
        if p.abi.name == "sparc64":
            p.memory.write(address, p.abi.pack(seconds, 8) + p.abi.pack(rest // 1000, 4))
        else:
            p.memory.write(address, p.abi.pack_words(seconds, rest // 1000))
    if zone:
        p.memory.write(zone, bytes(8))
    return 0


@system_call("time")
def time_(p: Process, address: int) -> int:
    now = int(time.time())
    if address:
        p.memory.write(address, p.abi.pack_words(now))
    return now


def deadline_of(p: Process, address: int, word: int) -> int | None:
    """When a relative timeout is over, by CLOCK_MONOTONIC; None without one (address 0), 0 for none."""
    if not address:
        return None
    nanoseconds = read_timespec(p, address, word)
    return now() + nanoseconds if nanoseconds else 0


def sleep_until(p: Process, deadline: int, remaining: int, word: int) -> Steps:
    """Sleep; where a signal ends it, say at `remaining` (unless that is 0) how long was left."""
    while now() < deadline:
        try:
            yield Wait(deadline=deadline, restart=False)
        except Interrupted:
            if remaining:
                write_timespec(p, remaining, max(0, deadline - now()), word)
            raise
    return 0


@system_call("nanosleep")
def nanosleep(p: Process, request: int, remaining: int) -> int | Steps:
    return sleep_until(p, now() + read_timespec(p, request, p.abi.word), remaining, p.abi.word)


def sleep_on(p: Process, clock: int, flags: int, request: int, remaining: int, word: int) -> int | Steps:
    number = host_clock(clock)
    nanoseconds = read_timespec(p, request, word)
    if flags & TIMER_ABSTIME:
        nanoseconds -= time.clock_gettime_ns(number)
        remaining = 0
    return sleep_until(p, now() + max(0, nanoseconds), remaining, word)


@system_call("clock_nanosleep")
def clock_nanosleep(p: Process, clock: int, flags: int, request: int, remaining: int) -> int | Steps:
    return sleep_on(p, clock, flags, request, remaining, p.abi.word)


@system_call("clock_nanosleep_time64")
def clock_nanosleep_time64(p: Process, clock: int, flags: int, request: int, remaining: int) -> int | Steps:
    return sleep_on(p, clock, flags, request, remaining, 8)


@system_call("times")
def times(p: Process, address: int) -> int:
    """Clock ticks of user, system, children's user and children's system time."""
    used = os.times()
    ticks = os.sysconf("SC_CLK_TCK")
    if address:
        values = (used.user, used.system, used.children_user, used.children_system)
        p.memory.write(address, p.abi.pack_words(*(int(value * ticks) for value in values)))
    return int(used.elapsed * ticks)


def pack_usage(p: Process, usage: resource.struct_rusage) -> bytes:
    """``struct rusage``: 18 words."""
    words: list[int] = []
    for value in (usage.ru_utime, usage.ru_stime):
        seconds = int(value)
        words += [seconds, int((value - seconds) * 1_000_000)]
    words += [usage.ru_maxrss, usage.ru_ixrss, usage.ru_idrss, usage.ru_isrss]
    words += [usage.ru_minflt, usage.ru_majflt, usage.ru_nswap, usage.ru_inblock, usage.ru_oublock]
    words += [usage.ru_msgsnd, usage.ru_msgrcv, usage.ru_nsignals, usage.ru_nvcsw, usage.ru_nivcsw]
    return p.abi.pack_words(*words)


@system_call("getrusage")
def getrusage(p: Process, who: int, address: int) -> int:
    p.memory.write(address, pack_usage(p, resource.getrusage(signed(who))))
    return 0
