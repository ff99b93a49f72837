"""Finds hot code of a CPU, has it compiled, and puts regions in place.

Hot code is found by sampling: `Cpu.run` cuts its budget into slices, and where a slice ends is a sample.
Nothing is counted while code runs. A region takes effect when its head's record gets the operation
`OP_REGION`; it ends with that record, when its page is dropped or everything is flushed.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.cpu import block, cache, image
from runtime.cpu.package import TEMPLATES
from runtime.cpu.translator.region import Former, Region, parsed
from runtime.cpu.translator.store import Store, default_folder
from runtime.cpu.translator.template import Templates, load_templates
from runtime.cpu.translator.worker import Compile, Worker, WorkerLost

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu
    from runtime.cpu.package import Code, TargetPackage
    from runtime.cpu.translator.text import Target

LOG: Final = logging.getLogger(__name__)

FIRST_SLICE: Final = 50_000
"""Instructions between samples while hot code is being looked for."""
LAST_SLICE: Final = 20_000_000
"""The same when all that is hot has been translated."""
BUCKET: Final = 9
"""Samples are counted by pieces of 2**9 bytes of records, about 40 instructions."""
HOT: Final = 3
"""Samples in a piece that make it hot."""
BURST: Final = 300
BURST_SLICES: Final = (53, 71, 97, 61, 83, 47, 67)
"""When a piece is hot, so many samples are taken so many instructions apart, to see what belongs to it."""
FAILURES: Final = 3
"""Workers that may die before the translator gives up."""


@dataclass(slots=True)
class Statistics:
    """What the translator did."""

    regions: int = 0
    instructions: int = 0
    """Guest instructions in regions."""
    code_bytes: int = 0
    compile_seconds: float = 0.0
    form_seconds: float = 0.0
    samples: int = 0
    samples_in_regions: int = 0
    failed: int = 0
    """Regions that could not be compiled."""
    refused: int = 0
    """Regions that could not be put in place: their code had changed."""


@dataclass(slots=True)
class _Pending:
    region: Region
    description: str
    name: str
    flushes: int
    wanted: bool = True
    code: bytes = b""


@dataclass(slots=True)
class _Installed:
    region: Region
    keep: list[object] = field(default_factory=list)


class CodeView:
    """The decoded code of a CPU, for `runtime.cpu.translator.region`."""

    def __init__(self, cpu: Cpu) -> None:
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


def compiler_for(package: TargetPackage, templates: Templates, *, ranges: bool) -> Compile:
    """What compiles regions of a target; imports LLVM."""
    from runtime.cpu.translator.compiler import Compiler
    from runtime.cpu.translator.text import region_text

    target = target_of(package, templates, ranges=ranges)
    compiler = Compiler()

    def compile(description: str, name: str) -> bytes:
        return compiler.compile(region_text(target, parsed(description), name), name)

    return compile


def target_of(package: TargetPackage, templates: Templates, *, ranges: bool) -> Target:
    """What regions' texts depend on beside their descriptions."""
    from runtime.cpu.translator.compiler import has_fused
    from runtime.cpu.translator.text import Target

    zeros = frozenset(
        register.offset + register.zero * register.stride
        for register in package.registers.values()
        if register.zero is not None
    )
    return Target(templates, zeros, package.sink, ranges, has_fused())


def loaded_code(code: bytes) -> Code | None:
    """Compiled code, ready to be executed; None if the host can't."""
    if not image.is_image(code):
        from runtime.cpu.objects import LoadedObjects

        return LoadedObjects([code])
    try:
        return image.load_image(code)
    except (image.ImageError, OSError):
        return None


