"""Hostile guests: random bytes as code, random registers and mappings. Run in a process of its own by
test_fuzz.

    python -m tests.runtime.cpu.fuzz FOLDER FIRST COUNT

`FOLDER`: a built target. Prints how many runs there were and what they ended with. All RAM of a run lies
between pages that hold a known pattern, in the same host mapping: nothing may change there.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

from runtime.cpu.engine import Cpu, TargetPackage, load_target
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace, Ram

PAGE = 4096
PAGES = 16
CANARY = bytes(range(256)) * (PAGE // 256)
BUDGET = 3000


def run_one(package: TargetPackage, seed: int) -> Counter[str]:
    """One guest: up to 40 entries with random budgets; what the entries ended with."""
    choose = random.Random(seed)
    ram = Ram(PAGES * PAGE)
    ram.memory[:] = CANARY * PAGES
    memory = AddressSpace()
    top = 1 << min(package.pc_width, 64)
    used: list[tuple[int, int]] = []
    places = [0, PAGE, 0x10000, top - PAGE, top - 2 * PAGE, top // 2, top // 2 - PAGE, 0x7FFF0000 % top]
    for page in range(1, PAGES - 1, 2):  # every other page is the guest's
        address = choose.choice(places) // PAGE * PAGE
        if any(start == address for start, _ in used):
            continue
        permissions = choose.choice([7, 7, 7, 7, 7, 7, 7, 7, 5, 3, 1, 4, 2])
        memory.map_ram(address, ram, offset=page * PAGE, size=PAGE, permissions=permissions)
        used.append((address, page))
        ram.memory[page * PAGE : (page + 1) * PAGE] = choose.randbytes(PAGE)
    if choose.random() < 0.3:
        address = choose.choice(places) // PAGE * PAGE
        if all(start != address for start, _ in used):
            memory.map_device(address, choose.choice([4, 256, PAGE]))
    touched = {page for _, page in used}
    cpu = Cpu(package, memory, system=choose.random() < 0.4)
    offsets = [0, 1, 2, 3, 4, 8, 16, 0x40, 0x80, 0x800, 0xFC0, 0xFF0, 0xFF8, 0xFFC, 0xFFD, 0xFFE, 0xFFF]
    interesting = [start + choose.choice(offsets) for start, _ in used for _ in range(4)]
    interesting += [0, 1, top - 1, top - 2, top - 4, top - 8, top // 2, choose.getrandbits(64)]
    names = [name for name in cpu.names() if name != "pc"]
    for name in names:
        cpu.set(name, choose.choice(interesting) if choose.random() < 0.9 else choose.getrandbits(128))
    ends: Counter[str] = Counter()
    cpu.pc = choose.choice(interesting)
    for _ in range(40):
        before = cpu.executed
        budget = choose.choice([1, 2, 7, 100, BUDGET])
        stop = cpu.run(budget)
        assert cpu.executed - before <= budget, f"seed {seed}: {cpu.executed - before} of {budget} executed"
        ends[stop.reason.name] += 1
        if stop.reason is Reason.MMIO:
            cpu.answer(choose.getrandbits(64))
        elif stop.reason is Reason.WAITING:
            cpu.set("waiting", 0)
        elif stop.reason is not Reason.BUDGET or choose.random() < 0.2:
            cpu.pc = choose.choice([*interesting, *(cpu.pc + step for step in (package.unit, 4, 8) * 8)])
            if choose.random() < 0.3:
                cpu.next_pc = choose.choice(interesting)
        if choose.random() < 0.05 and used:
            start, _ = choose.choice(used)
            memory.protect(start, PAGE, choose.choice([7, 5, 3]))
        if choose.random() < 0.03 and used:
            start, page = used.pop()
            memory.unmap(start, PAGE)
        if choose.random() < 0.05:
            cpu.breakpoints = choose.sample(interesting, 3)
    for page in range(PAGES):
        if page not in touched:
            kept = ram.memory[page * PAGE : (page + 1) * PAGE] == CANARY
            assert kept, f"seed {seed}: the host's page {page} changed"
    return ends


def main() -> None:
    package = load_target(Path(sys.argv[1]))
    first, count = int(sys.argv[2]), int(sys.argv[3])
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        if seed % 100 == 0:
            print(f"from {seed}", file=sys.stderr, flush=True)  # where it was, if the process dies
        ends += run_one(package, seed)
    print(count, dict(ends))


if __name__ == "__main__":
    main()
