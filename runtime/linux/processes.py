"""System calls on processes: making, ending, replacing and waiting for them; groups and sessions."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from typing import TYPE_CHECKING

from runtime.linux import program
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import CallTookOver, GuestExit, SystemCallError
from runtime.linux.loader import ARGUMENT_LIMIT
from runtime.linux.namespace import AT_FDCWD
from runtime.linux.siginfo import CLD_CONTINUED, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, SignalInfo
from runtime.linux.threads import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_PARENT_SETTID,
    new_thread,
    store_id,
)
from runtime.linux.time import pack_usage
from runtime.linux.waiting import READABLE, Steps, Wait, now

if TYPE_CHECKING:
    import resource

    from runtime.linux.process import Process

CLONE_VM, CLONE_FILES, CLONE_SIGHAND, CLONE_PIDFD = 0x100, 0x400, 0x800, 0x1000
CLONE_VFORK, CLONE_THREAD, CLONE_SETTLS = 0x4000, 0x10000, 0x80000
CLONE_NEW = 0x7E02_0080
"""Flags that ask for namespaces of one's own."""
WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x0100_0000
WALL = 0xE000_0000
P_ALL, P_PID, P_PGID, P_PIDFD = range(4)
WORDS_LIMIT = 1 << 20
"""Most strings in a list of arguments."""
AT_EMPTY_PATH = 0x1000


# --- making processes -------------------------------------------------------------------------------------


def fork(
    p: Process, stack: int = 0, thread_pointer: int | None = None, *, waits: bool = False, pidfd: int = 0
) -> int | Steps:
    """A copy of this process, of which only the calling thread goes on. `stack`: 0 for the same.

    `waits` (vfork): the parent waits for the child to end or become another program, and then sees what the
    child has written to memory.
    """
    if waits:
        reader, writer = os.pipe2(os.O_CLOEXEC)
    p.stand_still()
    try:
        pid = p.family.fork()
    except BaseException:
        if waits:
            os.close(reader)
            os.close(writer)
        raise
    if pid:
        p.children.add(pid)
        if pidfd:
            p.put_int(pidfd, p.files.add(os.pidfd_open(pid), True))
        if waits:
            os.close(writer)
            return wait_for_vfork(p, pid, reader)
        return pid
    become_child(p)
    if waits:
        os.close(reader)
        p.memory.pages.clear_dirty()
        p.before_end.append(lambda: send_memory(p, writer))
    if stack:
        p.cpu.set(p.abi.stack_pointer, stack)
    if thread_pointer is not None:
        p.abi.install_tls(p.cpu, p.memory.pages, thread_pointer)
    return 0


def become_child(p: Process) -> None:
    """What differs in a forked process."""
    p.is_child = True
    p.cpu.forked()
    for thread in p.threads:
        thread.gone = thread is not p.thread
    p.threads = [p.thread]
    p.thread.id = os.getpid()
    p.thread.pending.clear()
    p.pending.clear()
    p.children.clear()
    p.timers.forget_all()
    p.futexes.clear()
    p.before_end.clear()
    p.supervisor = None
    p.stand_still = p.memory.pages.stand_still = lambda: None
    for action in p.after_fork:
        action()


def wait_for_vfork(p: Process, pid: int, reader: int) -> Steps:
    parts = []
    try:
        while True:
            yield Wait({reader: READABLE}, interruptible=False)
            data = os.read(reader, 1 << 16)
            if not data:
                break
            parts.append(data)
    finally:
        os.close(reader)
    data = b"".join(parts)
    at = 0
    while at + 16 <= len(data):
        address, size = struct.unpack_from("=QQ", data, at)
        at += 16
        if at + size <= len(data):
            with contextlib.suppress(Exception):
                p.memory.pages.write(address, data[at : at + size])
        at += size
    return pid


def send_memory(p: Process, writer: int) -> None:
    """Send the vfork's parent what was written meanwhile."""
    with contextlib.suppress(OSError), os.fdopen(writer, "wb") as stream:
        for address, size in p.memory.pages.dirty():
            area = p.memory.find(address)
            if area is not None and not area.shared:
                stream.write(struct.pack("=QQ", address, size) + p.memory.pages.read(address, size))


def clone_(
    p: Process, flags: int, stack: int, parent_id: int, tls: int, child_id: int, pidfd: int
) -> int | Steps:
    """What clone and clone3 have in common. `stack`: the new stack pointer, or 0."""
    if flags & CLONE_NEW & ~CLONE_VFORK:
        raise SystemCallError(errno.EPERM)
    if flags & CLONE_THREAD:
        if not flags & CLONE_SIGHAND or not flags & CLONE_VM:
            raise SystemCallError(errno.EINVAL)
        return new_thread(p, flags, stack, parent_id, tls if flags & CLONE_SETTLS else None, child_id)
    if flags & CLONE_VM and not flags & CLONE_VFORK:
        raise SystemCallError(errno.EINVAL)  # processes that share memory
    result = fork(
        p,
        stack,
        tls if flags & CLONE_SETTLS else None,
        waits=bool(flags & CLONE_VFORK),
        pidfd=pidfd if flags & CLONE_PIDFD else 0,
    )
    if result == 0:
        if flags & CLONE_CHILD_SETTID:
            store_id(p, child_id, p.thread.id)
        p.thread.clear_child_tid = child_id if flags & CLONE_CHILD_CLEARTID else 0
    elif flags & CLONE_PARENT_SETTID and isinstance(result, int):
        store_id(p, parent_id, result)
    return result


