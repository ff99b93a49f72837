"""System calls on timers: alarm, setitimer, timer_create."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.time import host_clock
from runtime.linux.timers import PROFILING, REAL, VIRTUAL, Timer

if TYPE_CHECKING:
    from runtime.linux.process import Process

SECOND, MICROSECOND = 10**9, 1000
SIGNALS = {REAL: "SIGALRM", VIRTUAL: "SIGVTALRM", PROFILING: "SIGPROF"}
SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4
TIMER_ABSTIME = 1
MAXIMUM_TIMERS = 256


@system_call("alarm")
def alarm(p: Process, seconds: int) -> int:
    timer = p.timers.interval[REAL]
    left = timer.left()
    set_timer(p, timer, REAL, (seconds & 0xFFFF_FFFF) * SECOND, 0)
    return -(-left // SECOND)


def set_timer(p: Process, timer: Timer, which: int, value: int, interval: int) -> None:
    timer.signal = p.abi.signals[SIGNALS[which]]
    timer.interval = interval
    timer.due = timer.now() + value if value else 0


def interval_timer(p: Process, which: int) -> Timer:
    found = p.timers.interval.get(signed(which))
    if found is None:
        raise SystemCallError(errno.EINVAL)
    return found


def write_interval(p: Process, address: int, timer: Timer) -> None:
    values = (*divmod(timer.interval // MICROSECOND, 10**6), *divmod(-(-timer.left() // MICROSECOND), 10**6))
    p.memory.write(address, p.abi.pack_words(*values))


@system_call("getitimer")
def getitimer(p: Process, which: int, address: int) -> int:
    write_interval(p, address, interval_timer(p, which))
    return 0


@system_call("setitimer")
def setitimer(p: Process, which: int, new: int, old: int) -> int:
    timer = interval_timer(p, which)
    word = p.abi.word
    data = p.memory.read(new, 4 * word) if new else bytes(4 * word)
    values = [p.abi.unpack(data[at : at + word], signed=True) for at in range(0, 4 * word, word)]
    if min(values) < 0 or max(values[1], values[3]) >= 10**6:
        raise SystemCallError(errno.EINVAL)
    if old:
        write_interval(p, old, timer)
    interval, value = (a * SECOND + b * MICROSECOND for a, b in (values[:2], values[2:]))
    set_timer(p, timer, signed(which), value, interval)
    return 0


# --- timer_create -----------------------------------------------------------------------------------------


@system_call("timer_create")
def timer_create(p: Process, clock: int, event: int, result: int) -> int:
    """``struct sigevent``: value (a word), signal, kind of notification, thread."""
    timer = Timer(host_clock(clock))
    number = next((n for n in range(MAXIMUM_TIMERS) if n not in p.timers.created), None)
    if number is None:
        raise SystemCallError(errno.EAGAIN)
    timer.number, timer.value, timer.signal = number, number, p.abi.signals["SIGALRM"]
    if event:
        word = p.abi.word
        data = p.memory.read(event, word + 12)
        kind = p.abi.unpack(data[word + 4 : word + 8])
        timer.value = p.abi.unpack(data[:word])
        timer.signal = p.abi.unpack(data[word : word + 4], signed=True) if kind != SIGEV_NONE else 0
        if kind == SIGEV_THREAD_ID:
            timer.thread = p.thread_of(p.abi.unpack(data[word + 8 : word + 12])).id
        elif kind not in (SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD):
            raise SystemCallError(errno.EINVAL)
        if not 0 <= timer.signal <= 64:
            raise SystemCallError(errno.EINVAL)
    p.put_int(result, number)
    p.timers.created[number] = timer
    return 0


def created(p: Process, number: int) -> Timer:
    found = p.timers.created.get(signed(number))
    if found is None:
        raise SystemCallError(errno.EINVAL)
    return found


def write_setting(p: Process, address: int, timer: Timer, word: int) -> None:
    values = (*divmod(timer.interval, SECOND), *divmod(timer.left(), SECOND))
    p.memory.write(address, b"".join(p.abi.pack(value, word) for value in values))


def read_setting(p: Process, address: int, word: int) -> tuple[int, int]:
    """Interval and value of ``struct itimerspec`` in nanoseconds."""
    data = p.memory.read(address, 4 * word)
    values = [p.abi.unpack(data[at : at + word], signed=True) for at in range(0, 4 * word, word)]
    if word == 8 and p.abi.bits == 32:
        values[1], values[3] = signed(values[1]), signed(values[3])
    if min(values) < 0 or max(values[1], values[3]) >= SECOND:
        raise SystemCallError(errno.EINVAL)
    return values[0] * SECOND + values[1], values[2] * SECOND + values[3]


def settime(p: Process, number: int, flags: int, new: int, old: int, word: int) -> int:
    timer = created(p, number)
    interval, value = read_setting(p, new, word)
    if old:
        write_setting(p, old, timer, word)
    timer.interval = interval
    timer.overrun = 0
    timer.due = 0 if not value else value if flags & TIMER_ABSTIME else timer.now() + value
    return 0


@system_call("timer_settime")
def timer_settime(p: Process, number: int, flags: int, new: int, old: int) -> int:
    return settime(p, number, flags, new, old, p.abi.word)


@system_call("timer_settime64")
def timer_settime64(p: Process, number: int, flags: int, new: int, old: int) -> int:
    return settime(p, number, flags, new, old, 8)


@system_call("timer_gettime")
def timer_gettime(p: Process, number: int, address: int) -> int:
    write_setting(p, address, created(p, number), p.abi.word)
    return 0


@system_call("timer_gettime64")
def timer_gettime64(p: Process, number: int, address: int) -> int:
    write_setting(p, address, created(p, number), 8)
    return 0


@system_call("timer_getoverrun")
def timer_getoverrun(p: Process, number: int) -> int:
    return created(p, number).overrun


@system_call("timer_delete")
def timer_delete(p: Process, number: int) -> int:
    created(p, number)
    del p.timers.created[signed(number)]
    return 0
