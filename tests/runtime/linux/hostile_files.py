"""Loads damaged programs: ``python -m tests.runtime.linux.hostile_files MACHINE BITS LITTLE SEED COUNT``.
Prints "survived" and how many of them could be loaded.
"""

from __future__ import annotations

import random
import resource
import struct
import sys

from runtime.elf import parse_elf
from runtime.elf.writer import OutputSection, write_executable
from runtime.errors import IsagenError
from runtime.linux.abi import for_elf
from runtime.linux.engine import EngineMemory
from runtime.linux.process import Settings
from runtime.linux.program import start
from tests.runtime.linux.fake_cpu import FakeCpu

BASE = 0x10000
MEMORY_LIMIT = 1 << 28
HOST_LIMIT = 1 << 30
"""Bytes that this process may map beyond what it has when it begins."""
SEGMENTS = 5
LOAD, DYNAMIC, INTERPRETER, HEADERS, THREAD_LOCAL, STACK = 1, 2, 3, 6, 7, 0x6474E551
NAMES = (b"/bin/sh\0", b"/nowhere\0", b"/proc/self/mem\0", b"/dev/zero\0", b"\xff" * 40, b"\0", b"/\0")


def program(machine: int, bits: int, little: bool, chance: random.Random) -> bytearray:
    """A program with segments of all kinds that the loader knows, not all of which make sense."""
    content = chance.choice(NAMES).ljust(0x800, b"\0") + chance.randbytes(0x2800)
    data = bytearray(
        write_executable(
            [OutputSection(".data", 7, BASE, 0x3000, content)],
            bits=bits,
            little_endian=little,
            machine=machine,
            entry=BASE,
            flags=0x5000000 if machine == 40 else 0,
            page=0x2000,
        )
    )
    order = "<" if little else ">"
    entry = 24
    at, count = (32, 56) if bits == 64 else (28, 44)
    size = 56 if bits == 64 else 32
    word = "Q" if bits == 64 else "I"
    (table,) = struct.unpack_from(f"{order}{word}", data, at)
    loaded = bytes(data[table : table + size])
    offset = struct.unpack_from(f"{order}{word}", loaded, 8 if bits == 64 else 4)[0]
    rows = [loaded]
    for _ in range(SEGMENTS - 1):
        kind = chance.choice((LOAD, DYNAMIC, INTERPRETER, HEADERS, THREAD_LOCAL, STACK))
        place, length = chance.randrange(0, 0x1000, 8), chance.choice((0, 8, 64, 0x400))
        fields = offset + place, BASE + place, BASE + place, length, length, 8
        row = f"{order}II6Q" if bits == 64 else f"{order}8I"
        values = (kind, 6, *fields) if bits == 64 else (kind, *fields[:5], 6, fields[5])
        rows.append(struct.pack(row, *values))
    if chance.random() < 0.5:  # an object that can be anywhere
        struct.pack_into(f"{order}H", data, 16, 3)
    struct.pack_into(f"{order}{word}", data, at, len(data))
    struct.pack_into(f"{order}H", data, count, len(rows))
    struct.pack_into(f"{order}{word}", data, entry, BASE + chance.randrange(0, 64, 4))
    return data + b"".join(rows)


def damage(data: bytearray, bits: int, little: bool, chance: random.Random) -> None:
    """Change a few fields of the headers: to numbers at the edges, or by a bit."""
    head = 64 if bits == 64 else 52
    table = SEGMENTS * (56 if bits == 64 else 32)
    places = [*range(16, head, 2), *range(len(data) - table, len(data), 4)]
    order = "<" if little else ">"
    for _ in range(chance.randrange(4)):
        width, code = chance.choice(((2, "H"), (4, "I"), (8, "Q")))
        at = min(chance.choice(places), len(data) - width)
        largest = (1 << 8 * width) - 1
        edges = (0, 1, largest, largest >> 1, largest - 0xFFF, 1 << 31, 1 << 47, len(data), BASE, 0x7FFF0000)
        value = chance.choice((*edges, chance.getrandbits(8 * width))) & largest
        if chance.random() < 0.3:
            value = struct.unpack_from(f"{order}{code}", data, at)[0] ^ 1 << chance.randrange(8 * width)
        struct.pack_into(f"{order}{code}", data, at, value)
    if chance.random() < 0.2:
        del data[chance.randrange(16, len(data)) :]


def main(words: list[str]) -> None:
    machine, bits, little, seed, count = map(int, words)
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + HOST_LIMIT, mapped + HOST_LIMIT))
    chance = random.Random(seed)
    loaded = 0
    for _ in range(count):
        data = program(machine, bits, bool(little), chance)
        damage(data, bits, bool(little), chance)
        try:
            elf = parse_elf(bytes(data), "damaged")
            process = start(
                elf,
                for_elf(elf),
                FakeCpu(),
                EngineMemory(),
                arguments=[b"damaged"],
                environment=[b"A=B"],
                settings=Settings(memory_limit=MEMORY_LIMIT),
            )
        except IsagenError as refused:
            assert str(refused)
            continue
        assert process.memory.mapped <= MEMORY_LIMIT
        loaded += 1
    print(f"survived {loaded}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
