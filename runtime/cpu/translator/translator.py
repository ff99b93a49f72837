"""Finds hot code of a CPU, has it compiled, and puts regions in place.

Hot code is found by sampling: `Cpu.run` cuts its budget into slices, and where a slice ends is a sample.
Nothing is counted while code runs. A region takes effect when its head's record gets the operation
`OP_REGION`; it ends with that record, when its page is dropped or everything is flushed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import struct
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from runtime.cpu import block, cache, image, symbols
from runtime.cpu.package import TEMPLATES
from runtime.cpu.translator.hints import MAXIMUM, Hint, decoded, encoded
from runtime.cpu.translator.region import Former, Region, parsed
from runtime.cpu.translator.store import Store, default_folder
from runtime.cpu.translator.template import Templates, load_templates

if TYPE_CHECKING:
    from runtime.cpu.package import Code, TargetPackage
    from runtime.cpu.translator.text import Target
    from runtime.cpu.translator.worker import Compile, Worker

FIRST_SLICE: Final = 50_000
"""Instructions between samples while hot code is being looked for."""
COLD_SLICE: Final = 800_000
"""The same when nothing hot shows up: to look for it has its price."""
WAITING_SLICE: Final = 200_000
"""The same while the code that runs is being compiled."""
PAUSE: Final = 0.002
"""Seconds that the CPU then waits for the compiler between such slices. The interpreter would get on a little
meanwhile, at several times the processor time. Not in system mode, where devices' time goes on.
"""
LAST_SLICE: Final = 4_000_000
"""The same when all that is hot has been translated."""
BUCKET: Final = 9
"""Samples are counted by pieces of 2**9 bytes of records, about 40 instructions."""
HOT: Final = (4_000_000, 6_000_000)
"""Instructions, by samples, after which a piece is looked at closely; then after twice as many, and so on. In
user mode, and in system mode.
"""
COST: Final = (50_000, 400_000)
"""How many of a region's instructions have to have been executed for each that it has, so that compiling it
is worth while: what ran that long will go on, more often than not. Compiling one takes as long as
interpreting some 400,000. A system's profile is flatter than a program's.
"""
IDLE_COST: Final = (COST[0], 50_000)
"""The same while the compiler has nothing to do, and a processor of its own.
"""
TRIES: Final = (1, 2, 4, 16)
"""At which of the samples that ask for a region of the last time it is looked for."""
BURST: Final = 200
BURST_SLICES: Final = (53, 71, 97, 61, 83, 47, 67)
"""When a piece is hot, so many samples are taken so many instructions apart, to see what belongs to it."""
SHARE: Final = BURST // 50
"""Of these samples, what a region has to have met, that others beside the hottest one are translated, too."""
MOST: Final = 3
"""Regions that come of one look."""
MOST_CODE: Final = 64 << 20
"""Bytes of code that regions may take; then all are forgotten."""
MOST_SHOWN: Final = 1000
"""Regions that are remembered to be looked at."""
PAGE: Final = 4096
FAILURES: Final = 3
"""Workers that may die before the translator gives up."""


class Statistics:
    """What the translator did."""

    def __init__(self) -> None:
        self.regions = 0
        self.instructions = 0
        """Guest instructions in regions."""
        self.code_bytes = 0
        self.region_seconds = 0.0
        self.interpreter_seconds = 0.0
        """Processor time between samples, by where the later one fell; system calls included."""
        self.compile_seconds = 0.0
        self.form_seconds = 0.0
        self.samples = 0
        self.samples_in_regions = 0
        self.samples_waiting = 0
        """Samples in code that was being compiled."""
        self.failed = 0
        """Regions that could not be compiled."""
        self.refused = 0
        """Regions that could not be put in place: their code had changed."""


class _Pending:
    """A region that isn't compiled yet."""

    def __init__(self, region: Region, description: str, name: str, flushes: int) -> None:
        self.region = region
        self.description = description
        self.name = name
        self.flushes = flushes
        self.wanted = True


class Translated(Protocol):
    """What the translator has of its CPU (`runtime.cpu.engine.Cpu`)."""

    address: int
    block: memoryview
    cache: cache.CodeCache
    package: TargetPackage

    @property
    def system(self) -> bool: ...

    def flush(self) -> None: ...


