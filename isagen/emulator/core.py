"""`Emulator`: a CPU with memory, to be driven from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from isagen.emulator.errors import EmulatorError
from isagen.emulator.events import RunResult
from isagen.emulator.hooking import Hooking
from isagen.emulator.snapshots import Memories, Snapshot, put_back, take


class Emulator(Hooking):
    """A CPU of a built target, and its memory.

        emu = Emulator("riscv64")
        emu.map(0x1000, 0x1000)
        emu.write(0x1000, emu.assemble("addi a0, a0, 5", 0x1000))
        emu.a0 = 2
        emu.run(begin=0x1000, count=1)
        assert emu.a0 == 7

    Registers are attributes (``emu.a0``, ``emu.pc``) and items of `registers`; values are unsigned integers,
    what is written is cut to the register's width. Addresses are what the CPU's are: they wrap at its width.

    `features`: names of the optional parts that are on, or an ISA string such as ``rv64gc_zba`` (the target's
    usual ones if None). `system`: the CPU has its privileged modes, translates addresses and delivers traps
    to the guest's own handlers; else it runs as a user program does, and traps end the run.

    Raises IsagenError where the target isn't built. One thread at a time may use it; `stop` may be called
    from any.
    """

    def __init__(
        self, target: str, *, features: Iterable[str] | str | None = None, system: bool = False
    ) -> None:
        super().__init__(target, features=features, system=system)
        self._memories = Memories(self.space)

    @classmethod
    def from_elf(cls, path: str | os.PathLike[str], *, features: Iterable[str] | str | None = None) -> Self:
        """An emulator with an ELF file's segments loaded, for the target that fits it. See `load_elf`."""
        from isagen.generated import is_built
        from runtime.elf import open_elf
        from runtime.linux.abi import for_elf

        wanted = for_elf(open_elf(path)).targets
        emulator = cls(next((name for name in wanted if is_built(name)), wanted[0]), features=features)
        emulator.load_elf(path)
        return emulator

    # --- programs ---------------------------------------------------------------------------------------

    def load_elf(self, path: str | os.PathLike[str], *, bias: int = 0) -> int:
        """Map an ELF file's segments with their permissions (`bias` is added to addresses), take its symbols,
        set `pc` to the entry, and return that. Nothing is relocated, no stack is made: that is `isagen
        run`'s.
        """
        from isagen.emulator.loading import load_elf

        self.cpu.pc = load_elf(self, path, bias)
        return self.cpu.pc

    def load(self, address: int, data: bytes, permissions: str | int = "rwx") -> None:
        """Write `data` to `address`, with pages mapped for it where there are none yet."""
        from isagen.emulator.loading import load_bytes

        load_bytes(self, address, data, permissions)

    def load_assembly(self, text: str, address: int, *, dialect: str = "") -> dict[str, int]:
        """Assemble a source with sections and labels for `address`, load it (see `load`), and return its
        symbols, which `symbols` gains, too. `pc` is set to its entry.
        """
        from isagen.emulator.loading import load_assembly

        return load_assembly(self, text, address, dialect)

    def assemble(self, text: str, address: int = 0, *, dialect: str = "") -> bytes:
        """The machine code of instructions that will lie at `address`. Symbols are known. Nothing is
        written.
        """
        from isagen.emulator.loading import assemble

        return assemble(self, text, address, dialect)

    # --- running ----------------------------------------------------------------------------------------

    def run(
        self,
        begin: int | str | None = None,
        until: int | str | Iterable[int | str] | None = None,
        count: int | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """Execute from `begin` (`pc` if None) on, until `pc` is `until` or one of these (that instruction
        isn't executed), `count` instructions were executed, or `timeout` seconds are over; or until `stop` is
        called. Addresses may be names of symbols.

        Raises what hooks and devices raise, and for what the guest does and no hook answers:
        UnmappedMemory, ProtectedMemory, MisalignedFetch, IllegalInstruction, SystemCallTrap, GuestTrap. The
        state is then that before the instruction at `pc`, and the emulator can be run again.
        """
        from isagen.emulator.running import Run

        if self.is_running:
            raise EmulatorError("it is running already", remedy="run it when the hook has returned")
        if begin is not None:
            self.cpu.pc = self.address_of(begin)
        if until is None:
            until = ()
        elif isinstance(until, int | str):
            until = (until,)
        ends = frozenset(self.address_of(end) & self.highest for end in until)
        run = Run(self, ends, count, timeout)
        self.is_stopping, self.is_running = False, True
        try:
            return run.go()
        finally:
            self.is_running = False

    def step(self, count: int = 1) -> RunResult:
        """Execute `count` instructions."""
        return self.run(count=count)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """In a hook: `run` may be called inside; at the end `pc` is what it was. Registers and memory stay as
        they are then.
        """
        kept, breakpoints = (self.is_running, self.is_stopping), self.cpu.breakpoints
        with self.cpu.nested():
            self.is_running = False
            try:
                yield
            finally:
                self.is_running, self.is_stopping = kept
                if self.cpu.breakpoints != breakpoints:
                    self.cpu.breakpoints = breakpoints

    # --- snapshots --------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The whole state as a value: registers, mappings, memory. Of devices only where they lie: what a
        device object holds is its own.
        """
        return take(self, self._memories)

    def restore(self, snapshot: Snapshot) -> None:
        """Make the state that of `snapshot`; hooks and devices stay. Raises EmulatorError for a snapshot of
        another target.
        """
        put_back(self, self._memories, snapshot)
        self.forget_devices()

    def fork(self) -> Self:
        """Another emulator with the same state, the same hooks (they are told which emulator they are called
        for) and the same device objects; from now on their memories are apart.
        """
        child = type(self)(self.target, features=self.cpu.features, system=self.cpu.system)
        child.symbols.update(self.symbols)
        child.sizes.update(self.sizes)
        child.restore(self.snapshot())
        child.share_devices(self)
        child.hooks.all += self.hooks.all
        child.hooks.publish()
        return child

    @contextmanager
    def checkpoint(self) -> Iterator[Snapshot]:
        """``with emu.checkpoint():`` puts the state back at the end, however the block ends."""
        snapshot = self.snapshot()
        try:
            yield snapshot
        finally:
            self.restore(snapshot)
