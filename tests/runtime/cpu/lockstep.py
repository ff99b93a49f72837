"""The interpreter and the translator beside each other on random programs, with random budgets: state,
memory, counts and what stopped them must be the same at every stop.

    python -m tests.runtime.cpu.lockstep TARGET FIRST COUNT [PATTERN]

Every piece of code that is reached is translated at once, in this process, so that even the shortest program
runs in both. Programs come from the target's forms (`tests.runtime.cpu.sequences`); the host's part resets
the pc, changes registers, writes into code, changes permissions and sets breakpoints between runs. `PATTERN`:
a regular expression for the names of the instructions that programs consist of.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter

from isagen import paths
from isagen.generated import folder_of
from runtime.cpu import block, symbols
from runtime.cpu.engine import Cpu, load_target
from runtime.cpu.exits import Exit, Reason
from tests.runtime.cpu.sequences import CODE, DATA, FEATURES, SIZE, Sequences, Start, sample

PAGE = 4096


def registers_of(cpu: Cpu) -> bytes:
    """The state without what nobody can read."""
    state = bytearray(cpu.state)
    sink = cpu.package.sink
    state[sink : sink + 16] = bytes(16)
    return bytes(state)


def corner(choose: random.Random) -> int:
    """A floating-point number that arithmetic likes to get wrong, of 64 bits or (upper half ones) 32."""
    wide = choose.random() < 0.6
    bits, bias, width = (52, 1023, 64) if wide else (23, 127, 32)
    exponents = [0, 0, 1, 2, bias - bits - 1, bias - 1, bias, bias, bias, bias + 1, bias + 30, bias + 31]
    exponents += [bias + 62, bias + 63, bias + bits, bias + bits + 1, 2 * bias - 1, 2 * bias, 2 * bias + 1]
    fractions = [0, 0, 1, 1 << bits - 1, (1 << bits) - 1, (1 << bits) - 2, choose.getrandbits(bits)]
    value = choose.getrandbits(1) << width - 1 | choose.choice(exponents) << bits | choose.choice(fractions)
    return value if wide else value | 0xFFFFFFFF << 32


class Pair:
    """A program in an interpreter and in a translator."""

    def __init__(self, sequences: Sequences, start: Start, seed: int, *, system: bool) -> None:
        self.seed = seed
        self.choose = random.Random(seed)
        self.plain = sequences.cpu(start, system=system)
        self.other = sequences.cpu(start, system=system)
        for cpu in (self.plain, self.other):
            cpu.memory.map(DATA + SIZE, PAGE, 1)  # may be read only
        self.other.translate(background=False)
        self.regions = 0

    def both(self) -> tuple[Cpu, Cpu]:
        return self.plain, self.other

    def translate_here(self) -> None:
        """Have the code at the pc translated, if it isn't."""
        cpu = self.other
        assert cpu.translator is not None
        if cpu.breakpoints or (cpu._delay and cpu.next_pc != (cpu.pc + cpu._delay & cpu._pc_mask)):
            return
        saved = bytes(cpu.block)
        record = cpu.package.function(symbols.DECODE)(cpu.address, cpu.pc)
        if not record:
            cpu.block[block.TRAP_NUMBER : block.RESULTS] = saved[block.TRAP_NUMBER : block.RESULTS]
            return
        cpu.translator.force(record)

    def run(self, budget: int) -> Exit:
        """Run both, and compare."""
        stops = [cpu.run(budget) for cpu in self.both()]
        what = f"seed {self.seed}, budget {budget}, {stops}"
        assert stops[0] == stops[1], what
        counts = self.plain.executed, self.other.executed
        assert counts[0] == counts[1], f"{what}: {counts}"
        if self.plain._delay:  # others don't keep it
            nexts = self.plain.next_pc, self.other.next_pc
            assert nexts[0] == nexts[1], f"{what}: next pc {nexts}"
        if registers_of(self.plain) != registers_of(self.other):
            names = [n for n in self.plain.names() if self.plain.get(n) != self.other.get(n)]
            values = [(n, hex(self.plain.get(n)), hex(self.other.get(n))) for n in names]
            raise AssertionError(f"{what}: (register, interpreter, translator) {values}")
        return stops[0]

    def compare_memory(self) -> None:
        for start, size in ((CODE, SIZE), (DATA, SIZE + PAGE)):
            one, two = (self.peek(cpu, start, size) for cpu in self.both())
            assert one == two, f"seed {self.seed}: memory at {start:#x} differs"

    @staticmethod
    def peek(cpu: Cpu, start: int, size: int) -> bytes:
        return b"".join(
            bytes(region.ram.memory[region.offset : region.offset + region.size])
            for region in cpu.memory._cut(start, start + size)
            if region.ram is not None
        )


