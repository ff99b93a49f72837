"""From ELF files to a memory image: segments of the program and its dynamic linker, stack with arguments,
environment and auxiliary vector.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from runtime.elf import ElfFile, Segment
from runtime.elf import constants as c
from runtime.linux.abi.base import Abi
from runtime.linux.errors import LoadError, SystemCallError, TooLongError
from runtime.linux.memory import CHUNK, GuestMemory
from runtime.linux.ports import EXECUTE, READ, WRITE, Memory

STACK_SIZE = 8 << 20
ARGUMENT_LIMIT = STACK_SIZE // 4
"""Bytes of argument and environment strings (Linux's limit too, execve(2))."""
GAP = 1 << 20
"""Unmapped bytes between the stack and the mappings below it."""

# Auxiliary vector types (linux/auxvec.h).
AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK, AT_SECURE = 11, 12, 13, 14, 15, 16, 17, 23
AT_RANDOM, AT_HWCAP2, AT_EXECFN = 25, 26, 31


class Image(NamedTuple):
    """A program in memory."""

    entry: int
    headers: int
    """Address of the program headers, 0 if they aren't in memory."""
    end: int
    """The end of the highest segment."""
    bias: int


def new_memory(abi: Abi, pages: Memory, limit: int) -> GuestMemory:
    """An empty address space for programs of `abi`."""
    return GuestMemory(
        pages,
        page_size=abi.page_size,
        low=0x10000 if abi.bits == 64 else 0x1000,
        high=abi.stack_top,
        top=abi.stack_top - STACK_SIZE - GAP,
        limit=limit,
    )


def load(elf: ElfFile, abi: Abi, memory: GuestMemory) -> Image:
    """Map the program's segments, and set where the heap begins. Raises `LoadError`."""
    abi.check_program(elf)
    image = place(elf, abi, memory, abi.program_base)
    memory.brk_start = memory.brk = memory.page_up(image.end)
    return image


def load_interpreter(elf: ElfFile, abi: Abi, memory: GuestMemory) -> Image:
    """Map the dynamic linker's segments, below the stack. Raises `LoadError`."""
    segments = [s for s in elf.segments if s.type == c.PT_LOAD and s.memory_size]
    size = max((s.end for s in segments), default=0) - min((s.address for s in segments), default=0)
    if size > memory.high:
        raise LoadError("it doesn't fit into the address space", where=elf.name)
    try:
        base = memory.find_gap(memory.page_up(size) + 0x10000)
    except SystemCallError:
        raise LoadError("it doesn't fit into the address space", where=elf.name) from None
    return place(elf, abi, memory, memory.page_up(base))


def place(elf: ElfFile, abi: Abi, memory: GuestMemory, base: int) -> Image:
    """Map a file's segments: at `base` where they may lie anywhere. Raises `LoadError`."""
    if elf.type not in (c.ET_EXEC, c.ET_DYN):
        kind = {c.ET_REL: "an object file", c.ET_CORE: "a core dump"}.get(elf.type, f"of type {elf.type}")
        raise LoadError(f"it is {kind}, not a program", where=elf.name)
    segments = [s for s in elf.segments if s.type == c.PT_LOAD and s.memory_size]
    if not segments:
        raise LoadError("it has no segment to load", where=elf.name)
    segments.sort(key=lambda s: s.address)
    bias = 0
    if elf.type == c.ET_DYN:
        alignment = max(abi.page_size, *(s.alignment for s in segments))
        if alignment > 1 << 30:
            raise LoadError(f"a segment is aligned to {alignment:#x} bytes", where=elf.name)
        bias = -(-base // alignment) * alignment - segments[0].address
        bias -= bias % abi.page_size
    for segment in segments:
        load_segment(elf, segment, bias, memory)
    headers = 0
    for segment in elf.segments:
        if segment.type == c.PT_PHDR:
            headers = segment.address + bias
            break
        if segment.type == c.PT_LOAD and 0 <= elf.header_offset - segment.offset < segment.file_size:
            headers = headers or segment.address + elf.header_offset - segment.offset + bias
    return Image((elf.entry + bias) & abi.mask, headers, segments[-1].end + bias, bias)


def load_segment(elf: ElfFile, segment: Segment, bias: int, memory: GuestMemory) -> None:
    start = memory.page_down(segment.address + bias)
    end = memory.page_up(segment.end + bias)
    permissions = (
        (READ if segment.flags & c.PF_R else 0)
        | (WRITE if segment.flags & c.PF_W else 0)
        | (EXECUTE if segment.flags & c.PF_X else 0)
    ) or READ
    # Segments may share a page at their borders: it then gets the permissions of both.
    shared = memory.overlapping(start, end)
    for area in shared:
        if area.start < start - memory.page_size or area.end > start + memory.page_size:
            raise LoadError(f"segments overlap at {segment.address:#x}", where=elf.name)
        memory.protect(start, area.end - start, area.permissions | permissions)
        start = area.end
    if end > start:
        try:
            offset = segment.offset - (segment.address + bias - start)
            memory.map(start, end - start, permissions, name=elf.name, offset=max(offset, 0))
        except SystemCallError:
            raise LoadError(
                f"a segment of {segment.memory_size:#x} bytes at {segment.address + bias:#x} doesn't fit "
                "into the address space",
                where=elf.name,
            ) from None
    for done in range(0, segment.file_size, CHUNK):
        size = min(CHUNK, segment.file_size - done)
        data = elf.read(segment.offset + done, size, f"segment for address {segment.address:#x}")
        memory.pages.write(segment.address + bias + done, data)


def build_stack(
    abi: Abi,
    memory: GuestMemory,
    elf: ElfFile,
    image: Image,
    *,
    executable: bytes,
    arguments: Sequence[bytes],
    environment: Sequence[bytes],
    interpreter: Image | None = None,
) -> tuple[int, bytes]:
    """Map and fill the stack. Returns the address of the argument count, and the auxiliary vector. Raises
    `LoadError` for too long arguments.
    """
    top = abi.stack_top
    if sum(map(len, arguments)) + sum(map(len, environment)) + 8 * len(environment) > ARGUMENT_LIMIT:
        raise TooLongError(
            f"arguments and environment are longer than {ARGUMENT_LIMIT} bytes", where=elf.name
        )
    memory.map(top - STACK_SIZE, STACK_SIZE, READ | WRITE, name="[stack]")
    # Strings at the top, from the last one downwards.
    at = top - 8
    pieces: list[bytes] = [executable + b"\0"]
    pieces += [e + b"\0" for e in reversed(environment)]
    pieces += [a + b"\0" for a in reversed(arguments)]
    pieces += [abi.platform.encode() + b"\0", os.urandom(16)]
    addresses = []
    for piece in pieces:
        at -= len(piece)
        addresses.append(at)
    memory.pages.write(at, b"".join(reversed(pieces)))
    name_at = addresses[0]
    environment_at = addresses[1 : 1 + len(environment)][::-1]
    arguments_at = addresses[1 + len(environment) : 1 + len(environment) + len(arguments)][::-1]
    platform_at, random_at = addresses[-2:]

    auxv = [
        *abi.extra_auxv(),
        (AT_PHDR, image.headers),
        (AT_PHENT, elf.header_size),
        (AT_PHNUM, len(elf.segments)),
        (AT_PAGESZ, abi.page_size),
        (AT_BASE, interpreter.bias if interpreter is not None else 0),
        (AT_FLAGS, 0),
        (AT_ENTRY, image.entry),
        (AT_UID, os.getuid()),
        (AT_EUID, os.geteuid()),
        (AT_GID, os.getgid()),
        (AT_EGID, os.getegid()),
        (AT_HWCAP, abi.hwcap),
        (AT_HWCAP2, abi.hwcap2),
        (AT_CLKTCK, os.sysconf("SC_CLK_TCK")),
        (AT_SECURE, 0),
        (AT_RANDOM, random_at),
        (AT_EXECFN, name_at),
    ]
    if abi.platform:
        auxv.append((AT_PLATFORM, platform_at))
    auxv.append((AT_NULL, 0))
    words = [len(arguments), *arguments_at, 0, *environment_at, 0]
    for entry in auxv:
        words += entry
    data = abi.pack_words(*words)
    stack = (at - len(data)) & ~63
    memory.pages.write(stack, data)
    return stack, data[-2 * abi.word * len(auxv) :]
