"""The shape of a family's description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from conformance.corners import DATA
from generator.ir.decode import Decoded
from generator.model.target import Target

ByteOrder = Literal["little", "big"]
Files = dict[str, list[int]]
Registers = dict[str, int]


@dataclass(frozen=True)
class Part:
    """`width` bits of our register, or of entry `index` of a file, from bit `start` on; in the peer's
    register from bit `low` on.
    """

    name: str
    index: int | None
    low: int
    width: int
    start: int = 0


@dataclass(frozen=True)
class PeerRegister:
    """A register of the peer and the registers of ours that make it up.

    Bits of the peer's register that no part covers are written as `fixed` says and not compared. A register
    that the peer's interface doesn't have is copied to and from register `number` by the instructions `write`
    and `read`.
    """

    number: int
    parts: tuple[Part, ...]
    fixed: int = 0
    write: bytes = b""
    read: bytes = b""


def same_address(pc: int, registers: Registers) -> int:
    """A peer that starts where we do."""
    return pc


def every_bit(registers: Registers) -> int:
    """A peer whose pc is compared as a whole."""
    return -1


@dataclass(frozen=True)
class Peer:
    """Unicorn or the host as a family's CPU: architecture and mode numbers, model (None: the default) and
    registers.

    `when` are the values of our mode registers that it is for; `rejects` are the numbers of its interrupt
    hook that mean "no such instruction"; `illegal` are our traps that mean so. `numbers` are its interrupts'
    numbers for our traps, where they aren't the traps' codes. `set_up` is called once on a new instance.
    `entry` makes the address at which the peer starts from ours and our registers. `behind`: it has to be
    told to stop behind the instruction, since counting doesn't always stop it. `pc_mask`: the bits of pc to
    compare in the state afterwards. Addresses wrap at `address_bits` in the peer: cases beyond are not
    compared. `missing`: features that the peer doesn't have.
    `code_bits`: the low bits of a trap's code that are the interrupt's number.
    """

    architecture: int
    mode: int
    pc: int
    registers: tuple[PeerRegister, ...]
    model: int | None = None
    rejects: tuple[int, ...] = ()
    illegal: tuple[str, ...] = ("illegal",)
    numbers: Mapping[str, int] = field(default_factory=dict)
    set_up: Callable[[Any], None] | None = None
    when: tuple[tuple[str, int], ...] = ()
    entry: Callable[[int, Registers], int] = same_address
    behind: bool = False
    pc_mask: Callable[[Registers], int] = every_bit
    address_bits: int = 64
    missing: frozenset[str] = frozenset()
    code_bits: int = 64


def files_of(constants: object, prefix: str, name: str, indices: range, width: int) -> list[PeerRegister]:
    """A file's entries that the peer numbers ``prefix0``, ``prefix1``, ..."""
    return [PeerRegister(getattr(constants, f"{prefix}{i}"), (Part(name, i, 0, width),)) for i in indices]


def no_modes(model: Target, random: Random) -> Registers:
    """A family with one mode."""
    return {}


def predictable(decoded: Decoded) -> bool:
    """A family without unpredictable encodings."""
    return False


def settled(registers: Registers, files: Files, memory: bytes, random: Random) -> None:
    """A family whose registers are independent."""


def reserve(
    registers: Registers, pointers: list[int], memory: bytes, order: ByteOrder, random: Random
) -> None:
    """Make the reservation of a load-reserved one that a store-conditional may find: mostly on an address
    that a register holds, often with the value that is there.
    """
    registers["reserved"] = int(random.random() < 0.7)
    if random.random() < 0.8:
        registers["reservation"] = random.choice(pointers)
    place = registers["reservation"] - DATA
    if 0 <= place < len(memory) and random.random() < 0.7:
        size = random.choice((1, 2, 4, 8))
        registers["reserved_value"] = int.from_bytes(memory[place : place + size], order)


@dataclass(frozen=True)
class Family:
    """How start states of a family are made.

    `fixed`: single registers' values in ordinary cases. `system`: names that programs don't see; they are
    random in `wild` of the cases, where only our own machines are compared. `never`: registers kept by the
    engine. `modes`: registers that decoding depends on, drawn for each encoding. `settle` makes registers fit
    together, and with the data area's contents. `contexts`: decode contexts that follow from registers alone;
    assemblers and disassemblers are told their values. `unpredictable`: encodings whose effect the
    architecture leaves open: not compared with peers. `step`: the usual length of an instruction. `peers` are
    what Unicorn can be, `hosts` what the host's processor can (`conformance.oracles.native`), given
    the features that the target knows.
    """

    fixed: Mapping[str, int] = field(default_factory=dict)
    system: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    float_files: frozenset[str] = frozenset()
    wild: float = 0.0
    step: int = 4
    contexts: tuple[str, ...] = ()
    modes: Callable[[Target, Random], Registers] = no_modes
    settle: Callable[[Registers, Files, bytes, Random], None] = settled
    unpredictable: Callable[[Decoded], bool] = predictable
    peers: Callable[[], Sequence[Peer]] | None = None
    hosts: Callable[[Sequence[str]], Sequence[Peer]] | None = None

    def is_user(self, name: str) -> bool:
        """Whether a register is drawn at random in ordinary cases."""
        return name not in self.system and name not in self.never and name not in self.fixed

    def next_pc(self, pc: int, random: Random) -> int:
        """Where delay slots exist: the address behind the instruction's, now and then a jump's target."""
        return pc + self.step if random.random() < 0.8 else pc + 0x40
