"""A hart that is two: what the evaluator does, the built engine must do from the same state."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from runtime.cpu.engine import Cpu, load_target
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import AddressSpace
from tests.isa.riscv.hart import CODE, Hart

MACHINE = 3
SCRATCH = CODE + 0xFF_0000  # where the engine's instructions for `csr` and `translate` lie
OWN = {"instret", "features", "pc", "translations"}
"""Registers that the engine or the platform keeps."""
COUNTERS = {0xB00, 0xB02, 0xB80, 0xB82, 0xC00, 0xC01, 0xC02, 0x320}
CAUSES = {
    "load_access": 5, "store_access": 7, "fetch_access": 1,
    "load_page": 13, "store_page": 15, "fetch_page": 12,
}  # fmt: skip
MPRV, MPP = 1 << 17, 3 << 11
ADDI, LB, SB = 0x00150513, 0x00058503, 0x00A58023  # addi a0, a0, 1; lb a0, 0(a1); sb a0, 0(a1)


class EngineHart(Hart):
    """A `Hart` that repeats on the engine in `folder` what it does, and compares registers, pc and memory."""

    def __init__(self, xlen: int, folder: Path, features: Iterable[str] | None = None) -> None:
        super().__init__(xlen, features)
        self.package = load_target(folder)

    def _places(self) -> list[tuple[str, str, int | None]]:
        """Registers to compare: the engine's name, ours, and the entry's number."""
        found: list[tuple[str, str, int | None]] = []
        for register in self.evaluator.target.registers:
            if register.name in OWN:
                continue
            if register.count is None:
                found.append((register.name, register.name, None))
            else:
                found += [(f"{register.name}[{i}]", register.name, i) for i in range(register.count)]
        return found

    def _value(self, name: str, index: int | None) -> int:
        return self.state.registers[name] if index is None else self.state.files[name][index]

    def _engine(self) -> Cpu:
        """A CPU in our state."""
        memory = AddressSpace()
        for first, end, _ in self.memory.ranges:
            memory.map(first, end - first)
        pages: dict[int, bytearray] = {}
        for address, byte in self.memory.bytes.items():
            page = pages.setdefault(address & -PAGE_SIZE, bytearray(PAGE_SIZE))
            page[address % PAGE_SIZE] = byte
        for address, contents in pages.items():
            memory.write(address, bytes(contents))
        cpu = Cpu(self.package, memory, system=True, features=self.evaluator.features)
        for place, name, index in self._places():
            cpu.set(place, self._value(name, index))
        cpu.set("instret", self._value("instret", None))
        cpu.pc = self.state.pc
        return cpu

    def _compare(self, cpu: Cpu, what: str, *but: str) -> None:
        wrong = [
            f"{place}: {cpu.get(place):#x}, not {self._value(name, index):#x}"
            for place, name, index in self._places()
            if place not in but and cpu.get(place) != self._value(name, index)
        ]
        assert not wrong, f"{what} on the engine: {', '.join(wrong)}"

    def step(self, word: int | None = None) -> tuple[str, int] | None:
        if word is not None:
            self.poke(self.state.pc, word, 4)
        before = dict(self.memory.bytes)
        cpu = self._engine()
        outcome = super().step()
        cpu.run(1)
        self._compare(cpu, f"{outcome}")
        assert cpu.pc == self.state.pc
        for address, byte in self.memory.bytes.items():
            if before.get(address, 0) != byte:
                assert cpu.memory.read(address, 1)[0] == byte, hex(address)
        return outcome

    def csr(self, number: int) -> int:
        value = super().csr(number)
        if number not in COUNTERS:
            cpu = self._engine()
            cpu.set("priv", MACHINE)
            cpu.pc = SCRATCH
            cpu.memory.write(SCRATCH, (number << 20 | 0x2573).to_bytes(4, "little"))  # csrr a0, number
            cpu.run(1)
            assert cpu.get("a0") == value, f"CSR {number:#x}: {cpu.get('a0'):#x} on the engine"
        return value

    def set_csr(self, number: int, value: int) -> None:
        cpu = self._engine()
        super().set_csr(number, value)
        if number not in COUNTERS:
            kept = {name: cpu.get(name) for name in ("a0", "priv", "waiting")}
            cpu.set("waiting", 0)
            cpu.set("priv", MACHINE)
            cpu.set("a0", value)
            cpu.pc = SCRATCH
            cpu.memory.write(SCRATCH, (number << 20 | 0x51073).to_bytes(4, "little"))  # csrw number, a0
            cpu.run(1)
            for name, old in kept.items():
                cpu.set(name, old)
            self._compare(cpu, f"CSR {number:#x} written", "csr_instruction")

    def translate(self, address: int, access: str) -> int | tuple[str, int]:
        """Also loads, stores or executes there, twice: the second time the engine has the translation."""
        result = super().translate(address, access)
        cpu = self._engine()
        priv, mstatus = self["priv"], self["mstatus"]
        if isinstance(result, int):
            physical = result & ~(1 << 63)
            if physical % PAGE_SIZE > PAGE_SIZE - 4 or not CODE <= physical < SCRATCH:
                return result  # nothing there to try it on
            cpu.memory.write(physical, ADDI.to_bytes(4, "little") if access == "fetch" else b"\x5a")
        if access == "fetch":
            start = address
        else:
            start = SCRATCH
            cpu.memory.write(SCRATCH, (LB if access == "read" else SB).to_bytes(4, "little"))
            cpu.set("x11", address)
            if priv != MACHINE:  # machine mode executes it, with this mode's data accesses
                cpu.set("mstatus", mstatus & ~MPP | priv << 11 | MPRV)
            cpu.set("priv", MACHINE)
        cpu.set("x10", 7)
        for _ in range(2):
            cpu.pc = start
            cpu.run(1)
            if not isinstance(result, int):
                got = cpu.get("mcause"), cpu.get("mtval")
                assert got == (CAUSES[result[0]], result[1]), f"{access} {address:#x}: {result}, engine {got}"
                return result
            x10, byte = cpu.get("x10"), cpu.memory.read(physical, 1)[0]
            done = {"read": x10 == 0x5A, "write": byte == 7, "fetch": cpu.pc == address + 4}[access]
            assert done, f"{access} {address:#x} on the engine: cause {cpu.get('mcause')}"
        return result
