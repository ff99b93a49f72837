"""Random system calls with random arguments, in the current folder:
``python -m tests.runtime.linux.hostile_calls MACHINE BITS LITTLE SEED COUNT``. Prints "survived".
"""

from __future__ import annotations

import os
import random
import resource
import sys

from runtime.elf import parse_elf
from runtime.elf.writer import OutputSection, write_executable
from runtime.linux import signals
from runtime.linux.abi import for_elf
from runtime.linux.abi.base import Abi
from runtime.linux.calls import HANDLERS
from runtime.linux.engine import EngineMemory
from runtime.linux.errors import GuestExit
from runtime.linux.handlers import load_all
from runtime.linux.ports import Stop
from runtime.linux.process import Process, Settings
from runtime.linux.program import start
from runtime.linux.scheduler import Scheduler
from tests.runtime.linux.fake_cpu import FakeCpu

BASE = 0x10000
NAMES = [
    b"one",
    b"two",
    b"sub",
    b"sub/three",
    b".",
    b"",
    b"x" * 300,
    b"/proc/self/maps",
    b"/proc/self/fd",
    b"fifo",
]
MEMORY_LIMIT = 1 << 28


def make(machine: int, bits: int, little: bool) -> Process:
    """A process whose calls the test makes itself."""
    data = write_executable(
        [OutputSection(".data", 3, BASE, 0x3000, bytes(0x3000))],
        bits=bits,
        little_endian=little,
        machine=machine,
        entry=BASE,
        flags=0x5000000 if machine == 40 else 0,
        page=0x2000,
    )
    elf = parse_elf(data, "hostile")
    settings = Settings(memory_limit=MEMORY_LIMIT, process_limit=4)
    return start(
        elf,
        for_elf(elf),
        FakeCpu(),
        EngineMemory(),
        arguments=[b"hostile"],
        environment=[],
        settings=settings,
    )


class Chance:
    """Arguments that get far now and then."""

    def __init__(self, abi: Abi, seed: int) -> None:
        self.random = random.Random(seed)
        self.abi = abi

    def argument(self) -> int:
        chance, abi = self.random, self.abi
        kind = chance.randrange(10)
        if kind < 3:
            return chance.randrange(-2, 12) & abi.mask
        if kind < 6:
            return BASE + 64 * chance.randrange(40)
        if kind == 6:
            return BASE + chance.randrange(0x4000)
        if kind == 7:
            return (abi.stack_top - chance.randrange(1 << 14)) & abi.mask
        if kind == 8:
            return 1 << chance.randrange(abi.bits)
        return chance.getrandbits(abi.bits)


def main(words: list[str]) -> None:
    machine, bits, little, seed, count = map(int, words)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))
    load_all()
    process = make(machine, bits, bool(little))
    process.after_fork.append(lambda: os._exit(0))
    signals.STOPPING = frozenset()  # type: ignore[misc] # nobody would let this process go on
    scheduler = Scheduler(process)
    abi = process.abi
    chance = Chance(abi, seed)
    for i in range(40):  # places that hold names of files here
        process.memory.write(BASE + 64 * i, chance.random.choice(NAMES)[:60] + b"\0")
    names = sorted(name for name in HANDLERS if name in abi.call_names.values())
    numbers = {name: number for number, name in abi.call_names.items()}
    assert len(names) > 200, names
    for _ in range(count):
        thread = chance.random.choice(process.threads)
        process.thread = thread
        thread.mask_after = None
        process.cpu.set(abi.number_register, numbers[chance.random.choice(names)])
        for register in abi.argument_registers:
            process.cpu.set(register, chance.argument())
        try:
            scheduler.answer(Stop("trap", BASE, 1))
        except GuestExit as ended:
            assert 0 <= ended.status <= 255
            for one in process.threads:
                one.pending.clear()
            process.pending.clear()
        if not process.threads:
            process.threads.append(thread)
        if thread.steps is not None:  # it would wait
            thread.steps.close()
        thread.steps = thread.wait = thread.stop = None
        assert process.memory.mapped <= MEMORY_LIMIT
        assert len(process.files.table) <= process.files.largest
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24))  # the guest may have lowered it
    print("survived", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
