"""System calls on threads: making and ending them, futexes, what else threads are told."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final

from runtime.linux import host
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import CallTookOver, GuestExit, SystemCallError
from runtime.linux.ports import READ, WRITE, AccessFault
from runtime.linux.process import Process
from runtime.linux.thread import FutexWaiter, Thread
from runtime.linux.time import read_timespec
from runtime.linux.waiting import Steps, Wait, now

if TYPE_CHECKING:
    from runtime.linux.memory import Area

CLONE_SETTLS, CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = (
    0x80000,
    0x100000,
    0x200000,
    0x1000000,
)
MAXIMUM_THREADS: Final = 4096

FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_LOCK_PI = 0, 1, 3, 4, 5, 6
FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET = 7, 8, 9, 10
FUTEX_LOCK_PI2 = 13
FUTEX_COMMAND, FUTEX_PRIVATE, FUTEX_CLOCK_REALTIME = 0x7F, 128, 256
WAITERS, OWNER_DIED, TID_MASK = 0x8000_0000, 0x4000_0000, 0x3FFF_FFFF
ALL_BITS = 0xFFFF_FFFF
ROBUST_LIMIT = 2048
SHARED_PATIENCE = 5_000_000
"""Nanoseconds between two looks at a word that another process may change."""


# --- making and ending ------------------------------------------------------------------------------------


def store_id(p: Process, address: int, number: int) -> None:
    """Where a thread's number can't be written, clone succeeds all the same."""
    try:
        p.put_int(address, number)
    except AccessFault:
        return


def new_thread(p: Process, flags: int, stack: int, parent_id: int, tls: int | None, child_id: int) -> int:
    """A thread that begins where this one goes on, on its own stack."""
    if len(p.threads) >= MAXIMUM_THREADS:
        raise SystemCallError(errno.EAGAIN)
    parent = p.thread
    thread = Thread(p.next_thread, blocked=parent.blocked, name=parent.name)
    p.next_thread += 1
    assert parent.stop is not None
    saved = p.cpu.save()
    p.abi.finish_call(p.cpu, parent.stop, 0, 0)
    p.abi.after_fork(p.cpu, True)
    if stack:
        p.cpu.set(p.abi.stack_pointer, stack)
    if tls is not None:
        p.abi.install_tls(p.cpu, p.memory.pages, tls)
    thread.registers = p.cpu.save()
    p.cpu.restore(saved)
    if flags & CLONE_PARENT_SETTID:
        store_id(p, parent_id, thread.id)
    if flags & CLONE_CHILD_SETTID:
        store_id(p, child_id, thread.id)
    if flags & CLONE_CHILD_CLEARTID:
        thread.clear_child_tid = child_id
    p.threads.append(thread)
    return thread.id


@system_call("exit")
def exit_(p: Process, status: int) -> int:
    """The thread ends; with the last one, the process does."""
    thread = p.thread
    release_robust(p, thread)
    if thread.clear_child_tid and len(p.threads) > 1:
        store_id(p, thread.clear_child_tid, 0)
        wake(p, thread.clear_child_tid, 1, ALL_BITS)
    if len(p.threads) == 1:
        raise GuestExit(status & 0xFF)
    thread.gone = True
    p.threads.remove(thread)
    for waiting in p.thread.pending:
        p.pending.append(waiting)
    raise CallTookOver


def release_robust(p: Process, thread: Thread) -> None:
    """Let the waiters of the mutexes that the thread holds know (set_robust_list(2)): a list of words, of
    which each entry is the address of the next, with the mutex's word at an offset from it.
    """
    if not thread.robust_list:
        return
    try:
        word = p.abi.word
        head = thread.robust_list
        entry, offset, pending = (p.word_at(head + word * i) for i in range(3))
        offset = signed(offset, p.abi.bits)
        seen = 0
        while entry & ~1 != head and entry and seen < ROBUST_LIMIT:
            following = p.word_at(entry & ~1)
            if entry != pending:
                die_holding(p, thread, (entry & ~1) + offset)
            entry = following
            seen += 1
        if pending:
            die_holding(p, thread, (pending & ~1) + offset)
    except AccessFault:
        return


def die_holding(p: Process, thread: Thread, address: int) -> None:
    value = p.abi.unpack(p.memory.read(address, 4))
    if value & TID_MASK == thread.id:
        p.put_int(address, value & WAITERS | OWNER_DIED)
        if value & WAITERS:
            wake(p, address, 1, ALL_BITS)


@system_call("gettid")
def gettid(p: Process) -> int:
    return p.thread.id


@system_call("set_tid_address")
def set_tid_address(p: Process, address: int) -> int:
    p.thread.clear_child_tid = address
    return p.thread.id


@system_call("set_robust_list")
def set_robust_list(p: Process, head: int, size: int) -> int:
    if size != 3 * p.abi.word:
        raise SystemCallError(errno.EINVAL)
    p.thread.robust_list = head
    return 0


@system_call("get_robust_list")
def get_robust_list(p: Process, number: int, head_at: int, size_at: int) -> int:
    thread = p.thread_of(signed(number)) if signed(number) else p.thread
    p.memory.write(head_at, p.abi.pack_words(thread.robust_list))
    p.memory.write(size_at, p.abi.pack_words(3 * p.abi.word))
    return 0


# --- futexes ----------------------------------------------------------------------------------------------


def word_at(p: Process, address: int) -> int:
    if address % 4:
        raise SystemCallError(errno.EINVAL)
    return p.abi.unpack(p.memory.read(address, 4))


def shared_area(p: Process, address: int, operation: int) -> Area | None:
    """The area of a futex that other processes may wait for, too."""
    if operation & FUTEX_PRIVATE:
        return None
    area = p.memory.find(address)
    return area if area is not None and area.shared else None


def wake(p: Process, address: int, count: int, bits: int) -> int:
    """Wake at most `count` of those that wait at `address` with one of `bits`."""
    woken = 0
    waiters = p.futexes.get(address, [])
    for waiter in list(waiters):
        if woken >= count:
            break
        if waiter.bits & bits:
            waiter.wait.woken = True
            waiters.remove(waiter)
            woken += 1
    if not waiters:
        p.futexes.pop(address, None)
    return woken


def wake_word(p: Process, address: int, count: int, bits: int, operation: int) -> int:
    """FUTEX_WAKE, in this process and in others."""
    woken = wake(p, address, count, bits)
    if woken < count and shared_area(p, address, operation) is not None:
        woken += host.futex_word(p.memory.pages.host_address(address), host.FUTEX_WAKE, count - woken)
    return woken


def wait_for_wake(p: Process, address: int, deadline: int | None, bits: int) -> Steps:
    """FUTEX_WAIT in this process."""
    wait = Wait(deadline=deadline, restart=deadline is None)
    waiter = FutexWaiter(wait, bits, address)
    p.futexes.setdefault(address, []).append(waiter)
    try:
        yield wait
    finally:
        if not wait.woken:
            waiters = p.futexes.get(waiter.key, [])
            if waiter in waiters:
                waiters.remove(waiter)
            if not waiters:
                p.futexes.pop(waiter.key, None)
    if wait.timed_out:
        raise SystemCallError(errno.ETIMEDOUT)
    return 0


def wait_for_others(p: Process, address: int, value: int, deadline: int | None, bits: int) -> Steps:
    """FUTEX_WAIT on a word that other processes may change: it is looked at again and again."""
    raw = int.from_bytes(p.abi.pack(value, 4), "little")
    wait = Wait(restart=deadline is None)
    waiter = FutexWaiter(wait, bits, address)
    p.futexes.setdefault(address, []).append(waiter)
    try:
        while not wait.woken:
            if deadline is not None and now() >= deadline:
                raise SystemCallError(errno.ETIMEDOUT)
            alone = p.settings.cpus == 1 and all(t.wait is not None for t in p.threads if t is not p.thread)
            place = p.memory.pages.host_address(address)
            try:
                host.futex_word(place, host.FUTEX_WAIT, raw, SHARED_PATIENCE / 1e9 if alone else 0)
                return 0
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return 0  # it has changed
                if error.errno not in (errno.ETIMEDOUT, errno.EINTR):
                    raise
            wait.deadline = now() if alone else now() + SHARED_PATIENCE
            yield wait
        return 0
    finally:
        waiters = p.futexes.get(waiter.key, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            p.futexes.pop(waiter.key, None)


def requeue(p: Process, address: int, target: int, wakes: int, moves: int) -> int:
    """Wake some of those that wait at `address`, and let others wait at `target` from now on."""
    woken = wake(p, address, wakes, ALL_BITS)
    waiters = p.futexes.get(address, [])
    moving = waiters[: max(0, moves)]
    del waiters[: len(moving)]
    if not waiters:
        p.futexes.pop(address, None)
    for waiter in moving:
        waiter.key = target
        p.futexes.setdefault(target, []).append(waiter)
    return woken + len(moving)


def wake_operation(p: Process, address: int, second: int, wakes: int, second_wakes: int, code: int) -> int:
    """FUTEX_WAKE_OP: change the second word, wake at the first, and at the second by what it was
    (futex(2)).
    """
    operation, comparison = code >> 28 & 0xF, code >> 24 & 0xF
    argument, compared = signed(code >> 12, 12), signed(code, 12)
    if operation & 8:
        argument = 1 << (argument & 31)
    old = word_at(p, second)
    functions = {
        0: argument,
        1: old + argument,
        2: old | argument,
        3: old & ~argument,
        4: old ^ argument,
    }
    if operation & 7 not in functions:
        raise SystemCallError(errno.ENOSYS)
    p.put_int(second, functions[operation & 7])
    was = signed(old)
    holds = (
        was == compared,
        was != compared,
        was < compared,
        was <= compared,
        was > compared,
        was >= compared,
    )
    if comparison >= len(holds):
        raise SystemCallError(errno.ENOSYS)
    woken = wake(p, address, wakes, ALL_BITS)
    return woken + (wake(p, second, second_wakes, ALL_BITS) if holds[comparison] else 0)


def lock_inheriting(p: Process, address: int, deadline: int | None) -> Steps:
    """FUTEX_LOCK_PI. (Priorities don't matter: no thread runs while another one is let wait for ever.)"""
    own = p.thread.id
    while True:
        value = word_at(p, address)
        if not value & TID_MASK:
            p.memory.check(address, 4, WRITE)
            p.put_int(address, value & (WAITERS | OWNER_DIED) | own)
            return 0
        if value & TID_MASK == own:
            raise SystemCallError(errno.EDEADLK)
        p.put_int(address, value | WAITERS)
        yield from wait_for_wake(p, address, deadline, ALL_BITS)


def unlock_inheriting(p: Process, address: int) -> int:
    value = word_at(p, address)
    if value & TID_MASK != p.thread.id:
        raise SystemCallError(errno.EPERM)
    p.put_int(address, 0)
    wake(p, address, 1, ALL_BITS)
    if p.futexes.get(address):
        p.put_int(address, WAITERS)
    return 0


def futex(
    p: Process, address: int, operation: int, value: int, timeout: int, second: int, third: int, word: int
) -> int | Steps:
    command = operation & FUTEX_COMMAND
    value &= 0xFFFF_FFFF
    if command in (FUTEX_WAIT, FUTEX_WAIT_BITSET):
        bits = third & ALL_BITS if command == FUTEX_WAIT_BITSET else ALL_BITS
        if not bits:
            raise SystemCallError(errno.EINVAL)
        deadline = deadline_of(p, operation, timeout, word)
        if word_at(p, address) != value:
            raise SystemCallError(errno.EAGAIN)
        if shared_area(p, address, operation) is not None:
            return wait_for_others(p, address, value, deadline, bits)
        return wait_for_wake(p, address, deadline, bits)
    count = min(value, 0x7FFF_FFFF)
    if command in (FUTEX_WAKE, FUTEX_WAKE_BITSET):
        p.memory.check(address, 4, READ)
        if address % 4:
            raise SystemCallError(errno.EINVAL)
        bits = third & ALL_BITS if command == FUTEX_WAKE_BITSET else ALL_BITS
        return wake_word(p, address, count, bits, operation)
    if command in (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE):
        if command == FUTEX_CMP_REQUEUE and word_at(p, address) != third & 0xFFFF_FFFF:
            raise SystemCallError(errno.EAGAIN)
        return requeue(p, address, second, count, min(timeout & 0xFFFF_FFFF, 0x7FFF_FFFF))
    if command == FUTEX_WAKE_OP:
        return wake_operation(p, address, second, count, min(timeout & 0xFFFF_FFFF, 0x7FFF_FFFF), third)
    if command in (FUTEX_LOCK_PI, FUTEX_LOCK_PI2):
        return lock_inheriting(p, address, deadline_of(p, operation, timeout, word))
    if command == FUTEX_TRYLOCK_PI:
        if word_at(p, address) & TID_MASK:
            raise SystemCallError(errno.EAGAIN)
        p.put_int(address, p.thread.id)
        return 0
    if command == FUTEX_UNLOCK_PI:
        return unlock_inheriting(p, address)
    raise SystemCallError(errno.ENOSYS)


def deadline_of(p: Process, operation: int, address: int, word: int) -> int | None:
    """FUTEX_WAIT's timeout is relative, the others' absolute: FUTEX_LOCK_PI's by the real-time clock."""
    if not address:
        return None
    command = operation & FUTEX_COMMAND
    nanoseconds = read_timespec(p, address, word)
    if command != FUTEX_WAIT:
        real = operation & FUTEX_CLOCK_REALTIME or command == FUTEX_LOCK_PI
        nanoseconds -= time.clock_gettime_ns(time.CLOCK_REALTIME if real else time.CLOCK_MONOTONIC)
    return now() + nanoseconds


@system_call("futex")
def futex_(
    p: Process, address: int, operation: int, value: int, timeout: int, second: int, third: int
) -> int | Steps:
    return futex(p, address, operation, value, timeout, second, third, p.abi.word)


@system_call("futex_time64")
def futex_time64(
    p: Process, address: int, operation: int, value: int, timeout: int, second: int, third: int
) -> int | Steps:
    return futex(p, address, operation, value, timeout, second, third, 8)


# --- scheduling -------------------------------------------------------------------------------------------


@system_call("sched_yield")
def sched_yield(p: Process) -> int | Steps:
    """The other threads' turn."""
    if len(p.threads) == 1:
        return 0

    def steps() -> Steps:
        yield Wait(woken=True)
        return 0

    return steps()


@system_call("membarrier")
def membarrier(p: Process, command: int) -> int:
    """Whoever stands still sees what the others wrote; those whose turn it isn't do."""
    if not command:
        return 0x1FF
    p.stand_still()
    return 0


@system_call("sched_getaffinity")
def sched_getaffinity(p: Process, pid: int, size: int, address: int) -> int:
    """One CPU where threads take turns: the order of execution should not depend on the host."""
    words = -(-p.settings.cpus // p.abi.bits)
    if size < words * p.abi.word or size % p.abi.word:
        raise SystemCallError(errno.EINVAL)
    mask = (1 << p.settings.cpus) - 1
    p.memory.write(address, p.abi.pack_words(*(mask >> p.abi.bits * n for n in range(words))))
    return words * p.abi.word


@system_call("sched_setaffinity")
def sched_setaffinity(p: Process, pid: int, size: int, address: int) -> int:
    if not p.abi.unpack(p.memory.read(address, min(size, p.abi.word))):
        raise SystemCallError(errno.EINVAL)
    return 0


@system_call("getcpu")
def getcpu(p: Process, cpu: int, node: int) -> int:
    for address in (cpu, node):
        if address:
            p.memory.write(address, bytes(4))
    return 0


# --- prctl ------------------------------------------------------------------------------------------------

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME = (
    1,
    2,
    3,
    4,
    15,
    16,
)
PR_CAPBSET_READ, PR_GET_SECUREBITS, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 23, 27, 29, 30
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 36, 37, 38, 39
PR_GET_THP_DISABLE = 42


@system_call("prctl")
def prctl(p: Process, option: int, a1: int, a2: int) -> int:
    """Names, and the questions that programs ask; all else is EINVAL as for options that a kernel lacks."""
    option = signed(option)
    if option == PR_SET_NAME:
        p.thread.name = p.memory.read(a1, min(16, p.memory.accessible(a1, 16, READ)) or 1).split(b"\0")[0][
            :15
        ]
        return 0
    if option == PR_GET_NAME:
        p.memory.write(a1, p.thread.name.ljust(16, b"\0"))
        return 0
    if option in (PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS):
        return 1
    if option in (PR_GET_SECUREBITS, PR_CAPBSET_READ, PR_GET_THP_DISABLE):
        return 0
    if option in (PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER):
        p.put_int(a1, 0)
        return 0
    if option == PR_GET_TIMERSLACK:
        return 50_000
    if option in (
        PR_SET_DUMPABLE,
        PR_SET_NO_NEW_PRIVS,
        PR_SET_TIMERSLACK,
        PR_SET_PDEATHSIG,
        PR_SET_CHILD_SUBREAPER,
    ):
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
    """i386: fill an entry of the thread's descriptor table; its number is written to the description."""
    if not p.abi.thread_area_size:  # x86-64's programs have `arch_prctl`
        raise SystemCallError(errno.ENOSYS)
    data = p.memory.read(description, p.abi.thread_area_size)
    entry = p.abi.set_thread_area(p.cpu, p.memory.pages, data)
    if entry != p.abi.unpack(data[:4]):
        p.memory.write(description, p.abi.pack(entry, 4))
    return 0


@system_call("get_thread_area")
def get_thread_area(p: Process, description: int) -> int:
    """i386: what the entry holds that a description names."""
    if not p.abi.thread_area_size:
        raise SystemCallError(errno.ENOSYS)
    entry = p.abi.unpack(p.memory.read(description, 4))
    p.memory.write(description, p.abi.get_thread_area(p.memory.pages, entry))
    return 0


@system_call("set_tls")
def set_tls(p: Process, value: int) -> int:
    """ARM."""
    p.abi.set_thread_pointer(p.cpu, value)
    return 0


@system_call("cacheflush", "riscv_flush_icache")
def flush_instructions(p: Process, start: int, end: int) -> int:
    """The engine sees writes to code by itself; those of a CPU that runs beside another when that begins to
    run anew.
    """
    p.stand_still()
    return 0
