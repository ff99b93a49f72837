"""The developer's view of translated regions: guest code, LLVM IR and the host's assembly side by side."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu


@dataclass(frozen=True, slots=True)
class Explained:
    """A region in its three languages, each a list of lines."""

    title: str
    guest: list[str]
    ir: list[str]
    host: list[str]


def explained(cpu: Cpu) -> Iterator[Explained]:
    """The regions that a CPU's translator put in place, in that order. Compiles them again."""
    from isagen.generated import load_syntax
    from runtime.assembly.disassembler import Disassembler
    from runtime.cpu.translator.compiler import Compiler
    from runtime.cpu.translator.region import Region
    from runtime.cpu.translator.text import region_text
    from runtime.cpu.translator.translator import target_of

    translator = cpu.translator
    if translator is None or not translator.installed:
        return
    disassembler = Disassembler(load_syntax(cpu.package.name))
    target = target_of(cpu.package, translator.templates, ranges=translator.ranges)
    compiler = Compiler()

    def guest(region: Region) -> Iterator[str]:
        heads = {region.pcs[number] for number in region.entries}
        last = None
        for pc in sorted(set(region.pcs)):
            if last is not None and pc != last:
                yield ""
            line = disassembler.line(readable(cpu, pc), pc)
            last = pc + line.length
            yield f"{'>' if pc in heads else ' '} {pc:#x}: {line.text}"

    for number, region in enumerate(translator.installed):
        text = region_text(target, region, "region")
        where = region.pcs[region.entries[0]] if region.pcs else 0
        yield Explained(
            f"region {number}: {len(set(region.pcs))} instructions, entered at {where:#x}",
            list(guest(region)),
            str(compiler.optimised(text)).splitlines(),
            compiler.assembly(text).splitlines(),
        )


def readable(cpu: Cpu, pc: int, size: int = 16) -> bytes:
    """Up to `size` bytes of code at `pc`: fewer before what isn't mapped."""
    for length in range(size, 0, -1):
        try:
            return cpu.memory.read(pc, length)
        except IsagenError:
            continue
    return b""


def as_text(regions: Iterator[Explained], width: int = 48) -> Iterator[str]:
    """Lines: the three columns side by side."""
    for region in regions:
        yield region.title
        columns = (region.guest, region.ir, region.host)
        widths = (width, 2 * width, width)
        yield "  ".join(name.ljust(w) for name, w in zip(("guest", "LLVM IR", "host"), widths, strict=True))
        for row in range(max(map(len, columns))):
            cells = (column[row].expandtabs(4) if row < len(column) else "" for column in columns)
            yield "  ".join(c[:w].ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()
        yield ""


_STYLE = """body { font-family: sans-serif } pre { font-size: 12px; margin: 0 }
section { display: grid; grid-template-columns: 1fr 2fr 1fr; gap: 1em; overflow-x: auto }
h3 { margin: 0.3em 0 }"""


def as_html(regions: Iterator[Explained], title: str) -> str:
    """A page with a section for each region."""
    parts = [
        f"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
    ]
    for region in regions:
        parts.append(f"<h2>{html.escape(region.title)}</h2><section>")
        for name, lines in (("Guest", region.guest), ("LLVM IR", region.ir), ("Host", region.host)):
            parts.append(f"<div><h3>{name}</h3><pre>{html.escape(chr(10).join(lines))}</pre></div>")
        parts.append("</section>")
    return "\n".join([*parts, "</body></html>\n"])