class CodeView:
    """The decoded code of a CPU, for `runtime.cpu.translator.region`."""

    def __init__(self, cpu: Translated) -> None:
        self._cache = cpu.cache
        self.base = cpu.cache.base
        self.memory = cpu.cache.memory
        self.across = not cpu.system
        self.heads: dict[int, int] = {}
        """Operations of the records that became regions' heads."""

    def op_of(self, record: int) -> int:
        op = int(struct.unpack_from("=H", self.memory, record - self.base)[0])
        return self.heads.get(record, block.OP_STALE) if op == block.OP_REGION else op

    def pc_of(self, record: int) -> int:
        place = record - self.base
        page, offset = struct.unpack_from("=IH", self.memory, place + block.META_DISTANCE)
        entry = self._cache.pages + (page & cache.META_PAGE_MASK) * cache.PAGE_ENTRY_SIZE
        guest = int(struct.unpack_from("=Q", self.memory, entry + cache.PAGE_GUEST)[0])
        return guest + int(offset)


def compiler_for(
    package: TargetPackage, templates: Templates, *, ranges: bool, ordered: bool = False
) -> Compile:
    """What compiles regions of a target; imports LLVM."""
    from runtime.cpu.translator.compiler import Compiler
    from runtime.cpu.translator.text import region_text

    target = target_of(package, templates, ranges=ranges, ordered=ordered)
    compiler = Compiler()

    def compile(description: str, name: str) -> bytes:
        return compiler.compile(region_text(target, parsed(description), name), name)

    return compile


def target_of(package: TargetPackage, templates: Templates, *, ranges: bool, ordered: bool = False) -> Target:
    """What regions' texts depend on beside their descriptions."""
    from runtime.cpu.translator.compiler import has_fused
    from runtime.cpu.translator.text import Target

    zeros = frozenset(
        register.offset + register.zero * register.stride
        for register in package.registers.values()
        if register.zero is not None
    )
    short = frozenset(
        register.offset + number * register.stride
        for register in package.registers.values()
        if register.stored_width <= 32
        for number in range(register.count or 1)
    )
    return Target(templates, zeros, package.sink, short, ranges, has_fused(), ordered)


def loaded_code(code: bytes) -> Code | None:
    """Compiled code, ready to be executed; None if the host can't."""
    if not image.is_image(code):
        from runtime.cpu.objects import LoadedObjects

        return LoadedObjects([code])
    try:
        return image.load_image(code)
    except (image.ImageError, OSError):
        return None


def identity(package: TargetPackage, *, ranges: bool, ordered: bool = False) -> bytes:
    """What compiled regions depend on beside their descriptions: a hash. Doesn't import LLVM."""
    total = hashlib.sha256()
    own = sorted(Path(__file__).parent.glob("*.py"))
    for file in (*own, Path(block.__file__), Path(image.__file__), package.directory / TEMPLATES):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    host = compiler_version(), host_processor()
    total.update(repr((*host, package.layout_digest, ranges, ordered)).encode())
    return total.digest()


def compiler_version() -> tuple[bytes, int, int]:
    """What tells the installed LLVM from others: llvmlite's version, and its library's size and time."""
    spec = find_spec("llvmlite")
    if spec is None or spec.origin is None:
        return b"", 0, 0
    folder = Path(spec.origin).parent
    libraries = [file.stat() for file in sorted((folder / "binding").glob("*llvmlite*"))]
    version = (folder / "_version.py").read_bytes()
    return version, sum(each.st_size for each in libraries), sum(each.st_mtime_ns for each in libraries)


_CHANGES: Final = ("processor", "cpu MHz", "bogomips", "BogoMIPS", "apicid", "initial apicid", "core id")
"""Lines of ``/proc/cpuinfo`` that don't say what the processor can do."""