@system_call("clone")
def clone(p: Process, a0: int, a1: int, a2: int, a3: int, a4: int) -> int | Steps:
    """The order of the last two differs (clone(2)); SPARC's raw call returns two values."""
    tls, child_id = (a4, a3) if p.abi.clone_child_first else (a3, a4)
    result = clone_(p, a0, a1, a2, tls, child_id, a2)
    p.abi.after_fork(p.cpu, result == 0)
    return result


@system_call("clone3")
def clone3(p: Process, address: int, size: int) -> int | Steps:
    if size < 64 or size > 4096:
        raise SystemCallError(errno.EINVAL)
    data = p.memory.read(address, size)
    names = ("flags", "pidfd", "child", "parent", "signal", "stack", "stack_size", "tls")
    values = {name: p.abi.unpack(data[8 * i : 8 * i + 8]) for i, name in enumerate(names)}
    if any(data[64:80]) or (values["stack"] == 0) != (values["stack_size"] == 0):
        raise SystemCallError(errno.EINVAL)
    stack = values["stack"] + values["stack_size"]
    result = clone_(
        *(p, values["flags"], stack, values["parent"], values["tls"], values["child"], values["pidfd"])
    )
    p.abi.after_fork(p.cpu, result == 0)
    return result


@system_call("fork")
def fork_(p: Process) -> int | Steps:
    result = fork(p)
    p.abi.after_fork(p.cpu, result == 0)
    return result


@system_call("vfork")
def vfork(p: Process) -> int | Steps:
    result = fork(p, waits=True)
    p.abi.after_fork(p.cpu, result == 0)
    return result


# --- ending and replacing ---------------------------------------------------------------------------------


@system_call("exit_group")
def exit_group(p: Process, status: int) -> int:
    raise GuestExit(status & 0xFF)


def strings(p: Process, address: int) -> list[bytes]:
    """A list of addresses of strings, ended by 0."""
    found: list[bytes] = []
    total = 0
    while address:
        pointer = p.word_at(address + p.abi.word * len(found))
        if not pointer:
            break
        found.append(p.memory.string(pointer))
        total += len(found[-1]) + 1
        if len(found) > WORDS_LIMIT or total > ARGUMENT_LIMIT:
            raise SystemCallError(errno.E2BIG)
    return found


@system_call("execve")
def execve(p: Process, path: int, arguments: int, environment: int) -> int:
    return execveat(p, AT_FDCWD, path, arguments, environment, 0)


@system_call("execveat")
def execveat(p: Process, directory: int, path: int, arguments: int, environment: int, flags: int) -> int:
    name = p.path(path)
    if not name and not flags & AT_EMPTY_PATH:
        raise SystemCallError(errno.ENOENT)
    words = strings(p, arguments) or [b""]
    program.execute(p, directory, name, words, strings(p, environment), flags)
    raise CallTookOver


# --- waiting ----------------------------------------------------------------------------------------------


def guest_status(p: Process, status: int) -> int:
    """A status as wait(2) gives it, with the guest's signal in it."""
    if os.WIFSIGNALED(status):
        return p.abi.guest_signal(os.WTERMSIG(status)) | status & 0x80
    if os.WIFSTOPPED(status):
        return p.abi.guest_signal(os.WSTOPSIG(status)) << 8 | 0x7F
    return status


def chosen_children(p: Process, pid: int) -> list[int]:
    """The children that `pid` means to wait4(2). Raises ECHILD where there is none. (Children of the emulator
    that aren't the guest's are nobody's business.)
    """
    if pid > 0:
        chosen = [pid] if pid in p.children else []
    elif pid == -1:
        chosen = sorted(p.children)
    else:
        group = -pid or os.getpgrp()
        chosen = [child for child in sorted(p.children) if group_of(child) == group]
    if not chosen:
        raise SystemCallError(errno.ECHILD)
    return chosen


