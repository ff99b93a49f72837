"""A CPU of a built target: state by name, running, exits. Never imports numba.

    package = load_target(Path("generated/riscv64"))
    cpu = Cpu(package, memory)
    cpu.pc = 0x1000
    stop = cpu.run(1_000_000)

Several CPUs may live in one process; each runs in one thread at a time.
"""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from runtime.cpu import block, symbols, tables
from runtime.cpu.cache import CodeCache
from runtime.cpu.exits import Exit, Reason
from runtime.cpu.package import RegisterInfo, TargetPackage, load_target
from runtime.errors import IsagenError
from runtime.memory.space import AddressSpace

if TYPE_CHECKING:
    from runtime.cpu.translator.translator import Translator

__all__ = ["Cpu", "TargetPackage", "load_target"]

SLICE: Final = 50_000_000
"""Most instructions that run without Python looking after signals."""
MAXIMUM_ANSWERS: Final = 256
FEATURES: Final = "features"
"""The hidden register that decode contexts read the features from; bit n for feature number n."""
ATTENTION_TRANSLATION: Final = 4
COUNTER: Final = "instret"
"""The register that counts instructions: the run loop keeps it."""
MASK64: Final = (1 << 64) - 1
ATTENTION_FORGET: Final = 1
ATTENTION_DECODING: Final = 2
_BUDGET: Final = int(Reason.BUDGET)

_HOOK_FUNCTION: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)

Range = tuple[int, int]
"""First and last address."""


