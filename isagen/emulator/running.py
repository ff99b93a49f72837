"""One run of an emulator: slices of native code, and what is done with the engine's exits between them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from isagen.emulator import errors
from isagen.emulator.errors import AccessKind, EmulatorError
from isagen.emulator.events import Fault, MemoryAccess, RunResult, StopReason, Trap
from runtime.cpu.exits import Exit, Reason

if TYPE_CHECKING:
    from isagen.emulator.hooking import Hooking

LARGEST_SLICE: Final = 20_000_000
FIRST_SLICE: Final = 20_000
SLICE_SECONDS: Final = 0.005
"""How exactly a timeout is kept."""
ACCESSES: Final[tuple[AccessKind, ...]] = ("read", "write", "fetch")


class Run:
    """Runs `emulator` until `pc` is one of `until`, for `count` instructions, for `timeout` seconds."""

    def __init__(
        self, emulator: Hooking, until: frozenset[int], count: int | None, timeout: float | None
    ) -> None:
        if count is not None and count < 0:
            raise EmulatorError(f"{count} instructions can't be executed")
        if timeout is not None and timeout < 0:
            raise EmulatorError(f"a timeout of {timeout} seconds is over already")
        self.emulator = emulator
        self.cpu = emulator.cpu
        self.until = until
        self.count = count
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.start = self.cpu.executed
        self.refused: tuple[object, ...] | None = None
        """The fault or trap that a hook answered last: if it comes again unchanged, the answer was none."""

    def result(self, reason: StopReason) -> RunResult:
        return RunResult(reason, self.cpu.pc, self.cpu.executed - self.start)

    def go(self) -> RunResult:
        """See `Emulator.run`."""
        emulator, cpu = self.emulator, self.cpu
        wanted = tuple(sorted(self.until))
        if cpu.breakpoints != wanted:
            cpu.breakpoints = wanted
        cpu.new_block()
        if cpu.pc in self.until:
            return self.result(StopReason.UNTIL)
        size = LARGEST_SLICE if self.deadline is None else FIRST_SLICE
        while True:
            budget = size
            if self.count is not None:
                budget = min(budget, self.count - (cpu.executed - self.start))
                if budget <= 0:
                    return self.result(StopReason.COUNT)
            if self.deadline is not None:
                before = time.monotonic()
                if before >= self.deadline:
                    return self.result(StopReason.TIMEOUT)
                end = cpu.run(budget)
                if end.reason is Reason.BUDGET:
                    spent = time.monotonic() - before
                    size = max(100, min(LARGEST_SLICE, int(size * SLICE_SECONDS / max(spent, 1e-6))))
            else:
                end = cpu.run(budget)
            if end.reason is not Reason.BUDGET:
                finished = self.attend(end)
                if finished is not None:
                    return self.result(finished)
            if emulator.is_stopping:
                return self.result(StopReason.STOPPED)

    def attend(self, end: Exit) -> StopReason | None:
        """Deal with an exit of the engine; why to stop, or None to go on."""
        match end.reason:
            case Reason.BREAKPOINT:
                return StopReason.UNTIL
            case Reason.WATCH:
                self.watch(end)
            case Reason.MMIO:
                self.device(end)
            case Reason.FAULT:
                if end.pc in self.until:  # where nothing is mapped: an address to return to, perhaps
                    return StopReason.UNTIL
                self.fault(end)
            case Reason.TRAP:
                self.trap(end)
            case Reason.WAITING:
                return StopReason.WAITING
        return None

    # --- memory -----------------------------------------------------------------------------------------

    def swapped(self, value: int, size: int) -> int:
        """From bytes in memory order, read as a little-endian number, to the guest's number; and back."""
        if self.emulator.byte_order == "little":
            return value
        return int.from_bytes(value.to_bytes(size, "little"), "big")

    def watch(self, end: Exit) -> None:
        """An access to watched memory."""
        emulator = self.emulator
        if end.write:
            access = MemoryAccess("write", end.address, end.size, self.swapped(end.value, end.size), end.pc)
        else:
            try:
                value = emulator.read_int(end.address, end.size)
            except errors.UnmappedMemory:  # a device, or it wraps around
                value = 0
            access = MemoryAccess("read", end.address, end.size, value, end.pc)
        last = end.address + end.size - 1
        for hook in emulator.hooks.of("memory"):
            if access.kind in hook.accesses and hook.first <= last and end.address <= hook.last:
                hook.function(emulator, access)
                if self.cpu.pc != end.pc:
                    return
        if not emulator.is_stopping:
            self.cpu.answer()
        elif emulator.is_finishing:
            self.complete()

    def complete(self) -> None:
        """Let the rest of an instruction happen whose access was reported."""
        self.emulator.is_finishing = False
        end = Exit(Reason.WATCH, self.cpu.pc)
        while end.reason in (Reason.WATCH, Reason.MMIO, Reason.INTERRUPTED):
            if end.reason is Reason.MMIO:
                self.device(end)
            elif end.reason is Reason.WATCH:
                self.cpu.answer()
            end = self.cpu.run(1)

    def device(self, end: Exit) -> None:
        """An access to a device."""
        start, device = self.emulator.device_at(end.address)
        offset = end.address - start
        if end.write:
            device.write(offset, end.size, self.swapped(end.value, end.size))
            value = 0
        else:
            value = device.read(offset, end.size) & (1 << 8 * end.size) - 1
            value = self.swapped(value, end.size)
        if self.cpu.pc == end.pc:
            self.cpu.answer(value)

    def fault(self, end: Exit) -> None:
        """An access that isn't possible."""
        emulator, cpu = self.emulator, self.cpu
        kind = ACCESSES[end.access]
        mapped = emulator.space.find(end.address) is not None
        value = self.swapped(end.value, end.size) if 0 < end.size <= 8 else 0
        fault = Fault(kind, end.address, mapped, end.pc, end.size, value)
        same = (end.pc, end.address, kind, cpu.executed, bytes(cpu.state), list(emulator.space))
        if same != self.refused:
            for hook in emulator.hooks.of("fault"):
                if not hook.covers(end.address) or hook.mapped not in (None, mapped):
                    continue
                if hook.function(emulator, fault):
                    if cpu.pc == end.pc:
                        self.refused = same
                        cpu.pass_hooks()
                    return
                if emulator.is_stopping:
                    return
        if kind == "fetch" and end.address % cpu.package.unit:
            raise errors.MisalignedFetch(end.address, kind, end.pc)
        raise (errors.ProtectedMemory if mapped else errors.UnmappedMemory)(end.address, kind, end.pc)

    # --- traps ------------------------------------------------------------------------------------------

    def trap(self, end: Exit) -> None:
        """An exception of the architecture."""
        emulator, cpu = self.emulator, self.cpu
        name = cpu.package.traps[end.trap]
        if emulator.hooks.any_on_code and emulator.is_undecodable(end.pc):
            size = emulator.undecodable_size(end.pc)
            if not emulator.hooks.report_undecodable(end.pc, size):
                return
        call = emulator.calls.call_at(end) if emulator.has_calls else None
        if call is not None:
            for hook in emulator.hooks.of("syscall"):
                if hook.selects(call.name, call.number):
                    result = hook.function(emulator, call)
                    if cpu.pc == end.pc:
                        emulator.calls.finish(end, None if result is None else int(result))
                    cpu.new_block()
                    return
        trap = Trap(name, end.code, end.arguments, end.pc)
        same = (trap, cpu.executed, bytes(cpu.state))
        for hook in emulator.hooks.of("trap") if same != self.refused else ():
            if hook.selects(name, end.code):
                if hook.function(emulator, trap):
                    again, emulator.is_retrying = emulator.is_retrying, False
                    self.refused = same if again else None
                    if cpu.pc == end.pc and not again:
                        emulator.skip_instruction()
                    cpu.new_block()
                    return
                if emulator.is_stopping:
                    return
        if emulator.is_illegal(trap):
            raise errors.IllegalInstruction(name, end.code, end.arguments, end.pc)
        kind = errors.GuestTrap if call is None else errors.SystemCallTrap
        raise kind(name, end.code, end.arguments, end.pc)