def group_of(pid: int) -> int:
    """The process group; -1 of a process that is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def wait4_steps(p: Process, pid: int, options: int, status_at: int, usage_at: int) -> Steps:
    while True:
        for child in chosen_children(p, pid):
            try:
                found, status, usage = os.wait4(child, options | WNOHANG)
            except ChildProcessError:  # SIGCHLD is ignored: it left nothing behind
                p.forget_child(child)
                continue
            if found:
                report(p, found, status, usage, status_at, usage_at)
                return found
        if options & WNOHANG and chosen_children(p, pid):
            return 0
        yield child_wait(p)


def child_wait(p: Process) -> Wait:
    """A wait that ends with SIGCHLD, or soon, for where the guest ignores that signal none comes."""
    ignored = p.abi.signals["SIGCHLD"] in p.actions and p.actions[p.abi.signals["SIGCHLD"]].handler == 1
    return Wait(children=True, deadline=now() + (5_000_000 if ignored else 200_000_000))


def report(
    p: Process, pid: int, status: int, usage: resource.struct_rusage, status_at: int, usage_at: int
) -> None:
    if not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
        p.forget_child(pid)
    if status_at:
        p.put_int(status_at, guest_status(p, status))
    if usage_at:
        p.memory.write(usage_at, pack_usage(p, usage))


@system_call("wait4")
def wait4(p: Process, pid: int, status: int, options: int, usage: int) -> int | Steps:
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WALL):
        raise SystemCallError(errno.EINVAL)
    return wait4_steps(p, signed(pid), options & (WNOHANG | WUNTRACED | WCONTINUED), status, usage)


@system_call("waitpid")
def waitpid(p: Process, pid: int, status: int, options: int) -> int | Steps:
    return wait4(p, pid, status, options, 0)


@system_call("waitid")
def waitid(p: Process, kind: int, number: int, info_at: int, options: int, usage_at: int) -> int | Steps:
    if not options & (WEXITED | WUNTRACED | WCONTINUED):
        raise SystemCallError(errno.EINVAL)
    kind, target = signed(kind), signed(number)
    if kind == P_PIDFD:
        target = pid_of(p.files.host(number))
    elif kind == P_ALL:
        target = -1
    elif kind == P_PGID:
        target = -target
    elif kind != P_PID or target <= 0:
        raise SystemCallError(errno.EINVAL)
    wanted = options & (WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT)

    def steps() -> Steps:
        while True:
            for child in chosen_children(p, target):
                try:
                    found = os.waitid(os.P_PID, child, wanted | WNOHANG)
                except ChildProcessError:
                    p.forget_child(child)
                    continue
                if found is not None and found.si_pid:
                    tell_waitid(p, found, info_at, usage_at, gone=not options & WNOWAIT)
                    return 0
            if options & WNOHANG and chosen_children(p, target):
                if info_at:
                    p.memory.write(info_at, bytes(128))
                return 0
            yield child_wait(p)

    return steps()


def tell_waitid(p: Process, found: os.waitid_result, info_at: int, usage_at: int, *, gone: bool) -> None:
    """Write what waitid found; `gone`: the child leaves nothing behind."""
    status = found.si_status
    if found.si_code in (CLD_KILLED, CLD_DUMPED, CLD_STOPPED):
        status = p.abi.guest_signal(status)
    elif found.si_code == CLD_CONTINUED:
        status = p.abi.signals["SIGCONT"]
    if gone and found.si_code in (CLD_EXITED, CLD_KILLED, CLD_DUMPED):
        p.forget_child(found.si_pid)
    if info_at:
        number = p.abi.signals["SIGCHLD"]
        info = SignalInfo(number, found.si_code, found.si_pid, found.si_uid, value=status, child=True)
        p.memory.write(info_at, info.pack(p.abi.pack, p.abi.word))
    if usage_at:
        p.memory.write(usage_at, bytes(18 * p.abi.word))


def pid_of(pidfd: int) -> int:
    """The process that a pidfd of the host is. Raises EBADF, ESRCH."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as stream:  # noqa: PTH123
        pid = next((int(line.split()[1]) for line in stream if line.startswith("Pid:")), 0)
    if pid <= 0:
        raise SystemCallError(errno.ESRCH if pid else errno.EBADF)
    return pid


@system_call("pidfd_open")
def pidfd_open(p: Process, pid: int, flags: int) -> int:
    if flags or signed(pid) not in p.family.members():
        raise SystemCallError(errno.ESRCH if not flags else errno.EINVAL)
    return p.files.add(os.pidfd_open(signed(pid)), True)


# --- who the processes are --------------------------------------------------------------------------------


@system_call("getpid")
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


@system_call("setpgid")
def setpgid(p: Process, pid: int, group: int) -> int:
    target = signed(pid)
    if target and target != os.getpid() and target not in p.children:
        raise SystemCallError(errno.ESRCH)
    os.setpgid(target, signed(group))
    return 0


@system_call("getsid")
def getsid(p: Process, pid: int) -> int:
    return os.getsid(signed(pid))


@system_call("setsid")
def setsid(p: Process) -> int:
    os.setsid()
    return os.getsid(0)


@system_call("getxpid")
def getxpid(p: Process) -> int:
    """SPARC: the parent's number is a second result."""
    p.abi.second_result(p.cpu, os.getppid())
    return os.getpid()