def _address_of(name: str) -> int:
    """The host address of a function of Python's C API."""
    function = getattr(ctypes.pythonapi, name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Cpu:
    """A CPU over `memory`.

    `system`: addresses are translated and traps delivered by the spec's functions; else user mode.
    `features`: names of those that are on (the target's default ones if None). `exit_traps`: system mode:
    names of traps that `run` returns with instead of delivering them.
    """

    def __init__(
        self,
        package: TargetPackage,
        memory: AddressSpace,
        *,
        system: bool = False,
        features: Iterable[str] | None = None,
        exit_traps: Iterable[str] = (),
    ) -> None:
        self.package = package
        self.memory = memory
        size = block.HEADER_SIZE + package.state_size
        self._storage = bytearray(size + 64)
        storage = (ctypes.c_char * (size + 64)).from_buffer(self._storage)
        start = -ctypes.addressof(storage) % 64
        self._keep = storage
        self.address = ctypes.addressof(storage) + start
        self.block = memoryview(self._storage)[start : start + size]
        """The CPU block: header, then registers (`runtime.cpu.block`)."""
        self._words = self.block[: block.HEADER_SIZE].cast("Q")
        """The header's fields."""
        self.state = self.block[block.HEADER_SIZE :]
        """The registers alone; `package.layout_digest` says how they lie."""
        self.cache = CodeCache(package.unit)
        self._run = package.function(symbols.RUN)
        self._drop = package.function(symbols.DROP_CODE)
        self._answers = (ctypes.c_uint64 * MAXIMUM_ANSWERS)()
        self._table_of: dict[int, ctypes.Array[ctypes.c_uint64]] = {}
        self._hook: Callable[[], object] | None = None
        self._hook_function: Any = None
        self._hook_raised: BaseException | None = None
        self._calling = False
        self._running = False
        self._forgotten: deque[tuple[int, int]] = deque()
        """Host addresses and sizes of what others wrote to while it ran."""
        self._breakpoints: tuple[int, ...] = ()
        self._breakpoint_table: ctypes.Array[ctypes.c_uint64] | None = None
        self._stopped_at: int | None = None
        self.translator: Translator | None = None
        """Translates hot code, where one is attached (`translate`)."""
        self._slice_left = SLICE
        self.unused = 0
        """What the last `run` left of its budget: delivered traps take of it, too."""
        self._names = dict(_places(package.registers.values()))
        self._pc_mask = (1 << package.pc_width) - 1
        self._delay = package.table_field(tables.H_DELAY)
        for offset, value in {
            block.MODE: block.MODE_SYSTEM if system else 0,
            block.ADDRESS_MASK: MASK64 if package.pc_width > 32 else (1 << 32) - 1,
            block.REGIONS: memory.table,
            block.TABLES: package.tables,
            block.CACHE: self.cache.address,
            block.SCRATCH: self.cache.scratch,
            block.MMIO_ANSWERS: ctypes.addressof(self._answers),
        }.items():
            self._set_header(offset, value)
        self.features = package.closed(package.default_features if features is None else features)
        self._set_exit_traps(exit_traps)
        memory.attach(self)
        self.reset()

    # --- state ------------------------------------------------------------------------------------------

    def _header(self, offset: int) -> int:
        return self._words[offset >> 3]

    def _set_header(self, offset: int, value: int) -> None:
        self._words[offset >> 3] = value & MASK64

    def reset(self) -> None:
        """All registers at their reset values."""
        self.state[:] = bytes(len(self.state))
        for register in self.package.registers.values():
            for index in range(register.count or 1):
                if register.reset and index != register.zero:
                    self._set_place(register.offset + index * register.stride, register.width, register.reset)
        self._set_features()
        self.pc = self.package.pc_reset

    @property
    def pc(self) -> int:
        """The address of the next instruction. Setting it ends a delay slot and forgets devices' answers."""
        return self._header(block.PC)

    @pc.setter
    def pc(self, value: int) -> None:
        self._set_header(block.PC, value & self._pc_mask)
        self._set_header(block.NEXT_PC, value + self._delay & self._pc_mask)
        self._set_header(block.MMIO_ANSWERED, 0)

    @property
    def next_pc(self) -> int:
        """Targets with delay slots: the address of the instruction behind that (npc)."""
        return self._header(block.NEXT_PC)

    @next_pc.setter
    def next_pc(self, value: int) -> None:
        self._set_header(block.NEXT_PC, value & self._pc_mask)

    def _place(self, name: str) -> tuple[int, int, bool]:
        try:
            return self._names[name]
        except KeyError:
            what = f"{self.package.name} has no register `{name}`"
            raise IsagenError(what, remedy="see `isagen doc` for the registers' names") from None

    def names(self) -> tuple[str, ...]:
        """A name for every register and entry of a file, zero registers left out."""
        return tuple(
            name
            for register in self.package.registers.values()
            for name in (
                [register.name]
                if register.count is None
                else [f"{register.name}[{n}]" for n in range(register.count) if n != register.zero]
            )
        )

    def has(self, name: str) -> bool:
        """Whether there is a register `name`."""
        return name == "pc" or name in self._names

    def width(self, name: str) -> int:
        """Bits of a register as it is stored. Raises IsagenError for unknown names."""
        return self.package.pc_width if name == "pc" else self._place(name)[1]

    def place(self, name: str) -> int | None:
        """Where a register of at most 64 bits lies in `state`; None for those that lie elsewhere."""
        offset, width, _ = self._place(name)
        return offset if width <= 64 and name != COUNTER else None

    def get(self, name: str) -> int:
        """A register's value, unsigned: ``x5``, ``x[5]``, ``a0``, ``pc``. Of lazy flags: the stored argument.

        Raises IsagenError for unknown names.
        """
        if name == "pc":
            return self.pc
        if name == COUNTER:
            self._place(name)
            return self._header(block.RETIRED)
        offset, width, _ = self._place(name)
        low, high = struct.unpack_from("=QQ", self.state, offset) if width > 64 else (self._load(offset), 0)
        return int(low | high << 64)

    def _load(self, offset: int) -> int:
        value: int = struct.unpack_from("=Q", self.state, offset)[0]
        return value

    def set(self, name: str, value: int) -> None:
        """Change a register; the value is cut to its width. A zero register stays 0."""
        if name == "pc":
            self.pc = value
            return
        if name == COUNTER:
            self._place(name)
            self._set_header(block.RETIRED, value)
            return
        offset, width, zero = self._place(name)
        if not zero:
            self._set_place(offset, width, value)
            if self.system and name not in self.package.registers:
                # Entries of files may be inputs of translation that no space's key has.
                self._set_header(block.ATTENTION, ATTENTION_TRANSLATION)
            elif self._running:
                self.changed()

    def changed(self, *, translations: bool = False) -> None:
        """`state` was written to directly: what depends on registers has to be looked at; `translations`: all
        of them.
        """
        bits = ATTENTION_DECODING | (ATTENTION_FORGET if translations else 0)
        self._set_header(block.ATTENTION, self._header(block.ATTENTION) | bits)

    def _set_place(self, offset: int, width: int, value: int) -> None:
        value &= (1 << width) - 1
        struct.pack_into("=Q", self.state, offset, value & MASK64)
        if width > 64:
            struct.pack_into("=Q", self.state, offset + 8, value >> 64)

    @property
    def executed(self) -> int:
        """Instructions executed since the CPU was made."""
        return self._header(block.EXECUTED)

    @property
    def system(self) -> bool:
        """Whether the CPU is in system mode."""
        return bool(self._header(block.MODE) & block.MODE_SYSTEM)

    def _set_features(self) -> None:
        bits = 0
        for name in self.features:
            if name not in self.package.features:
                known = ", ".join(self.package.features)
                raise IsagenError(f"{self.package.name} has no feature `{name}`", remedy=f"take of: {known}")
            bits |= 1 << self.package.features.index(name)
        self.block[block.FEATURES : block.FEATURES + 32] = bits.to_bytes(32, "little")
        if FEATURES in self._names:
            self._set_place(self._names[FEATURES][0], 64, bits)

    def _set_exit_traps(self, names: Iterable[str]) -> None:
        bits = 0
        for name in names:
            if name not in self.package.traps:
                raise IsagenError(f"{self.package.name} has no trap `{name}`")
            bits |= 1 << self.package.traps.index(name)
        self.block[block.EXIT_TRAPS : block.EXIT_TRAPS + 32] = bits.to_bytes(32, "little")

    # --- running ----------------------------------------------------------------------------------------

    def run(self, budget: int) -> Exit:
        """Execute at most `budget` instructions; see `Exit`. Delivered traps count as one each.

        Raises what a hook's function raised, and IsagenError where a hook's function calls this.
        """
        if self._running:
            raise IsagenError("the CPU is running already", remedy="run it when the hook has returned")
        if self._breakpoints:
            self._set_header(block.SKIP_BREAKPOINT, int(self._stopped_at == self.pc))
        self._stopped_at = None
        run = self.package.run_calling if self._calling else self._run
        self._running = True
        try:
            while True:
                if self._forgotten:
                    self._forget_now()
                part = min(budget, self._slice_left)
                self._set_header(block.BUDGET, part)
                reason = run(self.address)
                used = part - self._header(block.BUDGET)
                budget -= used
                self._slice_left -= used
                if self._slice_left <= 0:
                    sampled = self.translator is not None and reason == _BUDGET
                    self._slice_left = self.translator.sample() if self.translator and sampled else SLICE
                if reason != _BUDGET or budget <= 0:
                    return self._exit(Reason(reason))
        finally:
            self.unused = budget
            self._running = False
            if self._hook_raised is not None:
                self._forward()

    def _forward(self) -> NoReturn:
        error, self._hook_raised = self._hook_raised, None
        assert error is not None
        raise error

    def translate(self, *, background: bool = True, program: bytes = b"") -> None:
        """From now on translate hot code; `program`: see `Translator`. Raises IsagenError if the target was
        built without templates.
        """
        from runtime.cpu.translator.translator import FIRST_SLICE, Translator

        self.translator = Translator(self, background=background, program=program)
        if self.parallel:
            self.translator.keep_order()
        self._slice_left = FIRST_SLICE

    @contextmanager
    def nested(self) -> Iterator[None]:
        """In a hook: `run` may be called inside; at the end the program counters are what they were."""
        kept = {place: self._header(place) for place in (block.PC, block.NEXT_PC, block.HOOK_EXPECTED)}
        running, self._running = self._running, False
        try:
            yield
        finally:
            self._running = running
            self.pc = kept[block.PC]
            for place, value in kept.items():
                self._set_header(place, value)

    def close(self) -> None:
        """End what runs beside the CPU: the translator's worker."""
        if self.translator is not None:
            self.translator.close()

    def save_counters(self) -> tuple[int, int]:
        """Instructions as the guest counts them, and all that were executed: for snapshots."""
        return self._header(block.RETIRED), self._header(block.EXECUTED)

    def load_state(self, registers: bytes, pc: int, next_pc: int, counters: tuple[int, int]) -> None:
        """Take over what a CPU of the same layout had (`package.layout_digest`). Raises IsagenError."""
        if len(registers) != len(self.state):
            raise IsagenError(f"registers of {len(registers)} bytes, and the CPU's have {len(self.state)}")
        self.state[:] = registers
        self.pc = pc
        self.next_pc = next_pc
        for place, value in zip((block.RETIRED, block.EXECUTED), counters, strict=True):
            self._set_header(place, value)
        self.flush()

    def step(self) -> Exit:
        """Execute one instruction, or deliver one trap."""
        return self.run(1)

    def _exit(self, reason: Reason) -> Exit:
        pc = self._header(block.PC)
        if reason is Reason.BUDGET:
            return Exit(reason, pc)
        if reason is Reason.TRAP:
            arguments = struct.unpack_from(f"={block.TRAP_ARGUMENT_COUNT}Q", self.block, block.TRAP_ARGUMENTS)
            number = self._header(block.TRAP_NUMBER)
            return Exit(reason, pc, trap=number, code=self._header(block.TRAP_CODE), arguments=arguments)
        if reason is Reason.FAULT:
            address = self._header(block.FAULT_ADDRESS)
            return Exit(
                reason,
                pc,
                address=address,
                access=self._header(block.FAULT_ACCESS),
                size=self._header(block.FAULT_SIZE),
                value=self._header(block.FAULT_VALUE),
            )
        if reason is Reason.MMIO or reason is Reason.WATCH:
            address, size, write, value = struct.unpack_from("=4Q", self.block, block.MMIO_ADDRESS)
            if size > 8:
                value |= self._header(block.MMIO_VALUE_HIGH) << 64
            return Exit(reason, pc, address=address, size=size, write=bool(write), value=value)
        if reason is Reason.BREAKPOINT:
            self._stopped_at = pc
        elif reason is Reason.INTERRUPTED:
            self._set_header(block.STOP, 0)
        return Exit(reason, pc)

    def answer(self, value: int = 0) -> None:
        """Answer the device access that `run` returned with (for writes: it is done); then run again. For
        watched memory: let the access happen.

        `value`: the bytes in memory order as a little-endian number.
        """
        count = self._header(block.MMIO_ANSWERED)
        if count >= MAXIMUM_ANSWERS:
            raise IsagenError("an instruction makes too many device accesses", where=f"pc {self.pc:#x}")
        self._answers[count] = value & MASK64
        self._set_header(block.MMIO_ANSWERED, count + 1)

    @property
    def answered(self) -> bool:
        """Whether an instruction is under way that has been given answers."""
        return self._header(block.MMIO_ANSWERED) != 0

    def retire(self, pc: int) -> None:
        """The caller did an instruction's work (a system call): go on at `pc`; it counts as executed."""
        self.pc = pc
        self._set_header(block.EXECUTED, self._header(block.EXECUTED) + 1)
        self._set_header(block.RETIRED, self._header(block.RETIRED) + 1)

    def interrupt(self) -> None:
        """From another thread: make `run` return soon, with INTERRUPTED."""
        self._set_header(block.STOP, 1)

    # --- code -------------------------------------------------------------------------------------------

    @property
    def breakpoints(self) -> tuple[int, ...]:
        """Addresses at which `run` stops before it executes them; where it stopped it goes on."""
        return self._breakpoints

    @breakpoints.setter
    def breakpoints(self, addresses: Iterable[int]) -> None:
        self._breakpoints = tuple(sorted({address & self._pc_mask for address in addresses}))
        count = len(self._breakpoints)
        self._breakpoint_table = (ctypes.c_uint64 * max(1, count))(*self._breakpoints)
        self._set_header(block.BREAKPOINT_COUNT, count)
        self._set_header(block.BREAKPOINTS, ctypes.addressof(self._breakpoint_table))
        self.flush()

    def _set_table(self, place: int, count: int, rows: Sequence[Sequence[int]]) -> None:
        """Write a table of the CPU block: its address and length to two header fields."""
        words = [word & MASK64 for row in rows for word in row]
        self._table_of[place] = table = (ctypes.c_uint64 * max(1, len(words)))(*words)
        self._set_header(place, ctypes.addressof(table))
        self._set_header(count, len(rows))

    def set_hooks(
        self,
        ranges: Iterable[Range],
        call: Callable[[], object] | None = None,
        *,
        blocks: bool = False,
        often: bool = False,
    ) -> None:
        """Stop in front of each instruction that starts in one of `ranges`, with `Reason.HOOK`; or let `run`
        call `call` there, with exact state, and go on. Instructions elsewhere are as fast as without.

        `call` may change the CPU and its memory, call `interrupt`, and raise: `run` then raises the same. It
        may not run the CPU. `blocks`: only where a basic block begins, that is behind an instruction that may
        jump (taken or not), or in front of the first one after `new_block`. `often`: keep Python's lock while
        the CPU runs, which makes calls several times cheaper, and other threads wait in between.
        """
        merged = merged_ranges(ranges)
        self._set_table(block.HOOKS, block.HOOK_COUNT, merged)
        self._set_header(block.HOOK_BLOCKS, int(blocks))
        self._calling = often and call is not None
        self._hook = call
        function = argument = release = 0
        if call is None:
            self._hook_function = None
        elif often:
            function, argument = _address_of("PyObject_CallNoArgs"), id(call)
            release = _address_of("Py_DecRef")
        else:
            self._hook_function = _HOOK_FUNCTION(self._call_hook)
            function = ctypes.cast(self._hook_function, ctypes.c_void_p).value or 0
        self._set_header(block.HOOK_CALL, function)
        self._set_header(block.HOOK_OBJECT, argument)
        self._set_header(block.HOOK_RELEASE, release)
        self.flush()

    def _call_hook(self, _: int) -> int:
        """What native code calls at hooks that aren't met often."""
        try:
            assert self._hook is not None
            self._hook()
        except BaseException as error:
            self._hook_raised = error
            return 0
        return 1

    def new_block(self) -> None:
        """The next instruction begins a basic block, wherever the one before was."""
        self._set_header(block.HOOK_EXPECTED, MASK64)

    @property
    def hooked_size(self) -> int:
        """At a hook: bytes of the instruction."""
        return self._header(block.HOOK_SIZE)

    @property
    def hooked_block(self) -> int:
        """At a hook: bytes from the instruction to the end of the basic block."""
        return self.package.function(symbols.BLOCK_SIZE)(self.address)

    @property
    def block_begins(self) -> bool:
        """At a hook: whether a basic block begins with the instruction."""
        return bool(self._header(block.HOOK_BEGINS))

    def pass_hooks(self) -> None:
        """Behind `Reason.HOOK`, and to repeat an instruction: `run` doesn't stop for the hook at `pc`."""
        self._set_header(block.HOOK_PASSED, 1)

    def set_watches(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Leave with `Reason.WATCH` in front of accesses to the guest's memory: first and last address, and 1
        for reads, 2 for writes, 3 for both. Pages without any are as fast as without.
        """
        self._set_table(block.WATCHES, block.WATCH_COUNT, [tuple(row) for row in ranges])
        self.flush()

    def set_counters(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Count how often each instruction that starts in a range is executed: first and last address, and
        the host address of a u64 for each `package.unit` bytes. The ranges are sorted and don't overlap.
        """
        self._set_table(block.COUNTERS, block.COUNTER_COUNT, [tuple(row) for row in ranges])
        self.flush()

    def flush(self) -> None:
        """Forget all decoded code and translations."""
        self.package.function(symbols.FLUSH)(self.address)

    def forget_code(self, host: int, size: int) -> None:
        """See `runtime.memory.space.CodeListener`."""
        if self.parallel:
            self._forgotten.append((host, size))
            self.interrupt()
        else:
            self._drop(self.address, host, size)

    @property
    def parallel(self) -> bool:
        """Whether other CPUs over the same memory run at the same time, each in a thread of its own. Set it
        while none of them runs. What the host writes to memory meanwhile they see as other CPUs' stores.
        """
        return bool(self._header(block.MODE) & block.MODE_PARALLEL)

    @parallel.setter
    def parallel(self, on: bool) -> None:
        mode = self._header(block.MODE)
        self._set_header(block.MODE, mode | block.MODE_PARALLEL if on else mode & ~block.MODE_PARALLEL)
        self._forget_now()
        if on and self.translator is not None:
            self.translator.keep_order()

    def _forget_now(self) -> None:
        """Drop the code that other threads wrote to."""
        while self._forgotten:
            self._drop(self.address, *self._forgotten.popleft())


def merged_ranges(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses in sorted ranges with gaps between them. Empty ranges count nothing."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        elif first <= last:
            merged.append((first, last))
    return merged


def _places(registers: Iterable[RegisterInfo]) -> Iterator[tuple[str, tuple[int, int, bool]]]:
    """Every name of every register: offset, stored width, whether it is a zero register."""
    for register in registers:
        if register.count is None:
            yield register.name, (register.offset, register.stored_width, False)
            continue
        for index in range(register.count):
            place = register.offset + index * register.stride, register.stored_width, index == register.zero
            yield f"{register.name}{index}", place
            yield f"{register.name}[{index}]", place
            if index < len(register.names):
                yield register.names[index], place
