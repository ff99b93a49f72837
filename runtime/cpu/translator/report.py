"""What the tiers did, for people: `isagen run --stats`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu


def lines(cpu: Cpu) -> Iterator[str]:
    """Lines about a CPU that ran."""
    code = cpu.cache.statistics()
    yield f"{cpu.executed:,} instructions executed; {code['decoded']:,} decoded"
    yield (
        f"code cache: {code['flushes']} flushes, {code['drops']} pages dropped, "
        f"{code['entries']:,} entries from the run loop, {code['lookups']:,} lookups"
    )
    translator = cpu.translator
    if translator is None:
        yield "translator: not used"
        return
    did = translator.statistics
    yield (
        f"translator: {did.regions} regions of {did.instructions:,} instructions, "
        f"{did.code_bytes:,} bytes of object code; {did.refused} had changed, {did.failed} failed"
        + (" (given up)" if translator.off else "")
    )
    share = did.samples_in_regions / did.samples if did.samples else 0.0
    waiting = did.samples_waiting / did.samples if did.samples else 0.0
    yield (
        f"samples: {did.samples:,}, {share:.0%} of them in regions, "
        f"{waiting:.0%} in code that was being compiled"
    )
    yield (
        f"time: {did.region_seconds:.3f} s in regions, {did.interpreter_seconds:.3f} s in the interpreter "
        f"(by samples, since the translator began), {did.compile_seconds:.3f} s in the compiler, "
        f"{did.form_seconds:.3f} s finding regions"
    )
    if translator.store is not None:
        yield (
            f"regions kept on disk: {translator.store.found} read, {translator.store.kept} written "
            f"({translator.store.folder})"
        )