def identity(package: TargetPackage, *, ranges: bool) -> bytes:
    """What compiled regions depend on beside their descriptions: a hash. Doesn't import LLVM."""
    total = hashlib.sha256()
    own = sorted(Path(__file__).parent.glob("*.py"))
    for file in (*own, Path(block.__file__), Path(image.__file__), package.directory / TEMPLATES):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    total.update(repr((compiler_version(), host_processor(), package.layout_digest, ranges)).encode())
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
    """One CPU's translator. `background`: compile in another process, else at once (for tests)."""

    def __init__(self, cpu: Cpu, *, background: bool = True) -> None:
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
        self._covered: dict[int, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._queue: list[int] = []
        self._number = 0
        self._keep: list[object] = []
        self.installed: list[Region] = []
        """Regions that were put in place so far."""
        self._slice = FIRST_SLICE
        self._burst = 0
        self._seen: dict[int, int] = {}
        self._helpers = self._helper_table()
        self.ranges = not cpu.system
        """Whether regions work with ranges of addresses: in user mode."""
        if self.ranges:
            struct.pack_into("=Q", cpu.block, block.RANGES, 1)
            cpu.flush()
            self._flushes = cpu.cache.counter(cache.FLUSHES)
        self.off = False
        folder = default_folder(os.environ) if background else None
        self.store = Store(folder) if folder is not None else None
        self._identity = b""

    def _helper_table(self) -> ctypes.Array[ctypes.c_uint64]:
        addresses = [self.cpu.package.symbol_address(name) for name in self.templates.functions]
        table = (ctypes.c_uint64 * max(1, len(addresses)))(*addresses)
        struct.pack_into("=Q", self.cpu.block, block.HELPERS, ctypes.addressof(table))
        return table

    # --- sampling -----------------------------------------------------------------------------------------

    def sample(self) -> int:
        """The CPU stopped at the end of a slice. Returns the next slice's length, in instructions."""
        if self.off:
            return LAST_SLICE
        self._settle()
        record = int(struct.unpack_from("=Q", self.cpu.block, block.EXIT_RECORD)[0])
        if self._burst:
            return self._look(record)
        self.statistics.samples += 1
        if record in self._covered:
            self.statistics.samples_in_regions += 1
            self._slice = min(self._slice * 2, LAST_SLICE)
            return self._slice
        self._slice = max(FIRST_SLICE, self._slice // 4)
        if not self.code.base <= record < self.code.base + block.META_DISTANCE:
            return self._slice
        bucket = record >> BUCKET
        count = self._counts.get(bucket, 0) + 1
        self._counts[bucket] = count
        if count >= HOT:
            self._counts[bucket] = 0
            self._seen.clear()
            self._burst = BURST
            return self._look(record)
        return self._slice

    def _look(self, record: int) -> int:
        """Many samples behind each other, to see which code is executed now; then translate the hottest."""
        self._seen[record] = self._seen.get(record, 0) + 1
        self._burst -= 1
        if self._burst:
            return BURST_SLICES[self._burst % len(BURST_SLICES)]
        cold = {there: count for there, count in self._seen.items() if there not in self._covered}
        if cold:
            self.translate(max(cold, key=cold.__getitem__), self._seen)
        return self._slice

    def _settle(self) -> None:
        """Take up what was compiled, and notice that everything was flushed."""
        flushes = self.cpu.cache.counter(cache.FLUSHES)
        if flushes != self._flushes:
            self._flushes = flushes
            self._counts.clear()
            self._burst = 0
            self._covered.clear()
            self.code.heads.clear()
            for pending in self._pending.values():
                pending.wanted = False
            self._queue.clear()
        self._collect(wait=False)

    def finish(self) -> None:
        """Wait for everything that is being compiled."""
        while self._pending and not self.off:
            self._collect(wait=True)

    def force(self, record: int) -> bool:
        """Have the region around a record compiled now, unless one begins there. Whether one does then."""
        self._settle()
        if record not in self.code.heads or self.code.op_of(record) < block.FIRST_EXECUTOR:
            self.translate(record)
            self.finish()
        return record in self.code.heads

    # --- regions ------------------------------------------------------------------------------------------

    def translate(self, record: int, seen: Collection[int] = ()) -> bool:
        """Have the region around a record compiled: what samples met there (`seen`), or all. Whether there is
        one.
        """
        start = time.process_time()
        region = self.former.form(record, self._dynamic_targets(), seen)
        self.statistics.form_seconds += time.process_time() - start
        if region is None:
            return False
        description = region.description()
        if not self._identity:
            self._identity = identity(self.cpu.package, ranges=self.ranges)
        key = hashlib.sha256(self._identity + description.encode()).hexdigest()
        name = f"region_{key}"
        for there, _ in region.records:
            self._covered[there] = self._number
        number = self._number
        self._number += 1
        self._pending[number] = _Pending(region, description, name, self._flushes)
        code = self.store.get(key) if self.store is not None else b""
        if code:
            self._install(number, code, 0.0)
            return True
        self._queue.append(number)
        if self.background:
            self._feed()
        else:
            self._compile_here()
        return True

    def _dynamic_targets(self) -> dict[int, int]:
        """Addresses that computed jumps led to, and their records, where the jump cache has them."""
        address = int(struct.unpack_from("=Q", self.cpu.block, block.JUMP_CACHE)[0])
        known = struct.iter_unpack("=QQ", ctypes.string_at(address, 16 * block.JUMP_CACHE_ENTRIES))
        start, end = self.cpu.cache.dynamic, self.cpu.cache.dynamic + 8 * cache.DYNAMIC_ENTRIES
        seen = struct.iter_unpack("=Q", self.code.memory[start:end])
        pairs = zip(known, seen, strict=True)
        return {pc: record for (pc, record), (target,) in pairs if record and pc == target}

    def _compile_here(self) -> None:
        if self._compile is None:
            self._compile = compiler_for(self.cpu.package, self.templates, ranges=self.ranges)
        while self._queue:
            number = self._queue.pop()
            pending = self._pending[number]
            start = time.process_time()
            code = self._compile(pending.description, pending.name)
            self._install(number, code, time.process_time() - start)

    def _feed(self) -> None:
        """Give the worker something to do."""
        try:
            if self._worker is None or not self._worker.mine:
                if self._worker is not None:
                    self._worker.close()
                package, templates, ranges = self.cpu.package, self.templates, self.ranges
                self._worker = Worker(lambda: compiler_for(package, templates, ranges=ranges))
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
            LOG.warning("the translator's worker process was lost: %s", error)
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
            if position and op == block.OP_REGION:
                continue  # another region begins there already
            self.code.heads[record] = region.nodes[entry].op
            where = ctypes.addressof(entries) + position * block.REGION_ENTRY_SIZE
            struct.pack_into("=Q", memory, record - base + block.REGION_DISTANCE, where)
            struct.pack_into("=H", memory, record - base, block.OP_REGION)
        self.installed.append(region)
        statistics = self.statistics
        statistics.regions += 1
        statistics.instructions += len(region.nodes)
        statistics.code_bytes += len(code)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            with contextlib.suppress(OSError):
                self._worker.close()
            self._worker = None
