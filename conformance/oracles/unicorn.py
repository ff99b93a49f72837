"""Unicorn as a peer: an independent emulator (QEMU's translator) whose faults are listed in
`conformance/data`.
"""

from __future__ import annotations

from typing import Any

from conformance.cases import CaseMaker, Start
from conformance.corners import CODE, CODE_SIZE, DATA, DATA_SIZE, MEMORY_SIZE
from conformance.families.base import Peer
from conformance.memory import code_area
from conformance.oracles.outcome import COMPLETED, Ending
from conformance.oracles.peer import PeerMachine

HELPERS = 0xF0_0000
HELPERS_SIZE = 0x2000
HELPER_DISTANCE = 64


class UnicornMachine(PeerMachine):
    """One Unicorn instance with the cases' memory. Raises ImportError where Unicorn isn't installed."""

    name = "Unicorn"
    known = "unicorn"

    def __init__(self, maker: CaseMaker, peer: Peer) -> None:
        import unicorn

        self._direct = [register for register in peer.registers if not register.write]
        self._copied = [register for register in peer.registers if register.write]
        super().__init__(maker, peer, self._direct + self._copied)
        self._error = unicorn.UcError
        self._invalid = unicorn.UC_ERR_INSN_INVALID
        self.uc: Any = unicorn.Uc(peer.architecture, peer.mode)
        if peer.model is not None:
            self.uc.ctl_set_cpu_model(peer.model)
        self.uc.mem_map(DATA, DATA_SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        self.uc.mem_map(DATA + DATA_SIZE, MEMORY_SIZE - DATA_SIZE, unicorn.UC_PROT_READ)
        self.uc.mem_map(CODE, CODE_SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        if peer.set_up is not None:
            peer.set_up(self.uc)
        self._numbers = [register.number for register in self._direct]
        self._helpers: dict[bytes, int] = {}
        if self._copied:
            self._put_helpers()
        self._fresh = self.uc.context_save()
        self._stop: Ending | None = None
        self._read_only = frozenset((unicorn.UC_MEM_READ_UNMAPPED, unicorn.UC_MEM_READ_PROT))
        self._write = frozenset((unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT))
        self.uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_fault)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._on_interrupt)
        self._start_until = (1 << maker.model.pc_width) - 2

    def _put_helpers(self) -> None:
        """Code that copies registers which the interface doesn't have."""
        import unicorn

        self.uc.mem_map(HELPERS, HELPERS_SIZE, unicorn.UC_PROT_EXEC)
        place = HELPERS
        for register in self._copied:
            for code in (register.write, register.read):
                self.uc.mem_write(place, code)
                self._helpers[code] = place
                place += HELPER_DISTANCE

    def _help(self, code: bytes) -> None:
        step = self.maker.family.step
        place = self._helpers[code]
        self.uc.emu_start(place, self._start_until, count=len(code) // step)

    def _on_fault(self, uc: Any, kind: int, address: int, size: int, value: int, _: object) -> bool:
        if self._stop is None:
            access = 0 if kind in self._read_only else 1 if kind in self._write else 2
            self._stop = Ending("fault", arguments=(address, access))
        return False

    def _on_interrupt(self, uc: Any, number: int, _: object) -> None:
        if self._stop is None:
            rejected = number in self.peer.rejects
            self._stop = Ending("illegal") if rejected else Ending("trap", "", number)
        uc.emu_stop()

    def put_code(self, address: int, code: bytes) -> None:
        self.uc.mem_write(CODE, code_area(address, code))
        self.uc.ctl_remove_cache(CODE, CODE + CODE_SIZE)

    def run(self, start: Start, pattern: bytes) -> tuple[Ending, list[int], int, bytes]:
        uc = self.uc
        before = start.state(self.maker.memory)
        uc.mem_write(DATA, pattern)
        for register in self._copied:
            uc.reg_write(register.number, self.value(register, before))
            self._help(register.write)
        values = [self.value(register, before) for register in self._direct]
        uc.reg_write_batch(list(zip(self._numbers, values, strict=True)))
        self._stop = None
        until = start.pc + len(start.code) if self.peer.behind else self._start_until
        try:
            uc.emu_start(self.peer.entry(start.pc, start.registers), until, count=1)
        except self._error as error:
            if self._stop is None:
                rejected = error.errno == self._invalid
                self._stop = Ending("illegal") if rejected else Ending("other", str(error))
        pc = uc.reg_read(self.peer.pc)
        stop = self._stop or COMPLETED
        if stop.kind == "fault" and stop.arguments[1] == 2 and pc != start.pc:
            stop = COMPLETED  # it jumped, and only then the target could not be fetched
        found = list(uc.reg_read_batch(self._numbers))
        if stop.kind == "completed":
            for register in self._copied:
                self._help(register.read)
                found.append(uc.reg_read(register.number))
        else:
            uc.context_restore(
                self._fresh
            )  # else it takes the next exception for one inside this one's handler
        return stop, found, pc, bytes(uc.mem_read(DATA, MEMORY_SIZE))
