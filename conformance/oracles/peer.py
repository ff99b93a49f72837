"""What peers have in common: their registers in terms of ours, and how they are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from conformance.cases import CaseMaker, Start
from conformance.families.base import Peer, PeerRegister
from conformance.oracles.outcome import Ending
from generator.ir.state import State


class PeerMachine(ABC):
    """An independent machine that runs cases. `name` is how reports call it, and `known` the list of what it
    lacks or gets wrong (`conformance.known`).
    """

    name = "peer"
    known = ""
    confuses: frozenset[tuple[str, str]] = frozenset()
    """Endings that it doesn't tell apart: (ours, its)."""

    def __init__(self, maker: CaseMaker, peer: Peer, registers: Sequence[PeerRegister]) -> None:
        self.maker = maker
        self.peer = peer
        self.registers = registers
        """In the order in which `run` gives their values."""

    @abstractmethod
    def put_code(self, address: int, code: bytes) -> None:
        """Put an instruction at `address`, zeros behind it."""

    @abstractmethod
    def run(self, start: Start, pattern: bytes) -> tuple[Ending, list[int], int, bytes]:
        """How the instruction ended, the peer's registers, its pc, and the data area's contents."""

    def can_tell(self, start: Start) -> bool:
        """Whether the peer can be put into that state: no system registers, and no delay slot behind a
        jump.
        """
        npc = start.contexts.get("npc")
        return not start.wild and (npc is None or npc == start.pc + self.maker.family.step)

    def reaches(self, ending: Ending) -> bool:
        """Whether the addresses of a case are such as the peer has."""
        return ending.kind != "fault" or ending.arguments[0] >> self.peer.address_bits == 0

    def value(self, register: PeerRegister, state: State) -> int:
        """What the peer's register holds in our state."""
        value = register.fixed
        read = self.maker.evaluator.read
        if len(register.parts) == 1:
            part = register.parts[0]
            if not part.low and not part.start:
                return value | read(state, part.name, part.index, part.width) & ((1 << part.width) - 1)
        for part in register.parts:
            ours = read(state, part.name, part.index, part.start + part.width)
            value |= (ours >> part.start & ((1 << part.width) - 1)) << part.low
        return value

    def differences(
        self, expected: State, found: list[int], pc: int, undefined: list[str], narrow: dict[str, int]
    ) -> dict[str, tuple[int, int]]:
        """Registers that differ: name -> (expected, found); bits of `undefined` registers don't count, and of
        the files in `narrow` only that many low bits.
        """
        result: dict[str, tuple[int, int]] = {}
        for register, value in zip(self.registers, found, strict=False):
            mask = 0
            for part in register.parts:
                if part.name not in undefined:
                    mask |= ((1 << narrow.get(part.name, part.width)) - 1) << part.low
            wanted = self.value(register, expected)
            if (wanted ^ value) & mask:
                name, index = register.parts[0].name, register.parts[0].index
                label = "+".join(dict.fromkeys(part.name for part in register.parts))
                result[label if index is None else f"{name}[{index}]"] = wanted & mask, value & mask
        compared = (1 << self.peer.address_bits) - 1 & self.peer.pc_mask(expected.registers)
        if (pc ^ expected.pc) & compared and "pc" not in undefined:
            result["pc"] = expected.pc, pc
        return result