def run_one(sequences: Sequences, seed: int) -> Counter[str]:
    """One program; what its runs ended with, and how many regions there were."""
    choose = random.Random(seed)
    start = sequences.start(choose)
    if choose.random() < 0.5:  # pointers near the ends of pages
        for entries in start.files.values():
            for index in range(1, len(entries)):
                if choose.random() < 0.3:
                    entries[index] = DATA + choose.choice((0, PAGE, SIZE, SIZE + PAGE)) - choose.randrange(17)
    if choose.random() < 0.5:
        for entries in start.files.values():
            for index in range(1, len(entries)):
                if choose.random() < 0.5:
                    entries[index] = corner(choose)
    pair = Pair(sequences, start, seed, system=choose.random() < 0.2)
    ends: Counter[str] = Counter()
    starts = [CODE + 4 * choose.randrange(8) for _ in range(3)] + [CODE] * 3
    for _ in range(24):
        if choose.random() < 0.6:
            pair.translate_here()
        stop = pair.run(choose.choice((1, 2, 3, 5, 10, 17, 40, 100, 1000)))
        ends[stop.reason.name] += 1
        if stop.reason is Reason.WAITING:
            for cpu in pair.both():
                cpu.set("waiting", 0)
        elif stop.reason is not Reason.BUDGET or choose.random() < 0.1:
            pc = choose.choice([*starts, stop.pc + sequences.package.unit, stop.pc + 4])
            for cpu in pair.both():
                cpu.pc = pc
        disturb(pair, sequences, choose)
    pair.compare_memory()
    assert pair.other.translator is not None
    ends["regions"] = pair.other.translator.statistics.regions
    return ends


def disturb(pair: Pair, sequences: Sequences, choose: random.Random) -> None:
    """What a host may do between runs."""
    kind = choose.random()
    if kind < 0.03:
        where = CODE + 4 * choose.randrange(40)
        data = sample(choose.choice(sequences.forms), sequences.target, choose)
        for cpu in pair.both():
            cpu.memory.write(where, data)
    elif kind < 0.05:
        start = choose.choice((CODE, DATA, DATA + PAGE))
        permissions = choose.choice((7, 3, 5, 1))
        for cpu in pair.both():
            cpu.memory.protect(start, PAGE, permissions)
    elif kind < 0.07:
        breakpoints = [CODE + 4 * choose.randrange(20) for _ in range(2)] if choose.random() < 0.5 else []
        for cpu in pair.both():
            cpu.breakpoints = breakpoints
    elif kind < 0.2:
        names = [name for name in pair.plain.names() if name not in ("pc", FEATURES) and "[" in name]
        for _ in range(3 if names else 0):
            name, value = choose.choice(names), DATA + choose.randrange(SIZE + PAGE)
            for cpu in pair.both():
                cpu.set(name, value)


def sequences_for(name: str, pattern: str = "") -> Sequences:
    """Random programs for a built target, of the instructions whose names match."""
    from generator.load import load_target as load_model
    from isagen.targets import all_targets

    target = load_model(paths.spec_root(), all_targets()[name], name)
    return Sequences(
        target, load_target(folder_of(name)), lambda form: re.search(pattern, form.name) is not None
    )


def main() -> None:
    sequences = sequences_for(sys.argv[1], *sys.argv[4:])
    first, count = int(sys.argv[2]), int(sys.argv[3])
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        print(f"from {seed}", file=sys.stderr, flush=True)  # where it was, if the process dies
        ends += run_one(sequences, seed)
    print(count, dict(ends))


if __name__ == "__main__":
    main()