def host_processor() -> str:
    """What tells this host's processor from others for which LLVM would make other code."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        import llvmlite.binding as llvm

        return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    rows = (line.partition(":") for line in first.splitlines())
    return "\n".join(f"{name.strip()}:{value}" for name, _, value in rows if name.strip() not in _CHANGES)


class Translator:
    """One CPU's translator. `background`: compile in another process, else at once (for tests). `program`:
    what tells the program from others; regions that it had the last time are taken up at once.
    """

    def __init__(self, cpu: Translated, *, background: bool = True, program: bytes = b"") -> None:
        self.cpu = cpu
        self.templates = load_templates(cpu.package.directory)
        self.code = CodeView(cpu)
        self.former = Former(self.templates, self.code, (1 << cpu.package.pc_width) - 1)
        self.statistics = Statistics()
        self.background = background
        self._worker: Worker | None = None
        self._compile: Compile | None = None
        self._failures = 0
        self._flushes = cpu.cache.counter(cache.FLUSHES)
        self._counts: dict[int, int] = {}
        """Instructions executed in each piece, by samples."""
        self._limits: dict[int, int] = {}
        """When a piece is looked at the next time."""
        self._covered: dict[int, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._queue: list[int] = []
        self._number = 0
        self._keep: list[object] = []
        self.installed: list[Region] = []
        """The last regions that were put in place."""
        self.code_size = 0
        """Bytes that their code takes."""
        self._slice = FIRST_SLICE
        self._clock = time.thread_time()
        self._passed = FIRST_SLICE
        """The length of the slice that is being executed."""
        self._burst = 0
        self._seen: dict[int, int] = {}
        self._helpers = self._helper_table()
        self.ranges = not cpu.system
        """Whether regions work with ranges of addresses: in user mode."""
        self.ordered = False
        """Whether other CPUs may run at the same time."""
        if self.ranges:
            struct.pack_into("=Q", cpu.block, block.RANGES, 1)
            cpu.flush()
            self._flushes = cpu.cache.counter(cache.FLUSHES)
        self.hot, self.cost = HOT[cpu.system], COST[cpu.system]
        """See `HOT` and `COST`."""
        self.idle_cost = IDLE_COST[cpu.system] if len(os.sched_getaffinity(0)) > 1 else self.cost
        self.off = False
        folder = default_folder(os.environ) if background else None
        self.store = Store(folder) if folder is not None else None
        self._identity = b""
        self._owner = os.getpid()
        self._program = program
        self._hints: dict[int, Hint] = {}
        """What regions were formed from, by their heads' addresses."""
        self._kept_hints = b""
        self._hinted: dict[int, list[Hint]] = {}
        """Those of the last time, by the addresses that they name; in system mode by pages."""
        self._tries: dict[int, int] = {}
        self._took_all = False
        self._read_hints()

    def _helper_table(self) -> ctypes.Array[ctypes.c_uint64]:
        addresses = [self.cpu.package.symbol_address(name) for name in self.templates.functions]
        table = (ctypes.c_uint64 * max(1, len(addresses)))(*addresses)
        struct.pack_into("=Q", self.cpu.block, block.HELPERS, ctypes.addressof(table))
        return table

    def _own_identity(self) -> bytes:
        if not self._identity:
            self._identity = identity(self.cpu.package, ranges=self.ranges, ordered=self.ordered)
        return self._identity

    # --- hints --------------------------------------------------------------------------------------------

    def _hints_key(self) -> str:
        return hashlib.sha256(self._own_identity() + b"hints" + self._program).hexdigest()

    def _read_hints(self) -> None:
        """What regions the program had the last time."""
        if self.store is None or not self._program:
            return
        self._kept_hints = self.store.get(self._hints_key())
        for hint in decoded(self._kept_hints):
            places = (hint.head, *hint.seen) if self.ranges else (hint.head & -PAGE,)
            for place in places:
                self._hinted.setdefault(place, []).append(hint)

    def _take_hints(self, record: int) -> bool:
        """Put in place the regions that an instruction belonged to the last time, if they are kept: whether
        there was one. Where code that they hold wasn't executed yet they are others; then later.
        """
        found = False
        pc = self.code.pc_of(record)
        for hint in self._hinted.get(pc if self.ranges else pc & -PAGE, ()):
            if not (self.ranges or self._in_one_page(pc, hint)):
                continue
            tries = self._tries[hint.head] = self._tries.get(hint.head, 0) + 1
            if tries in TRIES:
                found |= self._take_hint(hint)
        return found

    def _take_hint(self, hint: Hint) -> bool:
        """Put in place a region of the last time, if it is kept: whether it was."""
        head, *seen = (self._record_at(pc) for pc in (hint.head, *hint.seen))
        if not head or head in self._covered:
            return False
        dynamic = {pc: there for pc in hint.dynamic if (there := self._record_at(pc))}
        return self._translate(head, {there for there in seen if there}, dynamic, kept=True)

    def _take_all_hints(self) -> bool:
        """Before anything is compiled that wasn't the last time: put all of that in place, in the order in
        which it was found then. Regions overlap, and what is sampled next depends on those there are. Only in
        user mode: there addresses mean the same all the time. Whether there was a region.
        """
        if self._took_all or not self.ranges:
            return False
        self._took_all = True
        return sum(self._take_hint(hint) for hint in decoded(self._kept_hints)) > 0

    @staticmethod
    def _in_one_page(pc: int, hint: Hint) -> bool:
        """System mode: whether the page that is being executed holds all that a hint names. Other addresses
        may mean anything now.
        """
        return all((pc ^ other) < PAGE for other in (hint.head, *hint.seen, *hint.dynamic))

    def _record_at(self, pc: int) -> int:
        """The record of the instruction at an address, decoded if it wasn't; 0 if there is none."""
        return self.cpu.package.function(symbols.DECODE)(self.cpu.address, pc)

    def _keep_hints(self) -> None:
        """For the next time. Forks of the process that began leave it to that."""
        if self.store is None or not self._program or os.getpid() != self._owner:
            return
        old = [hint for hint in decoded(self._kept_hints) if hint.head not in self._hints]
        data = encoded([*self._hints.values(), *old])
        if self._hints and data != self._kept_hints:
            self.store.put(self._hints_key(), data)

    def keep_order(self) -> None:
        """From now on other CPUs over the same memory may run at the same time."""
        if self.ordered:
            return
        self._keep_hints()
        self.ordered = True
        self._identity = b""
        self._hints.clear()
        self._hinted.clear()
        self._compile = None
        if self._worker is not None:
            self._lost(None)
        self.cpu.flush()
        self._notice_flushes()
        self._read_hints()

    # --- sampling -----------------------------------------------------------------------------------------

    def sample(self) -> int:
        """The CPU stopped at the end of a slice. Returns the next slice's length, in instructions."""
        if self.off:
            return LAST_SLICE
        record = int(struct.unpack_from("=Q", self.cpu.block, block.EXIT_RECORD)[0])
        spent = max(time.thread_time() - self._clock, 0.0)  # the thread may be another one
        number = self._covered.get(record)
        if number is None or number in self._pending:
            self.statistics.interpreter_seconds += spent
        else:
            self.statistics.region_seconds += spent
        length = self._sampled(record)
        self._clock = time.thread_time()
        return length

    def _sampled(self, record: int) -> int:
        self._notice_flushes()
        if self._burst:
            return self._look(record)
        self._collect(wait=False)
        if self.code_size > MOST_CODE:  # what is hot now is soon there again
            self.cpu.flush()
            self._notice_flushes()
            record = 0
        self.statistics.samples += 1
        passed = self._passed
        self._passed = slice_ = self._next_slice(record, passed)
        return slice_

    def _next_slice(self, record: int, passed: int) -> int:
        number = self._covered.get(record)
        if number is not None:
            if number in self._pending:
                self.statistics.samples_waiting += 1
                if self.ranges and self._worker is not None and self._worker.mine:
                    self._worker.pause(PAUSE)
                return WAITING_SLICE
            self.statistics.samples_in_regions += 1
            self._slice = min(self._slice * 2, LAST_SLICE)
            return self._slice
        self._slice = min(self._slice * 5 // 4, COLD_SLICE) if self._slice <= COLD_SLICE else FIRST_SLICE
        if not self.code.base <= record < self.code.base + block.META_DISTANCE:
            return self._slice
        if self._hinted and self._take_hints(record):
            return self._slice
        bucket = record >> BUCKET
        count = self._counts.get(bucket, 0) + passed
        self._counts[bucket] = count
        if count >= self._limits.get(bucket, self.hot):
            if self._take_all_hints():
                return self._slice
            self._limits[bucket] = 2 * count
            self._seen.clear()
            self._burst = BURST
            self._slice = FIRST_SLICE
            return self._look(record)
        return self._slice

    def _look(self, record: int) -> int:
        """Many samples behind each other, to see which code is executed now; then translate the hottest."""
        self._seen[record] = self._seen.get(record, 0) + 1
        self._burst -= 1
        if self._burst:
            return BURST_SLICES[self._burst % len(BURST_SLICES)]
        dynamic = self._dynamic_targets()
        for _ in range(MOST):
            cold = {there: count for there, count in self._seen.items() if there not in self._covered}
            hottest = max(cold, key=cold.__getitem__, default=0)
            if sum(cold.values()) < SHARE or not self._translate(hottest, self._seen, dynamic, hot=True):
                break
        self._passed = self._slice
        return self._slice

    def _notice_flushes(self) -> None:
        """Everything may have been forgotten."""
        flushes = self.cpu.cache.counter(cache.FLUSHES)
        if flushes == self._flushes:
            return
        self._flushes = flushes
        self._counts.clear()
        self._limits.clear()
        self._burst = 0
        self._covered.clear()
        self.code.heads.clear()
        for pending in self._pending.values():
            pending.wanted = False
        self._queue.clear()
        # No region's code is on the stack, and nothing leads to it any more.
        self._keep.clear()
        self.code_size = 0

    def finish(self) -> None:
        """Wait for everything that is being compiled."""
        while self._pending and not self.off:
            self._collect(wait=True)

    def force(self, record: int) -> bool:
        """Have the region around a record compiled now, unless one begins there. Whether one does then."""
        self._notice_flushes()
        self._collect(wait=False)
        if record not in self.code.heads or self.code.op_of(record) < block.FIRST_EXECUTOR:
            self.translate(record)
            self.finish()
        return record in self.code.heads

    # --- regions ------------------------------------------------------------------------------------------

    def translate(self, record: int, seen: Collection[int] = ()) -> bool:
        """Have the region around a record compiled: what samples met there (`seen`), or all. Whether there is
        one.
        """
        return self._translate(record, seen, self._dynamic_targets())

    def _translate(
        self,
        record: int,
        seen: Collection[int],
        dynamic: Mapping[int, int],
        *,
        kept: bool = False,
        hot: bool = False,
    ) -> bool:
        """`kept`: only if its code is; `hot`: or if the region was executed often enough."""
        start = time.process_time()
        region = self.former.form(record, dynamic, seen, exact=kept)
        self.statistics.form_seconds += time.process_time() - start
        if region is None:
            return False
        description = region.description()
        key = hashlib.sha256(self._own_identity() + description.encode()).hexdigest()
        code = self.store.get(key) if self.store is not None else b""
        if not code and (kept or (hot and not self._worth(region))):
            return False
        if self._program and len(self._hints) < MAXIMUM:
            nodes = zip(region.pcs, region.records, strict=True)
            met = tuple(dict.fromkeys(pc for pc, (there, _) in nodes if there in seen))
            self._hints[region.pcs[0]] = Hint(region.pcs[0], met, tuple(pc for pc, _ in region.dynamic))
        name = f"region_{key}"
        for there, _ in region.records:
            self._covered.setdefault(there, self._number)
        number = self._number
        self._number += 1
        self._pending[number] = _Pending(region, description, name, self._flushes)
        if code:
            self._install(number, code, 0.0)
            return True
        self._queue.append(number)
        if self.background:
            self._feed()
        else:
            self._compile_here()
        return True

    def _worth(self, region: Region) -> bool:
        """Whether it was executed often enough to be compiled."""
        pieces = {record >> BUCKET for record, _ in region.records}
        cost = self.cost if self._pending else min(self.cost, self.idle_cost)
        return sum(self._counts.get(piece, 0) for piece in pieces) > cost * len(region.nodes)

    def _dynamic_targets(self) -> dict[int, int]:
        """Addresses that computed jumps led to, and their records, where the jump cache has them."""
        address = int(struct.unpack_from("=Q", self.cpu.block, block.JUMP_CACHE)[0])
        known = memoryview(ctypes.string_at(address, 16 * block.JUMP_CACHE_ENTRIES)).cast("Q").tolist()
        start, end = self.cpu.cache.dynamic, self.cpu.cache.dynamic + 8 * cache.DYNAMIC_ENTRIES
        seen = memoryview(self.code.memory[start:end]).cast("Q").tolist()
        rows = zip(known[::2], known[1::2], seen, strict=True)
        return {pc: record for pc, record, target in rows if pc == target and record}

    def _compiler(self) -> Callable[[], Compile]:
        return partial(
            compiler_for, self.cpu.package, self.templates, ranges=self.ranges, ordered=self.ordered
        )

    def _compile_here(self) -> None:
        if self._compile is None:
            self._compile = self._compiler()()
        while self._queue:
            number = self._queue.pop()
            pending = self._pending[number]
            start = time.process_time()
            code = self._compile(pending.description, pending.name)
            self._install(number, code, time.process_time() - start)

    def _feed(self) -> None:
        """Give the worker something to do."""
        from runtime.cpu.translator.worker import Worker, WorkerLost

        try:
            if self._worker is None or not self._worker.mine:
                if self._worker is not None:
                    self._worker.close()
                self._worker = Worker(self._compiler())
            while self._queue and self._worker.waiting < 2:
                number = self._queue.pop(0)
                pending = self._pending[number]
                self._worker.send(number, pending.description, pending.name)
        except (WorkerLost, OSError) as error:
            self._lost(error)

    def _collect(self, *, wait: bool) -> None:
        worker = self._worker
        if worker is None or not self._pending:
            return
        if not worker.mine:
            self._lost(None)
            return
        from runtime.cpu.translator.worker import WorkerLost

        try:
            for answer in worker.answers(wait=wait and worker.waiting > 0):
                self._install(answer.number, answer.code, answer.seconds)
        except WorkerLost as error:
            self._lost(error)
            return
        if self._queue:
            self._feed()

    def _lost(self, error: Exception | None) -> None:
        """The worker is gone: what it had is not translated; the guest goes on in the interpreter."""
        if error is not None:
            import logging

            logging.getLogger(__name__).warning("the translator's worker process was lost: %s", error)
            self._failures += 1
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        self._pending.clear()
        self._queue.clear()
        self._covered = {
            record: number for record, number in self._covered.items() if record in self.code.heads
        }
        self.off = self._failures >= FAILURES

    def _install(self, number: int, code: bytes, seconds: float) -> None:
        """Put a compiled region in place, if the code is still what it was made from."""
        pending = self._pending.pop(number)
        self.statistics.compile_seconds += seconds
        if seconds and self.store is not None and code:
            self.store.put(pending.name.removeprefix("region_"), code)
        if not code:
            self.statistics.failed += 1
        if not code or not pending.wanted or pending.flushes != self._flushes:
            return
        region = pending.region
        memory, base = self.code.memory, self.code.base
        for (record, _), node in zip(region.records, region.nodes, strict=True):
            if self.code.op_of(record) != node.op:
                self.statistics.refused += 1
                for there, _ in region.records:
                    if self._covered.get(there) == number:
                        del self._covered[there]
                return
        loaded = loaded_code(code)
        if loaded is None:
            self.statistics.failed += 1
            return
        self.code_size += loaded.size
        function = loaded.address(pending.name)
        both = bool(self.templates.record_size)
        addresses = [
            word for record, behind in region.records for word in ((record, behind) if both else (record,))
        ]
        records = (ctypes.c_uint64 * len(addresses))(*addresses)
        entries = (ctypes.c_uint64 * (3 * len(region.entries)))()
        self._keep += [loaded, records, entries]
        for position, entry in enumerate(region.entries):
            entries[3 * position] = function
            entries[3 * position + 1] = position
            entries[3 * position + 2] = ctypes.addressof(records)
            record = region.records[entry][0]
            op = struct.unpack_from("=H", memory, record - base)[0]
            if position and op == block.OP_REGION and entry not in region.whole:
                continue  # another region begins there already, and may reach farther
            self.code.heads[record] = region.nodes[entry].op
            where = ctypes.addressof(entries) + position * block.REGION_ENTRY_SIZE
            struct.pack_into("=Q", memory, record - base + block.REGION_DISTANCE, where)
            struct.pack_into("=H", memory, record - base, block.OP_REGION)
        self.installed.append(region)
        del self.installed[:-MOST_SHOWN]
        statistics = self.statistics
        statistics.regions += 1
        statistics.instructions += len(set(region.records))
        statistics.code_bytes += len(code)

    def close(self) -> None:
        """End the worker."""
        self._keep_hints()
        if self._worker is not None:
            with contextlib.suppress(OSError):
                self._worker.close()
            self._worker = None
