"""A CPU in its most privileged mode with memory, for programs without a system: at their link address,
ending by ``tohost``.

Memory is where the program's segments lie, and a window of RAM. The page that holds ``tohost`` is a device,
so that a write to it stops the CPU at once; where code shares that page, the value is looked at every `POLL`
instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from machines.htif import Ended, HostInterface, to_console
from runtime.cpu.engine import Cpu, TargetPackage
from runtime.cpu.exits import Exit, Reason
from runtime.elf import ElfFile
from runtime.elf import constants as c
from runtime.errors import IsagenError
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import AddressError, AddressSpace

RAM_START = 0x8000_0000
RAM_SIZE = 128 << 20
LARGEST_MEMORY = 16 << 30
SLICE = 20_000_000
POLL = 4096
WAITING = "waiting"
SETTLE = 16
"""Instructions after which something that may be passing is looked at again."""
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `code` is the program's, None if the limit ended it; `instructions` were executed."""

    code: int | None
    instructions: int


class BareMachine:
    """One CPU, its memory and the host-target interface."""

    def __init__(
        self,
        package: TargetPackage,
        *,
        ram_start: int = RAM_START,
        ram_size: int = RAM_SIZE,
        features: Iterable[str] | None = None,
        console: Callable[[int, bytes], None] = to_console,
    ) -> None:
        if ram_start % PAGE_SIZE or ram_size % PAGE_SIZE:
            raise IsagenError(
                f"RAM of {ram_size:#x} bytes at {ram_start:#x} isn't made of whole pages of 4096 bytes"
            )
        if ram_size > LARGEST_MEMORY:
            raise IsagenError(
                f"RAM of {ram_size >> 20} MiB", remedy=f"take at most {LARGEST_MEMORY >> 20} MiB"
            )
        self.package = package
        self.memory = AddressSpace()
        if ram_start + ram_size > 1 << package.pc_width:
            raise IsagenError(f"RAM at {ram_start:#x} goes beyond the {package.pc_width}-bit address space")
        self.memory.map(ram_start, ram_size)
        self.cpu = Cpu(package, self.memory, system=True, features=features)
        self.symbols: dict[str, int] = {}
        self.interface = HostInterface(self.memory, "big" if package.big_endian else "little", console)
        self._device: bytearray | None = None
        self._device_start = 0
        self._end: int | None = None
        self._narrow = package.pc_width == 32
        self._settling = False
        self.step: Callable[[int], Exit] = self.cpu.run
        """How to run: `Cpu.run`, or what a tracer puts around it."""

    # --- loading --------------------------------------------------------------------------------------

    def load_elf(self, elf: ElfFile) -> None:
        """Load segments at their physical addresses, and start at the entry point. Raises `IsagenError`."""
        if elf.type not in (c.ET_EXEC, c.ET_DYN):
            raise IsagenError("it isn't an executable", where=elf.name)
        segments = [s for s in elf.segments if s.type == c.PT_LOAD and s.memory_size]
        if not segments:
            raise IsagenError("it has no segment to load", where=elf.name)
        total = 0
        for segment in segments:
            start = segment.physical // PAGE_SIZE * PAGE_SIZE
            end = -(-(segment.physical + segment.memory_size) // PAGE_SIZE) * PAGE_SIZE
            if end > 1 << self.package.pc_width:
                raise IsagenError(f"a segment goes beyond the address space, to {end:#x}", where=elf.name)
            for at in self._gaps(start, end):
                total += at[1] - at[0]
                if total > LARGEST_MEMORY:
                    raise IsagenError(
                        f"its segments need more than {LARGEST_MEMORY >> 20} MiB", where=elf.name
                    )
                self.memory.map(at[0], at[1] - at[0])
            for done in range(0, segment.file_size, CHUNK):
                data = elf.read(segment.offset + done, min(CHUNK, segment.file_size - done), "segment")
                self.memory.write(segment.physical + done, data)
        self.symbols = elf.symbol_values
        self.cpu.pc = elf.entry
        self._watch(elf)

    def load_raw(self, data: bytes, base: int) -> None:
        """Load bytes at `base`, and start there. Raises `IsagenError` where there is no room."""
        start, end = base // PAGE_SIZE * PAGE_SIZE, -(-(base + len(data)) // PAGE_SIZE) * PAGE_SIZE
        if end > 1 << self.package.pc_width or len(data) > LARGEST_MEMORY:
            raise IsagenError(f"the image goes beyond the address space, to {end:#x}")
        for low, high in list(self._gaps(start, end)):
            self.memory.map(low, high - low)
        self.memory.write(base, data)
        self.cpu.pc = base

    def _gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of the range where nothing is mapped."""
        gaps = []
        at = start
        for region in list(self.memory):
            if region.end <= at or region.start >= end:
                continue
            if region.start > at:
                gaps.append((at, region.start))
            at = region.end
        if at < end:
            gaps.append((at, end))
        return gaps

    # --- the interface --------------------------------------------------------------------------------

    def _watch(self, elf: ElfFile) -> None:
        """Make the page of ``tohost`` a device, unless code lies in it."""
        address = self.symbols.get("tohost")
        if address is None:
            return
        page = address // PAGE_SIZE * PAGE_SIZE
        code = [
            (s.address, s.address + s.size)
            for s in elf.sections
            if s.flags & c.SHF_EXECINSTR and s.type != c.SHT_NULL
        ] or [(s.physical, s.physical + s.memory_size) for s in elf.segments if s.flags & c.PF_X]
        if any(low < page + PAGE_SIZE and page < high for low, high in code):
            return
        try:
            self._device = bytearray(self.memory.read(page, PAGE_SIZE))
        except AddressError:
            raise IsagenError(f"tohost ({address:#x}) lies in no segment", where=elf.name) from None
        self._device_start = page
        self.memory.map_device(page, PAGE_SIZE)

    def _access(self, stop: Exit) -> None:
        """Answer an access to the page of ``tohost``."""
        assert self._device is not None
        at = stop.address - self._device_start
        tohost = self.symbols["tohost"]
        if self._settling and not (stop.write and stop.address == tohost + 4):
            self._settle()
        if not stop.write:
            self.cpu.answer(int.from_bytes(self._device[at : at + stop.size], "little"))
            return
        self._device[at : at + stop.size] = stop.value.to_bytes(8, "little")[: stop.size]
        written = range(stop.address, stop.address + stop.size)
        # Two 32-bit writes make a value. The upper one alone says nothing; behind a lower one it may follow.
        if self._narrow and stop.size == 4 and stop.address == tohost:
            self._settling = True
            self._end = self.cpu.executed + 1
        elif self._settling or tohost in written or (tohost + 4 in written and self._word("tohost") >> 32):
            self._end = self.cpu.executed + 1
            self._settle()
        self.cpu.answer()

    def _settle(self) -> None:
        """Act on ``tohost``: nothing more will be written to it."""
        self._settling = False
        self._act()
        self._end = None

    def _place(self, name: str) -> int | None:
        """The offset in the device page of a symbol, if it lies there."""
        address = self.symbols.get(name)
        if address is None or self._device is None:
            return None
        offset = address - self._device_start
        return offset if 0 <= offset <= PAGE_SIZE - 8 else None

    def _word(self, name: str) -> int:
        order = "big" if self.package.big_endian else "little"
        place = self._place(name)
        if place is not None and self._device is not None:
            return int.from_bytes(self._device[place : place + 8], order)  # type: ignore[arg-type]
        return int.from_bytes(self.memory.read(self.symbols[name], 8), order)  # type: ignore[arg-type]

    def _set_word(self, name: str, value: int) -> None:
        data = value.to_bytes(8, "big" if self.package.big_endian else "little")
        place = self._place(name)
        if place is not None and self._device is not None:
            self._device[place : place + 8] = data
        else:
            self.memory.write(self.symbols[name], data)

    def _act(self) -> None:
        value = self._word("tohost")
        answer = self.interface.command(value)
        if value:
            self._set_word("tohost", 0)
        if answer is not None and "fromhost" in self.symbols:
            self._set_word("fromhost", answer)

    # --- running --------------------------------------------------------------------------------------

    @property
    def instructions(self) -> int:
        """Instructions executed so far; a write to ``tohost`` that ended the program is the last of them."""
        return self.cpu.executed if self._end is None else self._end

    def run(self, limit: int | None = None) -> Outcome:
        """Run until the program ends, or `limit` instructions were executed. Raises `IsagenError` where it
        can't go on: it runs where no memory is, or a target without system functions meets a trap."""
        polled = "tohost" in self.symbols and self._device is None
        lost = False
        try:
            while True:
                budget = SETTLE if self._settling or lost else POLL if polled else SLICE
                if limit is not None:
                    budget = min(budget, limit - self.cpu.executed)
                    if budget <= 0:
                        if self._settling:
                            self._settle()
                        return Outcome(None, self.instructions)
                stop = self.step(budget)
                if stop.reason is Reason.MMIO:
                    self._access(stop)
                elif stop.reason in (Reason.BUDGET, Reason.INTERRUPTED):
                    if self._settling:
                        self._settle()
                    elif polled and self._word("tohost"):
                        if self._narrow:  # perhaps between the writes of its two words
                            self._settling = True
                        else:
                            self._act()
                    away = self.memory.find(self._fetch_address(stop.pc)) is None
                    if away and lost:
                        raise self._stuck(stop, "no memory is there to execute")
                    lost = away  # once, it may be on its way to a trap
                elif stop.reason is Reason.WAITING:
                    self.cpu.set(WAITING, 0)  # no device can end the wait: wfi is a hint (volume II, 3.3.3)
                elif stop.reason is Reason.TRAP:
                    raise self._stuck(stop, f"trap {self.package.traps[stop.trap]} (code {stop.code})")
                else:
                    raise self._stuck(stop, f"{stop.reason.name.lower()} at address {stop.address:#x}")
        except Ended as ended:
            return Outcome(ended.code, self.instructions)

    def _fetch_address(self, pc: int) -> int:
        """`pc`, unless paging may be on: then an address that is mapped."""
        try:
            paging = self.cpu.get("satp")
        except IsagenError:
            paging = 0
        return pc if not paging else next(iter(self.memory)).start

    def _stuck(self, stop: Exit, what: str) -> IsagenError:
        return IsagenError(what, where=f"pc {stop.pc:#x} after {self.cpu.executed} instructions")

    # --- signatures -----------------------------------------------------------------------------------

    def signature(self, granularity: int = 4) -> str:
        """Memory from ``begin_signature`` to ``end_signature``, `granularity` bytes a line, in
        hexadecimal.
        """
        try:
            start, end = self.symbols["begin_signature"], self.symbols["end_signature"]
        except KeyError as missing:
            raise IsagenError(f"the program has no symbol {missing.args[0]}") from None
        size = end - start
        if not 0 <= size <= 1 << 28:
            raise IsagenError(f"the signature has {size} bytes")
        size = -(-size // granularity) * granularity
        data = self._bytes(start, size)
        order = "big" if self.package.big_endian else "little"
        lines = [
            f"{int.from_bytes(data[i : i + granularity], order):0{2 * granularity}x}\n"  # type: ignore[arg-type]
            for i in range(0, size, granularity)
        ]
        return "".join(lines)

    def _bytes(self, start: int, size: int) -> bytes:
        """Memory, the device page included."""
        if (
            self._device is None
            or start + size <= self._device_start
            or start >= self._device_start + PAGE_SIZE
        ):
            return self.memory.read(start, size) if size else b""
        parts = []
        at = start
        while at < start + size:
            end = min(start + size, at // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE)
            offset = at - self._device_start
            inside = 0 <= offset < PAGE_SIZE
            parts.append(
                bytes(self._device[offset : offset + end - at]) if inside else self.memory.read(at, end - at)
            )
            at = end
        return b"".join(parts)
