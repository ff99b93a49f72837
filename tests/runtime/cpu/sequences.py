"""Random programs of real targets: the engine against the evaluator, at one go and in slices."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from conformance.builtins import BUILTINS
from generator.ir.evaluate import Completed, Evaluator, Faulted, NotAnInstruction, Trapped
from generator.ir.state import SparseMemory, State, reset_state, stored_width
from generator.model.target import Form, Target
from runtime.cpu.engine import Cpu, TargetPackage
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace

CODE, DATA, SIZE = 0x10000, 0x20000, 0x2000
Event = tuple[int, str, int]
FEATURES = "features"
"""Kept by the runtime, not by programs."""


@dataclass
class Start:
    """A program and the registers that it starts with."""

    code: bytes
    registers: dict[str, int]
    files: dict[str, list[int]]


def sample(form: Form, target: Target, choose: random.Random) -> bytes:
    """Bytes that are likely to be of `form`: its fixed bits, random others."""
    group = next(s for s in target.sets if s.name == form.set_name)
    value = width = 0
    for piece in form.picture:
        bits = piece.value if piece.kind == "fixed" else choose.getrandbits(piece.width) if piece.width else 0
        value, width = value << piece.width | bits, width + piece.width
    units = [value >> at & (1 << group.unit) - 1 for at in range(0, width, group.unit)]
    if group.stream:
        units.reverse()
    data = b"".join(
        unit.to_bytes(group.unit // 8, "big" if target.big_endian else "little") for unit in units
    )
    if target.prefixes:
        rows = [row for row in target.prefixes if choose.random() < 0.15]
        prefixes = [row.pattern | choose.getrandbits(8) & ~row.mask & 255 for row in rows]
        choose.shuffle(prefixes)
        data = bytes(prefixes) + bytes(form.mandatory_prefixes) + data
    return data


class Sequences:
    """Random programs for one target. `forms`: those to take instructions from."""

    def __init__(
        self, target: Target, package: TargetPackage, keep: Callable[[Form], bool] = lambda form: True
    ) -> None:
        self.target = target
        self.package = package
        self.forms = [form for form in target.forms if keep(form)]
        self.evaluator = Evaluator(target, BUILTINS)
        self.mask = (1 << target.pc_width) - 1
        # Stepped contexts have a place in the engine's state; the evaluator keeps them apart.
        self.stepped = [c.name for c in target.contexts if c.next is not None and c.name != "npc"]

    def start(self, choose: random.Random) -> Start:
        """A random program; registers often point to its data, and to its code."""

        def value(width: int) -> int:
            kind = choose.random()
            if width >= 32 and kind < 0.5:
                return (DATA + choose.randrange(0, SIZE - 64) // 8 * 8) & (1 << width) - 1
            if width >= 32 and kind < 0.6:
                return (CODE + choose.randrange(0, 256) // 4 * 4) & (1 << width) - 1
            if kind < 0.8:
                return choose.choice((0, 1, (1 << width) - 1, 1 << width - 1))
            return choose.getrandbits(width)

        registers, files = {}, {}
        for register in self.target.registers:
            width = stored_width(register)
            if register.name in ("pc", "npc", *self.stepped):
                continue
            if register.count is None:
                control = register.hidden or width != self.target.pc_width
                keep = register.hidden or (control and choose.random() < 0.7)
                registers[register.name] = register.reset if keep else value(width)
            else:
                entries = [value(width) for _ in range(register.count)]
                if register.zero is not None:
                    entries[register.zero] = 0
                files[register.name] = entries
        code = b"".join(
            sample(choose.choice(self.forms), self.target, choose) for _ in range(choose.choice((8, 60)))
        )
        return Start(code, registers, files)

    def state(self, start: Start) -> State:
        """The evaluator's state at the start."""
        memory = SparseMemory(self.target.pc_width)
        memory.map(CODE, SIZE, "rwx")
        memory.map(DATA, SIZE, "rw")
        memory.poke(CODE, start.code)
        state = reset_state(self.target, memory)
        state.registers.update(start.registers)
        state.files.update({name: list(entries) for name, entries in start.files.items()})
        state.pc = CODE
        return state

    def cpu(self, start: Start, *, system: bool = False) -> Cpu:
        """A CPU at the start."""
        memory = AddressSpace()
        memory.map(CODE, SIZE)
        memory.map(DATA, SIZE, 3)
        memory.write(CODE, start.code)
        cpu = Cpu(self.package, memory, system=system)
        for name, value in start.registers.items():
            if name != FEATURES:
                cpu.set(name, value)
        for name, entries in start.files.items():
            for index, value in enumerate(entries):
                cpu.set(f"{name}[{index}]", value)
        cpu.pc = CODE
        return cpu

    def evaluate(self, start: Start, steps: int) -> tuple[dict[str, object], bytes, list[Event]]:
        state = self.state(start)
        executed = 0
        events: list[Event] = []
        while executed < steps and len(events) < steps:
            match self.evaluator.step(state):
                case Completed():
                    executed += 1
                    continue
                case Trapped(trap=trap, code=code):
                    events.append((executed, trap, code))
                case Faulted(address=address):
                    events.append((executed, "fault", address))
                case NotAnInstruction():
                    events.append((executed, "illegal", 0))
            state.pc = self.next_address(state.pc)
            state.contexts.clear()
        memory = state.memory
        contents = memory.read(CODE, SIZE, "read") + memory.read(DATA, SIZE, "read")
        return self.values(state), contents, events

    def next_address(self, pc: int) -> int:
        """Where both go on after something that stopped them."""
        return (pc + self.package.unit) & self.mask

    def values(self, state: State) -> dict[str, object]:
        found: dict[str, object] = {**state.registers, **state.files, "pc": state.pc}
        for name in ("waiting", FEATURES):
            found.pop(name, None)
        found.update({name: state.contexts.get(name, 0) for name in self.stepped})
        if self.package_delay:
            found["npc"] = state.contexts.get("npc", (state.pc + self.package_delay) & self.mask)
        return found

    def emulate(
        self, start: Start, steps: int, part: Callable[[], int]
    ) -> tuple[dict[str, object], bytes, list[Event]]:
        cpu = self.cpu(start)
        memory = cpu.memory
        events: list[Event] = []
        while cpu.executed < steps and len(events) < steps:
            stop = cpu.run(min(part(), steps - cpu.executed))
            match stop.reason:
                case Reason.BUDGET:
                    continue
                case Reason.WAITING:
                    cpu.set("waiting", 0)
                    continue
                case Reason.TRAP:
                    name = self.package.traps[stop.trap]
                    illegal = name in ("illegal", "undefined_instruction", "invalid_opcode")
                    events.append((cpu.executed, "illegal" if illegal else name, 0 if illegal else stop.code))
                case Reason.FAULT:
                    events.append((cpu.executed, "fault", stop.address))
                case _:
                    raise AssertionError(stop)
            cpu.pc = self.next_address(cpu.pc)
            for name in self.stepped:
                cpu.set(name, 0)
        return self.registers(cpu), memory.read(CODE, SIZE) + memory.read(DATA, SIZE), events

    def registers(self, cpu: Cpu) -> dict[str, object]:
        """What `values` gives, of the engine."""
        found: dict[str, object] = {"pc": cpu.pc}
        found.update({name: cpu.get(name) for name in self.stepped})
        for register in self.target.registers:
            if register.name in self.stepped:
                continue
            if register.count is None:
                found[register.name] = cpu.get(register.name)
            else:
                found[register.name] = [cpu.get(f"{register.name}[{n}]") for n in range(register.count)]
        for name in ("waiting", FEATURES):
            found.pop(name, None)
        if self.package_delay:
            found["npc"] = cpu.next_pc
        return found

    @property
    def package_delay(self) -> int:
        from runtime.cpu import tables

        return self.package.table_field(tables.H_DELAY)

    def check(self, seed: int, steps: int) -> int:
        """Compare one program; how many instructions it executed."""
        choose = random.Random(seed)
        start = self.start(choose)
        expected = self.evaluate(start, steps)
        normal = [
            (n, "illegal" if name in ILLEGAL else name, 0 if name in ILLEGAL else code)
            for n, name, code in expected[2]
        ]
        for part in (lambda: steps, lambda: choose.randint(1, 5)):
            found = self.emulate(start, steps, part)
            where = f"{self.target.name} seed {seed}"
            assert found[2] == normal, f"{where}: {first_difference(found[2], normal)}"
            different = {k: (v, found[0][k]) for k, v in expected[0].items() if v != found[0][k]}
            assert not different, f"{where}: {different}"
            assert found[1] == expected[1], where
        return expected[2][-1][0] if expected[2] else steps


def first_difference(found: list[Event], expected: list[Event]) -> str:
    for number, (a, b) in enumerate(zip(found, expected, strict=False)):
        if a != b:
            return f"event {number} is {a}, not {b}"
    return f"{len(found)} events, not {len(expected)}"


ILLEGAL = ("illegal", "undefined_instruction", "invalid_opcode")
