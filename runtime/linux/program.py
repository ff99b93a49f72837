"""Programs: finding out what a file is, and making it the one that a process runs."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import Final, NamedTuple

from runtime.elf import ElfError, ElfFile
from runtime.elf.reader import BytesSource, FileSource, Source, parse
from runtime.errors import IsagenError
from runtime.linux import host, loader
from runtime.linux.abi.base import Abi
from runtime.linux.errors import LoadError, SystemCallError, TooLongError
from runtime.linux.memory import GuestMemory
from runtime.linux.messages import say
from runtime.linux.namespace import AT_FDCWD, Namespace
from runtime.linux.paths import name_of, open_path
from runtime.linux.ports import Cpu, Memory
from runtime.linux.process import Process, Settings
from runtime.linux.signals import SIG_IGN
from runtime.linux.thread import Thread

SCRIPT_LINE: Final = 256
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
MAXIMUM_SCRIPTS: Final = 5
"""How many scripts may be each other's interpreters (as Linux has it)."""


class Loaded(NamedTuple):
    """A program in its own memory, ready to start."""

    memory: GuestMemory
    entry: int
    stack: int
    auxiliary: bytes


def open_program(namespace: Namespace, path: bytes) -> ElfFile:
    """The ELF file that the guest knows as `path`. Raises ElfError, OSError."""
    descriptor = namespace.open(None, path, os.O_RDONLY | os.O_NONBLOCK, 0)
    try:
        return parse(FileSource(f"/proc/self/fd/{descriptor}", name=os.fsdecode(path)))
    finally:
        os.close(descriptor)


def build(
    elf: ElfFile,
    abi: Abi,
    pages: Memory,
    namespace: Namespace,
    *,
    executable: bytes,
    arguments: Sequence[bytes],
    environment: Sequence[bytes],
    memory_limit: int,
) -> Loaded:
    """Load a program and its dynamic linker, and make the stack. Raises IsagenError, OSError."""
    memory = loader.new_memory(abi, pages, memory_limit)
    image = loader.load(elf, abi, memory)
    linker = None
    if elf.interpreter is not None:
        try:
            linker_file = open_program(namespace, os.fsencode(elf.interpreter))
        except (OSError, SystemCallError) as error:
            number = error.number if isinstance(error, SystemCallError) else error.errno or errno.EIO
            raise LoadError(
                f"its dynamic linker {elf.interpreter!r}: {os.strerror(number)}",
                where=elf.name,
                remedy="name the folder of its system with --sysroot, or link it with -static",
            ) from None
        if (linker_file.machine, linker_file.bits) != (elf.machine, elf.bits):
            raise LoadError(
                f"its dynamic linker {elf.interpreter} here is for {linker_file.machine_name}",
                where=elf.name,
                remedy="name the folder of its system with --sysroot",
            )
        linker = loader.load_interpreter(linker_file, abi, memory)
    abi.prepare_memory(pages)
    stack, auxiliary = loader.build_stack(
        abi,
        memory,
        elf,
        image,
        executable=executable,
        arguments=arguments,
        environment=environment,
        interpreter=linker,
    )
    return Loaded(memory, linker.entry if linker is not None else image.entry, stack, auxiliary)


def start(
    elf: ElfFile,
    abi: Abi,
    cpu: Cpu,
    pages: Memory,
    *,
    arguments: Sequence[bytes],
    environment: Sequence[bytes],
    settings: Settings | None = None,
    namespace: Namespace | None = None,
) -> Process:
    """A new process that is going to run the program `elf`. Raises IsagenError, OSError."""
    settings = settings or Settings()
    namespace = namespace or Namespace()
    name = os.fsencode(elf.name)
    file, executable = None, name
    if isinstance(elf.source, FileSource):
        file = elf.source.duplicate()
        executable = namespace.name_of(file)
        if not executable.startswith(b"/"):  # outside of the root
            executable = b"/" + os.path.basename(name)  # noqa: PTH119 - bytes
    namespace.enter()
    loaded = build(
        elf,
        abi,
        pages,
        namespace,
        executable=name,
        arguments=arguments,
        environment=environment,
        memory_limit=settings.memory_limit,
    )
    process = Process(
        abi,
        cpu,
        loaded.memory,
        executable=executable,
        arguments=list(arguments),
        environment=list(environment),
        settings=settings,
        namespace=namespace,
    )
    process.program_file = file
    enter(process, loaded)
    return process


