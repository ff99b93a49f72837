"""Runs random programs on riscv64: ``python -m tests.runtime.linux.hostile_programs SEED COUNT``. Prints
"survived".
"""

from __future__ import annotations

import random
import sys

from isagen.generated import folder_of
from runtime.cpu.engine import TargetPackage, load_target
from runtime.elf import parse_elf
from runtime.elf.writer import OutputSection, write_executable
from runtime.linux.abi import for_elf
from runtime.linux.calls import HANDLERS
from runtime.linux.engine import EngineCpu, EngineMemory
from runtime.linux.handlers import load_all
from runtime.linux.process import Settings
from runtime.linux.program import start
from runtime.linux.scheduler import Scheduler

LIMIT = 20_000
# ecall, li a7, loads and stores by a0, lui a1, jr a1, j, ret, fence.i
# fmt: off
COMMON = ["73000000", "9308d00d", "13050500", "03350500", "23300500", "b7f5ff7f",
          "67800500", "6ff0dfff", "8280", "0f100000"]
# fmt: on
# Calls that touch nothing but the guest's memory and this process's own table of files.
HARMLESS = {
    *("brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "getpid", "uname", "clock_gettime", "fstat"),
}


def run_one(package: TargetPackage, chance: random.Random) -> None:
    code = b"".join(
        bytes.fromhex(chance.choice(COMMON))
        if chance.random() < 0.3
        else chance.randbytes(chance.choice((2, 4)))
        for _ in range(400)
    )
    text = OutputSection(".text", 7, 0x10000, len(code), code)
    data = write_executable([text], bits=64, little_endian=True, machine=243, entry=0x10000)
    elf = parse_elf(data, "hostile")
    memory = EngineMemory()
    cpu = EngineCpu(package, memory)
    arguments = [b"hostile"]
    process = start(
        elf,
        for_elf(elf),
        cpu,
        memory,
        arguments=arguments,
        environment=[],
        settings=Settings(memory_limit=1 << 28),
    )
    interesting = [0, 1, 0x10000, 0x10080, 2**64 - 1, 2**63, 0x3F_FFFF_E000]
    for register in range(1, 32):
        cpu.set(f"x{register}", chance.choice([*interesting, chance.getrandbits(64)]))
    end = Scheduler(process).run(LIMIT)
    assert end is None or end.signal in (4, 5, 7, 11), end
    assert process.instructions <= LIMIT


def main() -> None:
    chance = random.Random(int(sys.argv[1]))
    package = load_target(folder_of("riscv64"))
    load_all()
    for name in set(HANDLERS) - HARMLESS:
        del HANDLERS[name]
    for _ in range(int(sys.argv[2])):
        run_one(package, chance)
    print("survived")


if __name__ == "__main__":
    main()
