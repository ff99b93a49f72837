"""Waiting for several descriptors: poll and select."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.signals import set_mask
from runtime.linux.time import deadline_of, write_timespec
from runtime.linux.waiting import FAILURES, Steps, Wait, now, ready

if TYPE_CHECKING:
    from runtime.linux.process import Process

IN_SET = select.POLLIN | select.POLLRDNORM | select.POLLRDBAND | select.POLLHUP | select.POLLERR
OUT_SET = select.POLLOUT | select.POLLWRNORM | select.POLLWRBAND | select.POLLERR
EXCEPTIONAL_SET = select.POLLPRI
MILLISECOND = 1_000_000


def temporary_mask(p: Process, address: int, size: int) -> None:
    """Put the mask at `address`, unless that is 0, in place until the call ends."""
    if not address:
        return
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    mask = p.abi.unpack_mask(p.memory.read(address, 8))
    p.thread.mask_after = p.thread.blocked
    set_mask(p, p.thread, mask)


# --- poll -------------------------------------------------------------------------------------------------


def poll_entries(p: Process, address: int, count: int, deadline: int | None) -> int | Steps:
    """``poll``: `count` entries of {fd, events, revents}."""
    if count > p.files.limit:
        raise SystemCallError(errno.EINVAL)
    data = p.memory.read(address, 8 * count)
    entries = []
    for i in range(0, 8 * count, 8):
        number = p.abi.unpack(data[i : i + 4], signed=True)
        entries.append((number, p.abi.unpack(data[i + 4 : i + 6])))

    def look() -> tuple[int, dict[int, int]]:
        wanted: dict[int, int] = {}
        for number, events in entries:
            if number in p.files.table:
                host = p.files.table[number].file.host
                wanted[host] = wanted.get(host, 0) | events
        found = ready(wanted)
        answers = []
        for number, events in entries:
            answer = 0
            if number >= 0:
                descriptor = p.files.table.get(number)
                answer = (
                    select.POLLNVAL
                    if descriptor is None
                    else found.get(descriptor.file.host, 0) & (events | FAILURES)
                )
            answers.append(answer)
        total = sum(map(bool, answers))
        if total or deadline == 0:
            packed = zip(range(0, 8 * count, 8), answers, strict=True)
            p.memory.write(address, b"".join(data[i : i + 6] + p.abi.pack(a, 2) for i, a in packed))
        return total, wanted

    total, wanted = look()
    if total or deadline == 0:
        return total

    def steps() -> Steps:
        nonlocal wanted
        while True:
            wait = Wait(wanted, deadline, restart=False)
            yield wait
            total, wanted = look()
            if total:
                return total
            if deadline is not None and now() >= deadline:
                p.memory.write(address, b"".join(data[i : i + 6] + b"\0\0" for i in range(0, 8 * count, 8)))
                return 0

    return steps()


@system_call("poll")
def poll(p: Process, address: int, count: int, timeout: int) -> int | Steps:
    milliseconds = signed(timeout)
    deadline = None if milliseconds < 0 else 0 if not milliseconds else now() + milliseconds * MILLISECOND
    return poll_entries(p, address, count & 0xFFFF_FFFF, deadline)


def ppoll_(
    p: Process, address: int, count: int, timeout: int, mask: int, size: int, word: int
) -> int | Steps:
    deadline = deadline_of(p, timeout, word)
    temporary_mask(p, mask, size)
    return reporting_rest(p, poll_entries(p, address, count & 0xFFFF_FFFF, deadline), timeout, word, deadline)


def reporting_rest(
    p: Process, result: int | Steps, timeout: int, word: int, deadline: int | None
) -> int | Steps:
    """ppoll and pselect6 write back how much of the time is left."""
    if isinstance(result, int) or not timeout or deadline is None:
        return result

    def steps() -> Steps:
        try:
            return (yield from result)
        finally:
            write_timespec(p, timeout, max(0, deadline - now()), word)

    return steps()


@system_call("ppoll")
def ppoll(p: Process, address: int, count: int, timeout: int, mask: int, size: int) -> int | Steps:
    return ppoll_(p, address, count, timeout, mask, size, p.abi.word)


@system_call("ppoll_time64")
def ppoll_time64(p: Process, address: int, count: int, timeout: int, mask: int, size: int) -> int | Steps:
    return ppoll_(p, address, count, timeout, mask, size, 8)


# --- select -----------------------------------------------------------------------------------------------


def select_sets(p: Process, count: int, addresses: tuple[int, int, int], deadline: int | None) -> int | Steps:
    """``select``: three bit sets of `count` descriptors, arrays of words."""
    count = signed(count)
    if count < 0:
        raise SystemCallError(errno.EINVAL)
    count = min(count, p.files.limit)
    size = -(-count // p.abi.bits) * p.abi.word
    sets: list[list[int]] = []
    for address in addresses:
        bits = 0
        if address:
            data = p.memory.read(address, size)
            for i in range(0, size, p.abi.word):
                bits |= p.abi.unpack(data[i : i + p.abi.word]) << (8 * i)
        numbers = [n for n in range(count) if bits >> n & 1]
        for number in numbers:
            p.files.get(number)
        sets.append(numbers)

    def look() -> tuple[int, dict[int, int]]:
        wanted: dict[int, int] = {}
        for numbers, events in zip(sets, (select.POLLIN, select.POLLOUT, select.POLLPRI), strict=True):
            for number in numbers:
                host = p.files.host(number)
                wanted[host] = wanted.get(host, 0) | events
        found = ready(wanted)
        total = 0
        results = []
        for numbers, events in zip(sets, (IN_SET, OUT_SET, EXCEPTIONAL_SET), strict=True):
            bits = sum(1 << n for n in numbers if found.get(p.files.host(n), 0) & events)
            total += bits.bit_count()
            results.append(bits)
        if total or (deadline is not None and now() >= deadline):
            for address, bits in zip(addresses, results, strict=True):
                if address:
                    words = (bits >> shift for shift in range(0, 8 * size, p.abi.bits))
                    p.memory.write(address, p.abi.pack_words(*words))
        return total, wanted

    total, wanted = look()
    if total or deadline == 0:
        return total

    def steps() -> Steps:
        nonlocal wanted
        while True:
            yield Wait(wanted, deadline, restart=False)
            over = deadline is not None and now() >= deadline
            total, wanted = look()
            if total or over:
                return total

    return steps()


@system_call("select", "_newselect")
def select_(p: Process, count: int, reading: int, writing: int, special: int, timeout: int) -> int | Steps:
    if p.abi.name == "i386" and p.abi.call_number(p.cpu) == 82:  # the old call: a pointer to the arguments
        data = p.memory.read(count, 20)
        count, reading, writing, special, timeout = (p.abi.unpack(data[i : i + 4]) for i in range(0, 20, 4))
    deadline = None
    if timeout:
        data = p.memory.read(timeout, 2 * p.abi.word)
        seconds = p.abi.unpack(data[: p.abi.word], signed=True)
        rest = p.abi.unpack(data[p.abi.word :], signed=True)
        if seconds < 0 or rest < 0:
            raise SystemCallError(errno.EINVAL)
        span = seconds * 10**9 + rest * 1000
        deadline = now() + span if span else 0
    result = select_sets(p, count, (reading, writing, special), deadline)
    if isinstance(result, int) or deadline is None:
        return result

    def steps() -> Steps:
        try:
            return (yield from result)
        finally:
            left = max(0, deadline - now()) // 1000
            p.memory.write(timeout, p.abi.pack_words(*divmod(left, 10**6)))

    return steps()


def pselect(
    p: Process, count: int, sets: tuple[int, int, int], timeout: int, mask_at: int, word: int
) -> int | Steps:
    deadline = deadline_of(p, timeout, word)
    if mask_at:
        data = p.memory.read(mask_at, 2 * p.abi.word)
        temporary_mask(p, p.abi.unpack(data[: p.abi.word]), p.abi.unpack(data[p.abi.word :]))
    return reporting_rest(p, select_sets(p, count, sets, deadline), timeout, word, deadline)


@system_call("pselect6")
def pselect6(
    p: Process, count: int, reading: int, writing: int, special: int, time: int, mask: int
) -> int | Steps:
    return pselect(p, count, (reading, writing, special), time, mask, p.abi.word)


@system_call("pselect6_time64")
def pselect6_time64(
    p: Process, count: int, reading: int, writing: int, special: int, time: int, mask: int
) -> int | Steps:
    return pselect(p, count, (reading, writing, special), time, mask, 8)