def enter(p: Process, loaded: Loaded) -> None:
    """Set the CPU's registers as the kernel does when a program begins."""
    p.auxiliary = loaded.auxiliary
    for register, value in p.abi.initial_state.items():
        p.cpu.set(register, value)
    p.abi.start(p.cpu, p.memory.pages, loaded.entry, loaded.stack)


# --- execve -----------------------------------------------------------------------------------------------


def execute(
    p: Process, directory: int, path: bytes, arguments: list[bytes], environment: list[bytes], flags: int = 0
) -> None:
    """Replace the process's program. Raises `SystemCallError`, OSError, with nothing changed."""
    p.need("exec")
    if p.settings.prepare is None:
        raise SystemCallError(errno.ENOSYS)
    file, elf, arguments = find(p, directory, path, arguments, flags)
    try:
        try:
            abi, cpu, pages = p.settings.prepare(elf)
            loaded = build(
                elf,
                abi,
                pages,
                p.namespace,
                executable=path,
                arguments=arguments,
                environment=environment,
                memory_limit=p.settings.memory_limit,
            )
        except IsagenError as error:
            if isinstance(error, TooLongError):
                raise SystemCallError(errno.E2BIG) from None
            say(f"isagen: {error}\n")
            raise SystemCallError(errno.ENOEXEC) from None
        executable = p.namespace.name_of(file)
    except BaseException:
        os.close(file)
        raise
    p.stand_still()
    for action in p.before_end:
        action()
    p.before_end.clear()
    if p.program_file is not None:
        os.close(p.program_file)
    p.program_file = file
    p.executable = executable
    p.arguments, p.environment = arguments, environment
    p.cpu.close()
    p.abi, p.cpu, p.memory = abi, cpu, loaded.memory
    for thread in p.threads:
        thread.gone = True
    only = Thread(os.getpid(), blocked=p.thread.blocked, pending=p.thread.pending)
    only.name = os.path.basename(path)[:15]  # noqa: PTH119 - bytes
    p.thread = only
    p.threads = [only]
    p.actions = {number: action for number, action in p.actions.items() if action.handler == SIG_IGN}
    p.timers.forget_created()
    p.futexes.clear()
    p.files.close_for_exec()
    with contextlib.suppress(OSError, AttributeError):
        host.set_name(only.name)
    enter(p, loaded)


def find(
    p: Process, directory: int, path: bytes, arguments: list[bytes], flags: int
) -> tuple[int, ElfFile, list[bytes]]:
    """A host descriptor of the program, its headers, and its arguments: of scripts, those of the interpreter
    that their first line names.
    """
    for _ in range(MAXIMUM_SCRIPTS):
        opened = p.files.get(directory) if not path and flags & AT_EMPTY_PATH else None
        if opened is None:
            nofollow = os.O_NOFOLLOW if flags & AT_SYMLINK_NOFOLLOW else 0
            file = open_path(p, directory, path, os.O_RDONLY | os.O_NONBLOCK | nofollow, 0).host
        else:
            file = os.open(b"/proc/self/fd/%d" % opened.host, os.O_RDONLY | os.O_CLOEXEC)
            path = name_of(p, opened)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode) or not os.access(f"/proc/self/fd/{file}", os.X_OK):
                raise SystemCallError(errno.EACCES)
            head = os.pread(file, SCRIPT_LINE, 0)
            if not head.startswith(b"#!"):
                return file, headers(file, status, head, path), arguments
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        words = head[2:].split(b"\n")[0].strip(b" \t").split(None, 1)
        if not words:
            raise SystemCallError(errno.ENOEXEC)
        arguments = [*(word.rstrip(b" \t") for word in words), path, *arguments[1:]]
        path, directory, flags = words[0], AT_FDCWD, 0
    raise SystemCallError(errno.ELOOP)


def headers(file: int, status: os.stat_result, head: bytes, path: bytes) -> ElfFile:
    """The headers of an ELF file. Raises ENOEXEC where it is none."""
    source: Source
    name = os.fsdecode(path)
    try:
        if status.st_size < len(head):
            source = BytesSource(head, name)
        else:
            source = FileSource(f"/proc/self/fd/{file}", name=name)
        return parse(source)
    except ElfError:
        raise SystemCallError(errno.ENOEXEC) from None
