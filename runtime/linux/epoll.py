"""epoll(7), by the host's."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.descriptors import OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.polling import temporary_mask
from runtime.linux.time import deadline_of
from runtime.linux.waiting import READABLE, Steps, Wait, now

if TYPE_CHECKING:
    from runtime.linux.process import Process

ADD, DELETE, MODIFY = 1, 2, 3
MILLISECOND = 1_000_000


@system_call("epoll_create1")
def epoll_create1(p: Process, flags: int) -> int:
    host_flags = p.abi.open_flags(flags)
    if host_flags & ~os.O_CLOEXEC:
        raise SystemCallError(errno.EINVAL)
    with select.epoll() as instance:
        host = os.dup(instance.fileno())
    return p.files.add_file(OpenFile(host, kind="epoll"), bool(host_flags))


@system_call("epoll_create")
def epoll_create(p: Process, size: int) -> int:
    if signed(size) <= 0:
        raise SystemCallError(errno.EINVAL)
    return epoll_create1(p, 0)


def instance_of(p: Process, number: int) -> OpenFile:
    file = p.files.get(number)
    if file.kind != "epoll":
        raise SystemCallError(errno.EINVAL)
    return file


def host_instance(instance: OpenFile) -> select.epoll:
    """The host's epoll object: by a descriptor of its own, for it is closed with the object."""
    return select.epoll.fromfd(os.dup(instance.host))


def event_size(p: Process) -> tuple[int, int]:
    """Where the data lie in ``struct epoll_event``, and its size: packed on x86-64 only."""
    return (4, 12) if p.abi.name in ("x86_64", "i386") else (8, 16)


@system_call("epoll_ctl")
def epoll_ctl(p: Process, number: int, operation: int, target: int, event: int) -> int:
    instance = instance_of(p, number)
    file = p.files.get(target)
    if file is instance:
        raise SystemCallError(errno.EINVAL)
    operation = signed(operation)
    events, value = 0, 0
    if operation in (ADD, MODIFY):
        at, size = event_size(p)
        data = p.memory.read(event, size)
        events, value = p.abi.unpack(data[:4]), p.abi.unpack(data[at : at + 8])
    elif operation != DELETE:
        raise SystemCallError(errno.EINVAL)
    with host_instance(instance) as host:
        if operation == DELETE:
            host.unregister(file.host)
            instance.watched.pop(file.host, None)
            return 0
        change = host.register if operation == ADD else host.modify
        change(file.host, events)
    instance.watched[file.host] = (events, value)
    return 0


def collect(p: Process, instance: OpenFile, address: int, maximum: int) -> int:
    """Write the events that are there at once."""
    at, _ = event_size(p)
    parts = []
    with host_instance(instance) as host:
        found = host.poll(0, maximum)
    for descriptor, events in found:
        value = instance.watched.get(descriptor, (0, 0))[1]
        parts.append(p.abi.pack(events, 4).ljust(at, b"\0") + p.abi.pack(value, 8))
    if parts:
        p.memory.write(address, b"".join(parts))
    return len(parts)


def wait_for_events(p: Process, number: int, address: int, maximum: int, deadline: int | None) -> int | Steps:
    instance = instance_of(p, number)
    maximum = signed(maximum)
    if not 0 < maximum <= 1 << 20:
        raise SystemCallError(errno.EINVAL)
    total = collect(p, instance, address, maximum)
    if total or deadline == 0:
        return total

    def steps() -> Steps:
        while True:
            yield Wait({instance.host: READABLE}, deadline, restart=False)
            total = collect(p, instance, address, maximum)
            if total or (deadline is not None and now() >= deadline):
                return total

    return steps()


@system_call("epoll_pwait")
def epoll_pwait(
    p: Process, number: int, address: int, maximum: int, timeout: int, mask: int, size: int
) -> int | Steps:
    milliseconds = signed(timeout)
    deadline = None if milliseconds < 0 else 0 if not milliseconds else now() + milliseconds * MILLISECOND
    temporary_mask(p, mask, size)
    return wait_for_events(p, number, address, maximum, deadline)


@system_call("epoll_wait")
def epoll_wait(p: Process, number: int, address: int, maximum: int, timeout: int) -> int | Steps:
    return epoll_pwait(p, number, address, maximum, timeout, 0, 8)


@system_call("epoll_pwait2")
def epoll_pwait2(
    p: Process, number: int, address: int, maximum: int, timeout: int, mask: int, size: int
) -> int | Steps:
    deadline = deadline_of(p, timeout, 8)
    temporary_mask(p, mask, size)
    return wait_for_events(p, number, address, maximum, deadline)
