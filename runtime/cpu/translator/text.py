"""The LLVM text of a region: its templates, filled in and joined.

The function is a step of threaded code (`runtime.cpu.threading`): the same arguments, left by a tail call of
another step. Registers are allocas that LLVM's SROA turns into values; they are loaded where the region is
entered and stored where it is left, those that may have been written on the way there.

Counting: nodes are put together in *segments*, straight pieces that are entered at their first node only. A
segment takes what it executes from the budget once, before its last node, which alone may branch. Entries,
and one node of each cycle,
*check* the budget against the longest way to the next check, and hand over to the interpreter if it is less,
which then stops at the exact instruction.

Leaving: everything unusual leaves before the instruction, with the state as it was before it, to the
interpreter's step of that very instruction: it meets the same fault, miss or trap again and deals with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final

from runtime.cpu import block, exits
from runtime.cpu.translator import arithmetic
from runtime.cpu.translator.deferred import ENTRY, MANY, Deferral, Reach, deferral_of, reaches
from runtime.cpu.translator.loops import loop_heads
from runtime.cpu.translator.narrow import (
    BOTH,
    UNSIGNED,
    facts,
    narrow_of,
    store,
    stores_marked,
    with_extensions,
)
from runtime.cpu.translator.region import Edge, Region
from runtime.cpu.translator.sticky import Gathers, gathers
from runtime.cpu.translator.template import Template, Templates

STEP: Final = "i64 %cpu, i64 %record, i64 %tlb, i64 %table, i64 %budget.in, i64 %next.in"
_TYPES: Final = "i64, i64, i64, i64, i64, i64"
PAGE_MASK: Final = -4096
SITE_PARTS: Final = {"": 0, ".length": block.TLB_SITE_LENGTH, ".addend": block.TLB_SITE_ADDEND}
EXTENT: Final = 1024
"""Most bytes that accesses lie apart which are checked together."""
SYSTEM_EXTENT: Final = 64
"""The same in system mode, where a group that crosses a page's end leaves the region."""
FEW_SITES: Final = 2
"""So many sites have their values in the host's registers all the time."""
FEW: Final = 3
"""So many targets of computed jumps are compared with one after the other."""


_WIDE_STATE: Final = re.compile(r"\[2 x i64\][^\n]*, ptr %g(\d+),")
"""In a template's text: a register of more than 64 bits whose place is fixed."""
_VARIABLES: Final = ("budget", "to", "node", "op", "there", "behind", "fp.flags")


@dataclass(frozen=True, slots=True)
class Target:
    """What a region's text depends on beside its description."""

    templates: Templates
    zeros: frozenset[int]
    """Offsets of registers that always are 0."""
    sink: int
    """Offset of the register that takes what is written to them: never read, never stored."""
    short: frozenset[int]
    """Offsets of registers of at most 32 bits."""
    ranges: bool
    """User mode: the TLB has ranges."""
    fused: bool
    """The host has a fused multiply-add."""
    ordered: bool = False
    """Accesses stay in program order, for other CPUs that run at the same time."""

    @property
    def access(self) -> str:
        """What LLVM is to know of each access to the guest's memory."""
        return " volatile" if self.ordered else ""


def header(offset: int) -> int:
    """The offset from `cpu` of a field of the block's header."""
    return offset - block.HEADER_SIZE


# --- templates as format strings ----------------------------------------------------------------------------

_HOLE: Final = re.compile(r"\x02(n|r)(\d+)\x03")
_END: Final = re.compile(r"\x02end (\w+)(?: ([^\x03]*))?\x03")
_CALL: Final = re.compile(r"\x07([^\x06]*)\x06")
_READ: Final = re.compile(r"= load (?=i\d+, ptr [^\n]*, align 1\b)")
"""In a template's text: where guest memory is read; everything else there is aligned."""
_ACCESS: Final = re.compile(r"\x05([^\x06]*)\x06")
_AHEAD: Final = re.compile(r"\x0e([^\x0f]*)\x0f")
_MARK: Final = re.compile(r"\x10(\d+)\x11")
"""Where `runtime.cpu.translator.narrow.store` comes."""


@dataclass(frozen=True, slots=True)
class Check:
    """How an access of a group is checked: the first one for all, the others not at all (`extent` 0).

    A group: accesses in straight code at constant distances from one register, which isn't written meanwhile.
    """

    group: int
    delta: int = 0
    """From the first one's address to the lowest."""
    extent: int = 0
    """Bytes from the lowest address to the end of the highest."""
    write: bool = False
    """Whether one of them writes."""


class Formats:
    """Templates as ``%`` format strings with names: ``p`` the prefix, ``s2`` the slot at byte 2, each end."""

    def __init__(self, target: Target, *, local: bool) -> None:
        self.target = target
        self.local = local
        """Whether the region has its sites in variables of its own."""
        self._known: dict[tuple[int, bool], str] = {}
        self._gathers: dict[int, Gathers | None] = {}
        self._accesses: dict[int, list[list[str]]] = {}

    def get(self, template: Template, *, sticky: bool = False) -> str:
        """The format string of a template. `sticky`: with a place for what `added` says."""
        if (template.op, sticky) not in self._known:
            self._known[template.op, sticky] = self._made(template, sticky)
        return self._known[template.op, sticky]

    def added(self, template: Template, slots: Mapping[int, int]) -> int | None:
        """The bits that an inexact result adds to the flags, if it makes no other difference than that."""
        if not template.calls:
            return None
        if template.op not in self._gathers:
            self._gathers[template.op] = gathers(template)
        found = self._gathers[template.op]
        return None if found is None else found.added(slots)

    def sites(self, template: Template) -> set[str]:
        """The sites of a template's accesses, as they stand in its format string."""
        return {
            (_HOLE.sub(r"%(s\2)s", base) or "none") + (".r" if kind == "readable" else ".w")
            for kind, *_, base, _ in self.accesses(template)
        }

    def _made(self, template: Template, sticky: bool) -> str:
        found = self._gathers[template.op] if sticky else None
        place = None if found is None else found.place
        text = stores_marked(template.text, narrow_of(template).wanted(), "\x10{}\x11".format)
        text = _READ.sub(f"= load{self.target.access} ", with_extensions(text)).replace("%", "%%")
        numbers = count()
        text = _ACCESS.sub(lambda match: f"%(access{next(numbers)})s", text)
        text = _CALL.sub(lambda match: self._call(match.group(1).split("\x04"), place), text)
        text = _AHEAD.sub("%(ahead)s", text)
        text = _END.sub(self._end, text)
        text = _HOLE.sub(r"%(s\2)s", _MARK.sub(r"%(store\1)s", text))
        return text.replace("\x01", "%(p)s").replace(arithmetic.ADDED, "%(added)s")

    @staticmethod
    def store(template: Template, number: int, fact: int) -> str:
        """The format string of one of a template's stores that `Narrow.wanted` names."""
        text = store(template.text, number, fact).replace("%", "%%")
        return _HOLE.sub(r"%(s\2)s", text).replace("\x01", "%(p)s")

    def _call(self, parts: Sequence[str], gathered: int | None) -> str:
        name, result, label, *arguments = parts
        place = self.target.templates.functions.index(name)
        pointer = f"%%{label}function"
        # The address is loaded where it is needed only: LLVM sinks it to the slow path.
        lines = [
            f"{pointer}p = getelementptr ptr, ptr %%helpers, i64 {place}",
            f"{pointer} = load ptr, ptr {pointer}p, !invariant.load !0",
        ]
        made = arithmetic.call(
            name, result, arguments, label, pointer, fused=self.target.fused, gathered=gathered
        )
        return "\n".join(lines + [line.replace("%", "%%").replace("%%%%", "%%") for line in made])

    @staticmethod
    def _end(match: re.Match[str]) -> str:
        kind, value = match.groups()
        note = f"store i64 {value}, ptr %%to\n" if value else ""
        return f"{note}br label %%%({kind})s"

    def access(self, template: Template, number: int, check: Check | None) -> str:
        """The format string of one of a template's accesses."""
        text = self._access(self.accesses(template)[number], check)
        return _HOLE.sub(r"%(s\2)s", text).replace("\x01", "%(p)s")

    def ahead(self, template: Template, spared: int | None) -> str | None:
        """The format string of a template's further turns at once, if it has some. `spared`: what has to be
        left of the budget; None: it doesn't lead to itself here.
        """
        found = _AHEAD.search(template.text.replace("%", "%%"))
        if found is None:
            return None
        function, result, *arguments = found[1].split("\x04")
        n = f"%%{result}"
        lines = [f"{n} = add i64 0, 0"]
        if spared is not None:
            place = self.target.templates.functions.index(function)
            lines = [
                f"{n}.budget = load i64, ptr %%budget",
                f"{n}.allowed = sub i64 {n}.budget, {spared}",
                f"{n}.place = getelementptr i8, ptr %%block, i64 {header(block.BUDGET)}",
                f"store i64 {n}.allowed, ptr {n}.place",
                f"{n}.start = sub i64 %%cpu, {block.HEADER_SIZE}",
                f"{n}.helper = getelementptr ptr, ptr %%helpers, i64 {place}",
                f"{n}.function = load ptr, ptr {n}.helper, !invariant.load !0",
                f"{n} = call i64 {n}.function(i64 {n}.start, {', '.join(arguments)})",
                f"{n}.left = sub i64 {n}.budget, {n}",
                f"store i64 {n}.left, ptr %%budget",
            ]
        return _HOLE.sub(r"%(s\2)s", "\n".join(lines)).replace("\x01", "%(p)s")

    def accesses(self, template: Template) -> list[list[str]]:
        """A template's accesses: kind, size, address, value, label, base, offset (empty: not known)."""
        if template.op not in self._accesses:
            found = _ACCESS.finditer(template.text.replace("%", "%%"))
            self._accesses[template.op] = [match.group(1).split("\x04") for match in found]
        return self._accesses[template.op]

    @staticmethod
    def _lookup(n: str, address: str, size: int, write: bool) -> list[str]:
        """Look for an address in the TLB; leave where it misses."""
        return [
            f"{n}l = add i64 {address}, {size - 1}",
            f"{n}t = and i64 {n}l, {PAGE_MASK}",
            f"{n}h = lshr i64 {address}, 8",
            f"{n}own = and i64 {n}h, {block.TLB_OFFSET_MASK}",
            f"{n}above = lshr i64 {address}, {block.TLB_FOLD_SHIFT}",
            f"{n}fold = and i64 {n}above, {block.TLB_FOLD_MASK}",
            f"{n}o = xor i64 {n}own, {n}fold",
            f"{n}e = getelementptr i8, ptr %%tlb.{'write' if write else 'read'}, i64 {n}o",
            f"{n}g = load i64, ptr {n}e, !invariant.load !0",
            f"{n}c = icmp eq i64 {n}g, {n}t",
            f"br i1 {n}c, label {n}hit, label %%%(leave)s, !prof !1",
            f"{n.removeprefix('%%')}hit:",
            f"{n}f = getelementptr i8, ptr {n}e, i64 8",
            f"{n}m = load i64, ptr {n}f, !invariant.load !0",
        ]

    def _note(self, site: str, values: Mapping[str, str]) -> list[str]:
        """Note in a site what the TLB said."""
        kept = [f"store i64 {value}, ptr {site}.kept{part}" for part, value in values.items()]
        if not self.local:
            return kept
        return [*kept, *(f"store i64 {value}, ptr {site}{part}" for part, value in values.items())]

    def _range_test(
        self, n: str, address: str, size: int, site: str, write: bool, check: Check | None
    ) -> list[str]:
        """User mode: is the address, or all that a group accesses, in the site's range?"""
        label = n.removeprefix("%%")

        def inside(tag: str, low: str, length: str) -> list[str]:
            lines = []
            first, limit = address, length
            if check is not None:
                first = f"{n}{tag}0"
                lines.append(f"{first} = add i64 {address}, {check.delta}")
                if check.extent > 16:
                    limit = f"{n}{tag}1"
                    lines.append(
                        f"{limit} = call i64 @llvm.usub.sat.i64(i64 {length}, i64 {check.extent - 16})"
                    )
            return [
                *lines,
                f"{n}{tag}2 = sub i64 {first}, {low}",
                f"{n}{tag}3 = icmp ult i64 {n}{tag}2, {limit}",
            ]

        lines = [
            f"{n}i = load i64, ptr {site}",
            f"{n}j = load i64, ptr {site}.length",
            *inside("y", f"{n}i", f"{n}j"),
            f"br i1 {n}y3, label {n}, label {n}out, !prof !1",
            f"{label}out:",
            *self._lookup(n, address, size, write),
            f"{n}q = getelementptr i8, ptr {n}e, i64 {block.TLB_RANGES}",
            f"{n}r = load i64, ptr {n}q",
            f"{n}u = getelementptr i8, ptr {n}q, i64 8",
            f"{n}x = load i64, ptr {n}u",
            *self._note(site, {"": f"{n}r", ".length": f"{n}x", ".addend": f"{n}m"}),
        ]
        if check is None:
            return [*lines, f"br label {n}"]
        # At the very end of a range the last page decides.
        return [
            *lines,
            *inside("z", f"{n}r", f"{n}x"),
            f"br i1 {n}z3, label {n}, label {n}page",
            f"{label}page:",
            f"{n}p0 = and i64 {n}z0, {PAGE_MASK}",
            f"{n}p1 = add i64 {n}z0, {check.extent - 1}",
            f"{n}p2 = and i64 {n}p1, {PAGE_MASK}",
            f"{n}p3 = icmp eq i64 {n}p0, {n}g",
            f"{n}p4 = icmp eq i64 {n}p2, {n}g",
            f"{n}p5 = and i1 {n}p3, {n}p4",
            f"br i1 {n}p5, label {n}, label %%%(leave)s",
        ]

    def _entry_test(
        self, n: str, address: str, size: int, site: str, write: bool, check: Check | None
    ) -> list[str]:
        """System mode: is the address, or all that a group accesses, in the page that the site knows?"""
        label = n.removeprefix("%%")
        lines = [f"{n}i = load i64, ptr {site}"]
        if check is None:
            # Aligned accesses don't cross a page's end. Others differ from any page in their lowest bits.
            lines += [
                f"{n}y0 = and i64 {address}, {PAGE_MASK | size - 1}",
                f"{n}y1 = icmp eq i64 {n}y0, {n}i",
                f"br i1 {n}y1, label {n}, label {n}out, !prof !1",
            ]
        else:
            first, address, size = address, f"{n}y0", check.extent
            lines += [
                f"{n}y0 = add i64 {first}, {check.delta}",
                f"{n}y1 = and i64 {n}y0, {PAGE_MASK}",
                f"{n}y2 = icmp eq i64 {n}y1, {n}i",
                f"br i1 {n}y2, label {n}first, label {n}out, !prof !1",
                f"{label}first:",
                f"{n}y3 = add i64 {n}y0, {size - 1}",
                f"{n}y4 = and i64 {n}y3, {PAGE_MASK}",
                f"{n}y5 = icmp eq i64 {n}y4, {n}i",
                f"br i1 {n}y5, label {n}, label {n}out, !prof !1",
            ]
        return [
            *lines,
            f"{label}out:",
            *self._lookup(n, address, size, write),
            *self._note(site, {"": f"{n}t"}),
            f"{n}k = load i64, ptr {site}.addend",
            f"{n}s = icmp eq i64 {n}m, {n}k",
            f"br i1 {n}s, label {n}, label {n}new, !prof !1",
            f"{label}new:",
            # LLVM must not see that this is the same value.
            f'{n}x = call i64 asm "", "=r,0"(i64 {n}m)',
            *self._note(site, {".addend": f"{n}x"}),
            f"br label {n}",
        ]

    def _access(self, parts: Sequence[str], check: Check | None) -> str:
        """The test whether memory may be accessed directly, and the access.

        The software TLB (`runtime.cpu.block.TLB`) says so, but is two loads behind each other away. What it
        said last is kept for each base register, at a fixed place (a *site*, `runtime.cpu.block.TLB_SITES`):

        * user mode: the range of addresses around, with what to add to them. The TLB is only looked at when
          an address is outside.
        * system mode: the page, with what to add to its addresses. The TLB is only looked at when an address
          is in another page, or isn't aligned. What to add is the same for all pages of a piece of RAM that
          is mapped in one: the TLB's entry is only compared with it, and the access need not wait for it.

        `check`: the access is one of a group with the same base, and the first one asks for all.
        """
        kind, size, address, value, label, base, _ = parts
        n = f"%%{label}"
        write = kind != "readable" if check is None else check.write
        site = f"%%site.{base or 'none'}.{'w' if write else 'r'}"
        addend = f"{site}.addend"
        lines: list[str] = []
        if check is not None and check.extent == 0:
            addend = f"%%group{check.group}"
            lines.append(f"br label {n}")
        elif self.target.ranges:
            lines += self._range_test(n, address, int(size), site, write, check)
        else:
            lines += self._entry_test(n, address, int(size), site, write, check)
        lines += [f"{label}:", f"{n}d = load i64, ptr {addend}"]
        if check is not None and check.extent:
            lines.append(f"store i64 {n}d, ptr %%group{check.group}")
        bits = 8 * int(size)
        if kind in ("readable", "writable"):
            return "\n".join([*lines, f"{value} = add i64 {address}, {n}d"])
        lines += [f"{n}a = add i64 {address}, {n}d", f"{n}p = inttoptr i64 {n}a to ptr"]
        kind_of, _, number = value.rpartition(" ")
        if kind_of != "i64":  # two halves
            number = value.removeprefix("[2 x i64] ")
            lines += [
                f"{n}0 = extractvalue [2 x i64] {number}, 0",
                f"{n}1 = extractvalue [2 x i64] {number}, 1",
                f"{n}2 = zext i64 {n}0 to i128",
                f"{n}3 = zext i64 {n}1 to i128",
                f"{n}4 = shl i128 {n}3, 64",
                f"{n}v = or i128 {n}2, {n}4",
            ]
            number = f"{n}v"
        elif bits < 64:
            lines.append(f"{n}v = trunc i64 {number} to i{bits}")
            number = f"{n}v"
        if kind == "write_big":
            lines.append(f"{n}w = call i{bits} @llvm.bswap.i{bits}(i{bits} {number})")
            number = f"{n}w"
        lines.append(f"store{self.target.access} i{bits} {number}, ptr {n}p, align 1")
        return "\n".join(lines)


@lru_cache(maxsize=8)
def formats_of(target: Target, *, local: bool) -> Formats:
    """The format strings of a target's templates."""
    return Formats(target, local=local)


# --- regions ------------------------------------------------------------------------------------------------


def _filled(text: str, slots: Mapping[int, int]) -> int:
    """A number, or that in the slot whose hole it is."""
    hole = _HOLE.fullmatch(text)
    return int(text) if hole is None else slots[int(hole[2])]


class _Text:
    """Writes one region."""

    def __init__(self, target: Target, region: Region, name: str) -> None:
        self.target = target
        self.region = region
        self.name = name
        self.formats = formats_of(target, local=False)
        self.delay = target.templates.record_size
        self.templates = [self._template(node.op) for node in region.nodes]
        self.lines: list[str] = []
        self.intrinsics: set[str] = set()
        self.followers = [
            [edge for _, edge in node.edges if isinstance(edge, int)]
            + ([number for _, number in region.dynamic] if self._finds(node.edges) else [])
            for node in region.nodes
        ]
        self.checks = set(region.entries) | set(loop_heads(self.followers))
        self.leaders = self._leaders()
        self.costs = self._costs()
        self.touched, self.dirty = self._registers()
        self.narrow = [narrow_of(template) for template in self.templates]
        self.held = self._held()
        self.plans: dict[tuple[int, int], Check] = {}
        """How accesses in groups are checked: by node and the access's position in it."""
        self.groups = 0
        self.found = 0  # what may have been written where an address is looked up
        self.writers: list[tuple[Deferral, dict[str, str], set[str]]] = []
        """Nodes that write what is made later, those alike as one: with their slots, and what is kept."""
        self.writer_of: dict[int, int] = {}
        self.before, self.after = self._reaches()
        self.remakes: dict[tuple[str, tuple[tuple[int, int], ...]], str] = {}
        """Labels of code that makes registers, then goes on: where to, and registers with their writers."""

    def _template(self, op: int) -> Template:
        found = self.target.templates.get(op)
        if found is None:
            raise ValueError(f"no template for operation {op}")
        return found

    @staticmethod
    def _finds(edges: Sequence[tuple[str, Edge]]) -> bool:
        return any(edge == ["find"] for _, edge in edges)

    # --- analysis -----------------------------------------------------------------------------------------

    def _leaders(self) -> set[int]:
        """Nodes that segments begin with."""
        count = [0] * len(self.region.nodes)
        for following in self.followers:
            for number in following:
                count[number] += 1
        found = set(self.checks)
        for number, node in enumerate(self.region.nodes):
            if count[number] != 1:
                found.add(number)
            if [end for end, _ in node.edges] != ["next"] or self.templates[number].guard:
                found.update(self.followers[number])
        return found

    def weight(self, number: int) -> int:
        """Instructions that a node counts: 1, but guards' count with what they guard."""
        return 0 if self.templates[number].guard else 1

    def _costs(self) -> list[int]:
        """For each node: the most instructions from it to the next check or out of the region."""
        costs = [-1] * len(self.region.nodes)
        for start in range(len(costs)):
            stack = [start]
            while stack:
                number = stack[-1]
                if costs[number] >= 0:
                    stack.pop()
                    continue
                ahead = [n for n in self.followers[number] if n not in self.checks]
                todo = [n for n in ahead if costs[n] < 0]
                if todo:
                    stack += todo
                    continue
                # A guard that skips counts what it skips.
                own = 1 if self.templates[number].guard else self.weight(number)
                costs[number] = own + max((costs[n] for n in ahead), default=0)
                stack.pop()
        return costs

    def _places(self, number: int, *, write: bool) -> set[int]:
        """Registers that a node reads or writes, each 8 bytes."""
        template, node = self.templates[number], self.region.nodes[number]
        wanted = template.writes if write else template.reads
        found = set(template.state_writes if write else template.state_reads)
        for (at, kind), value in zip(template.slots, node.slots, strict=True):
            if at in wanted:
                found.add(value)
                if kind == "wide":
                    found.add(value + 8)
        return found

    def _registers(self) -> tuple[list[int], list[int]]:
        """The registers of the region, and for each node those that may be written before it, as bits."""
        writes = [self._places(n, write=True) for n in range(len(self.region.nodes))]
        touched = set().union(*writes, *(self._places(n, write=False) for n in range(len(writes))))
        places = sorted(touched)
        number_of = {place: number for number, place in enumerate(places)}
        sinks = {self.target.sink, self.target.sink + 8} | self.target.zeros
        own = [sum(1 << number_of[place] for place in found if place not in sinks) for found in writes]
        dirty = [0] * len(writes)
        todo = list(range(len(writes)))
        while todo:
            number = todo.pop()
            behind = dirty[number] | own[number]
            for following in self.followers[number]:
                if behind & ~dirty[following]:
                    dirty[following] |= behind
                    todo.append(following)
        self.behind = [before | mine for before, mine in zip(dirty, own, strict=True)]
        return places, dirty

    def _held(self) -> list[list[int]]:
        """What is known of the numbers that nodes store."""
        always = dict.fromkeys(self.target.short, UNSIGNED) | dict.fromkeys(self.target.zeros, BOTH)
        nodes = range(len(self.region.nodes))
        start = {place: fact for place, fact in always.items() if place in self.touched}
        slots = [self._slots(number) for number in nodes]
        written = [self._places(number, write=True) for number in nodes]
        return facts(self.followers, self.region.entries, start, self.narrow, slots, written)

    def _reaches(self) -> tuple[list[dict[int, int]], list[dict[int, int]]]:
        """Who wrote registers last that may be made later, before and behind each node: numbers of
        `writers`.
        """
        known: dict[tuple[int, tuple[int, ...]], int] = {}
        for number, (node, template) in enumerate(zip(self.region.nodes, self.templates, strict=True)):
            deferral = None if template.guard else deferral_of(template)
            if deferral is None:
                continue
            key = node.op, node.slots
            if key not in known:
                known[key] = len(self.writers)
                slots = {f"s{at}": str(value) for at, value in self._slots(number).items()}
                self.writers.append((deferral, slots, set()))
            self.writer_of[number] = known[key]
        places = sorted({place for deferral, *_ in self.writers for place in deferral.values})

        def writes(number: int) -> dict[int, int]:
            found = {place: MANY for place in self._places(number, write=True) if place in places}
            writer = self.writer_of.get(number)
            if writer is not None:
                named = set(self.region.nodes[number].slots)
                found |= {place: writer for place in self.writers[writer][0].values if place not in named}
            return found

        before, after = reaches(self.followers, self.region.entries, places, writes)
        for reach in (*before, *after):
            for place, writer in reach.items():
                if writer >= 0:
                    deferral, _, kept = self.writers[writer]
                    kept.update(deferral.needs[place] & deferral.leaves.keys())
        return before, after

    # --- text ---------------------------------------------------------------------------------------------

    def line(self, *lines: str) -> None:
        self.lines += lines

    def write(self) -> str:
        self._entry()
        for leader in sorted(self.leaders):
            self._segment(leader)
        self._endings()
        # LLVM wants variables at the function's start.
        self.lines[1:1] = [
            *(f"%group{number} = alloca i64" for number in range(self.groups)),
            *(
                f"%kept{number}.{name} = alloca {deferral.leaves[name]}"
                for number, (deferral, _, kept) in enumerate(self.writers)
                for name in sorted(kept)
            ),
        ]
        body = "\n".join(self.lines)
        return (
            f"define ghccc i64 @{self.name}({STEP}) nounwind {{\n{body}\n}}\n"
            "!0 = !{}\n"
            '!1 = !{!"branch_weights", i32 2000, i32 1}\n'
            '!2 = !{!"branch_weights", i32 1, i32 2000}\n'
        )

    def _entry(self) -> None:
        line = self.line
        line(
            "start:",
            f"%entry.a = add i64 %record, {block.REGION_DISTANCE}",
            "%entry.p = inttoptr i64 %entry.a to ptr",
            "%entry = load ptr, ptr %entry.p",
            f"%records.p = getelementptr i8, ptr %entry, i64 {block.REGION_RECORDS}",
            "%records = load ptr, ptr %records.p",
            "%block = inttoptr i64 %cpu to ptr",
            f"%helpers.p = getelementptr i8, ptr %block, i64 {header(block.HELPERS)}",
            "%helpers = load ptr, ptr %helpers.p",
            "%tlb.read = inttoptr i64 %tlb to ptr",
            f"%tlb.write = getelementptr i8, ptr %tlb.read, i64 {block.TLB_WRITE}",
            "%steps = inttoptr i64 %table to ptr",
            *(f"%{name} = alloca i64" for name in _VARIABLES),
            "store i64 %budget.in, ptr %budget",
        )
        wide = {
            value for number, node in enumerate(self.region.nodes) for value in self._wide(number, node.slots)
        }
        for place in self.touched:
            if place - 8 in wide:
                line(f"%g{place} = getelementptr i8, ptr %g{place - 8}, i64 8")
            else:
                line(f"%g{place} = alloca {'[2 x i64]' if place in wide else 'i64'}")
        for place in self.touched:
            line(f"%m{place} = getelementptr i8, ptr %block, i64 {place}")
            if place in self.target.zeros:
                line(f"store i64 0, ptr %g{place}")
            elif place not in (self.target.sink, self.target.sink + 8):
                # Atomic, or LLVM makes one load of these and of what is loaded into the register later.
                line(
                    f"%i{place} = load atomic i64, ptr %m{place} unordered, align 8",
                    f"store i64 %i{place}, ptr %g{place}",
                )
        self._sites()
        if self.delay:
            line(
                f"%sequential.n = add i64 %record, {self.delay}",
                "%sequential = icmp eq i64 %sequential.n, %next.in",
                "br i1 %sequential, label %in_sequence, label %refuse, !prof !1",
                "in_sequence:",
            )
        if len(self.region.pages) > 1:
            self._page_checks()
        entries = self.region.entries
        if len(entries) == 1:
            line(f"br label %c{entries[0]}")
            return
        cases = " ".join(
            f"i64 {position}, label %c{entry}" for position, entry in enumerate(entries) if position
        )
        line(
            f"%which.p = getelementptr i8, ptr %entry, i64 {block.REGION_ENTRY}",
            "%which = load i64, ptr %which.p",
            f"switch i64 %which, label %c{entries[0]} [ {cases} ]",
        )

    def _sites(self) -> None:
        """Where what the TLB said last is kept (`Formats`): where there are few of these places, in variables
        meanwhile.
        """
        names: set[str] = set()
        for template, node in zip(self.templates, self.region.nodes, strict=True):
            values = {f"s{at}": value for (at, _), value in zip(template.slots, node.slots, strict=True)}
            names.update(site % values for site in self.formats.sites(template))
        if len(names) <= FEW_SITES:
            self.formats = formats_of(self.target, local=True)
        registers = {name.partition(".")[0] for name in names}
        for name in sorted(f"{register}.{kind}" for register in registers for kind in "rw"):
            register, _, kind = name.partition(".")
            place = block.tlb_site(0 if register == "none" else int(register), write=kind == "w")
            for part, distance in SITE_PARTS.items():
                site, kept = f"%site.{name}{part}", f"%site.{name}.kept{part}"
                pointer = f"getelementptr i8, ptr %tlb.read, i64 {place + distance}"
                self.line(f"{kept} = {pointer}")
                if self.formats.local:
                    self.line(
                        f"{site} = alloca i64",
                        f"{site}.0 = load atomic i64, ptr {kept} unordered, align 8",
                        f"store i64 {site}.0, ptr {site}",
                    )
                else:
                    self.line(f"{site} = {pointer}")

    def _wide(self, number: int, slots: Sequence[int]) -> list[int]:
        template = self.templates[number]
        named = [value for (_, kind), value in zip(template.slots, slots, strict=True) if kind == "wide"]
        return named + [int(place) for place in _WIDE_STATE.findall(template.text)]

    def _page_checks(self) -> None:
        """Whether any page that the region's code lies on was dropped."""
        for number in self.region.pages:
            n = f"%stale{number}"
            self.line(
                f"{n}.p = getelementptr ptr, ptr %records, i64 {self.width * number}",
                f"{n}.r = load ptr, ptr {n}.p",
                f"{n}.o = load i16, ptr {n}.r",
                f"{n} = icmp eq i16 {n}.o, {block.OP_STALE}",
                f"br i1 {n}, label %refuse, label %fresh{number}, !prof !2",
                f"fresh{number}:",
            )

    def _segment(self, leader: int) -> None:
        chain = [leader]
        while True:
            edges = self.region.nodes[chain[-1]].edges
            if [end for end, _ in edges] != ["next"] or self.templates[chain[-1]].guard:
                break
            edge = edges[0][1]
            if not isinstance(edge, int) or edge in self.leaders:
                break
            chain.append(edge)
        checked = leader in self.checks
        # A check comes before its segment's budget is taken, the last node's accesses come behind that.
        short = f"k{leader}" if len(chain) == 1 else f"x{leader}"
        if checked:
            self.line(
                f"c{leader}:",
                f"%c{leader}.b = load i64, ptr %budget",
                f"%c{leader}.c = icmp slt i64 %c{leader}.b, {self.costs[leader]}",
                f"br i1 %c{leader}.c, label %{short}, label %n{leader}, !prof !2",
            )
        self.line(f"n{leader}:")
        self._group(chain)
        taken = 0
        total = sum(self.weight(number) for number in chain)
        for number in chain[:-1]:
            self._node(number, taken, number != leader)
            taken += self.weight(number)
        last = chain[-1]
        if last != leader:
            self.line(f"n{last}:")
        self.line(
            f"%b{last}.a = load i64, ptr %budget",
            f"%b{last}.b = sub i64 %b{last}.a, {total}",
            f"store i64 %b{last}.b, ptr %budget",
        )
        self._node(last, taken - total, False)
        if checked and (len(chain) == 1 or not self._leaves(leader)):
            self._leave(leader, 0, short)

    def _leaves(self, number: int) -> bool:
        """Whether the node may have to leave before it is executed."""
        template = self.templates[number]
        return "leave" in template.ends or template.accesses > 0

    def _group(self, chain: Sequence[int]) -> None:
        """Find the segment's groups of accesses."""
        open_groups: dict[int, list[tuple[int, int, int, int, bool]]] = {}
        limit = EXTENT if self.target.ranges else SYSTEM_EXTENT
        for number in chain:
            template = self.templates[number]
            slots = self._slots(number)
            for position, (kind, size, *_, base, offset) in enumerate(self.formats.accesses(template)):
                if not offset or not base:
                    continue
                register = _filled(base, slots)
                distance = _filled(offset, slots)
                write = kind != "readable"
                key = register if self.target.ranges else 2 * register + write
                group = open_groups.setdefault(key, [])
                lows = [distance, *(low for _, _, low, _, _ in group)]
                highs = [distance + int(size), *(low + bytes_ for _, _, low, bytes_, _ in group)]
                if max(highs) - min(lows) > limit:
                    self._close(open_groups.pop(key))
                    group = open_groups.setdefault(key, [])
                group.append((number, position, distance, int(size), write))
            for register in self._places(number, write=True):
                for key in (register,) if self.target.ranges else (2 * register, 2 * register + 1):
                    self._close(open_groups.pop(key, []))
        for group in open_groups.values():
            self._close(group)

    def _close(self, group: Sequence[tuple[int, int, int, int, bool]]) -> None:
        """A group is complete: note how its accesses are checked."""
        if len(group) < 2:
            return
        name = self.groups
        self.groups += 1
        number, position, first, _, _ = group[0]
        low = min(distance for _, _, distance, _, _ in group)
        high = max(distance + size for _, _, distance, size, _ in group)
        write = any(writes for *_, writes in group)
        self.plans[number, position] = Check(name, low - first, high - low, write)
        for number, position, *_ in group[1:]:
            self.plans[number, position] = Check(name)

    def label_of(self, number: int) -> str:
        return f"c{number}" if number in self.checks else f"n{number}"

    def _slots(self, number: int) -> dict[int, int]:
        """A node's slots: values by their bytes in the record."""
        template, node = self.templates[number], self.region.nodes[number]
        return {at: value for (at, _), value in zip(template.slots, node.slots, strict=True)}

    def _node(self, number: int, taken: int, labelled: bool) -> None:
        """A node; `taken`: what its segment executed before it, as far as the budget doesn't know."""
        node, template = self.region.nodes[number], self.templates[number]
        if labelled:
            self.line(f"n{number}:")
        holes = {"p": f"t{number}.", "leave": f"x{number}"}
        slots = self._slots(number)
        holes |= {f"s{at}": str(value) for at, value in slots.items()}
        for position in range(template.accesses):
            check = self.plans.get((number, position))
            holes[f"access{position}"] = self.formats.access(template, position, check) % holes
        for position in self.narrow[number].wanted():
            fact = self.held[number][position] if self.held[number] else 0
            holes[f"store{position}"] = self.formats.store(template, position, fact) % holes
        # What lies behind the node, up to the next check, has its budget already.
        spared = self.costs[number] - self.weight(number)
        ahead = self.formats.ahead(template, spared if ("taken0", number) in node.edges else None)
        if ahead is not None:
            holes["ahead"] = ahead % holes
        later: list[str] = []
        for end, edge in node.edges:
            skips = end == "skip" and template.guard
            if isinstance(edge, int) and not skips:
                holes[end] = self.label_of(edge)
                continue
            label = f"y{number}.{end}"
            holes[end] = label
            later.append(f"{label}:")
            if skips:
                later += [
                    f"%{label}.a = load i64, ptr %budget",
                    f"%{label}.b = sub i64 %{label}.a, 1",
                    f"store i64 %{label}.b, ptr %budget",
                ]
            if isinstance(edge, int):
                later.append(f"br label %{self.label_of(edge)}")
            elif edge == ["find"]:
                later += self._find(number, label, annulled=end == "jump_annulled")
            else:
                later += self._out(number, label, edge)
        self.line(f"br label %t{number}.a")
        added = self.formats.added(template, slots)
        holes["added"] = str(added)
        self.line(self._keeping(number, self.formats.get(template, sticky=added is not None) % holes))
        self.intrinsics.update(re.findall(r"@(llvm\.[\w.]+)", template.text))
        self.lines += later
        if self._leaves(number):
            self._leave(number, taken, f"x{number}")

    def _keeping(self, number: int, text: str) -> str:
        """A node's text, with what is needed to make its registers later."""
        if number not in self.writer_of:
            return text
        writer = self.writer_of[number]
        deferral, _, kept = self.writers[writer]
        body, _, end = text.rstrip("\n").rpartition("\n")
        stores = [
            f"store {deferral.leaves[name]} %t{number}.{name}, ptr %kept{writer}.{name}"
            for name in sorted(kept)
        ]
        return "\n".join([body, *stores, end])

    def _split(self, dirty: int, reach: Reach) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Of the registers that may have been written: those to be stored as they are, and those to be made,
        with their writers.
        """
        later = []
        for position, place in enumerate(self.touched):
            writer = reach.get(place, MANY)
            if dirty >> position & 1 and writer not in (ENTRY, MANY):
                later.append((place, writer))
                dirty &= ~(1 << position)
        return dirty, tuple(later)

    def _remake(self, to: str, later: tuple[tuple[int, int], ...]) -> str:
        """The label of code that makes and stores registers, and then goes on at a label."""
        if not later:
            return to
        return self.remakes.setdefault((to, later), f"remake{len(self.remakes)}")

    def _remaking(self) -> None:
        """The code that `_remake` names."""
        for (to, later), label in self.remakes.items():
            self.line(f"{label}:")
            for writer in sorted({writer for _, writer in later}):
                deferral, slots, _ = self.writers[writer]
                places = [place for place, by in later if by == writer]
                needs = set().union(*(deferral.needs[place] for place in places))
                holes = {**slots, "p": f"{label}.{writer}."}
                for name, kind in deferral.leaves.items():
                    if name in needs:
                        self.line(f"%{holes['p']}{name} = load {kind}, ptr %kept{writer}.{name}")
                self.line(*(line % holes for name, line in deferral.lines.items() if name in needs))
                for place in places:
                    self.line(f"store i64 {deferral.values[place] % holes}, ptr %m{place}")
            self.line(f"br label %{to}")

    def _leave(self, number: int, taken: int, x: str) -> None:
        """Before the instruction, to the interpreter's step of it; `x` is the label."""
        self.line(f"{x}:")
        if taken:
            self.line(
                f"%{x}.a = load i64, ptr %budget",
                f"%{x}.b = sub i64 %{x}.a, {taken}",
                f"store i64 %{x}.b, ptr %budget",
            )
        dirty, later = self._split(self.dirty[number], self.before[number])
        self.line(*self._stores(dirty, x))
        self.line(
            f"store i64 {number}, ptr %node",
            f"store i64 {self.region.nodes[number].op}, ptr %op",
            f"br label %{self._remake('leave', later)}",
        )

    def _stores(self, dirty: int, prefix: str) -> list[str]:
        lines = []
        for position, place in enumerate(self.touched):
            if dirty >> position & 1:
                name = f"%{prefix}.v{place}"
                lines += [f"{name} = load i64, ptr %g{place}", f"store i64 {name}, ptr %m{place}"]
        return lines

    def _out(self, number: int, prefix: str, edge: Sequence[Any]) -> list[str]:
        """Out of the region behind a node."""
        dirty, later = self._split(self.behind[number], self.after[number])
        lines = self._stores(dirty, prefix)
        r = f"%{prefix}.r"
        lines += [
            f"{r}p = getelementptr i64, ptr %records, i64 {self.width * number}",
            f"{r} = load i64, ptr {r}p",
        ]
        if self.delay:
            lines += [f"{r}np = getelementptr i64, ptr {r}p, i64 1", f"{r}n = load i64, ptr {r}np"]
        kind, *rest = edge
        if kind in ("slot", "delayed"):
            lines += [
                f"{r}a = add i64 {r}, {rest[0]}",
                f"{r}q = inttoptr i64 {r}a to ptr",
                f"{r}t = load i64, ptr {r}q",
            ]
        else:
            distance = {"after": rest[0] if rest else 0, "next": 0, "skip": self.delay}[kind]
            lines.append(f"{r}t = add i64 {r if kind == 'after' else f'{r}n'}, {distance}")
        if kind == "delayed":
            lines += [f"store i64 {r}n, ptr %there", f"store i64 {r}t, ptr %behind"]
        else:
            lines.append(f"store i64 {r}t, ptr %there")
            if self.delay:
                lines += [f"{r}b = add i64 {r}t, {self.delay}", f"store i64 {r}b, ptr %behind"]
        lines.append(f"br label %{self._remake('go', later)}")
        return lines

    @property
    def width(self) -> int:
        """Addresses in the table of records for each node."""
        return 2 if self.delay else 1

    def _find(self, number: int, label: str, *, annulled: bool) -> list[str]:
        """To the address in `%to`."""
        lines = []
        if 0 < len(self.region.dynamic) <= FEW and not self.delay:
            cases = " ".join(f"i64 {pc}, label %{self.label_of(node)}" for pc, node in self.region.dynamic)
            lines += [
                f"%{label}.to = load i64, ptr %to",
                f"switch i64 %{label}.to, label %{label}.out [ {cases} ]",
                f"{label}.out:",
            ]
        self.found |= self.behind[number]
        now = "find.now" if annulled or not self.delay else "find"
        return [*lines, f"store i64 {number}, ptr %node", f"br label %{now}"]

    def _endings(self) -> None:
        """What exits share."""
        line = self.line
        arguments = "i64 %cpu, i64 {record}, i64 %tlb, i64 %table, i64 {budget}, i64 {next}"

        def go(label: str, record: str, function: str, following: str) -> None:
            passed = arguments.format(
                record=record, budget=f"%{label}.budget", next=following if self.delay else "undef"
            )
            line(
                f"%{label}.budget = load i64, ptr %budget",
                f"%{label}.ret = musttail call ghccc i64 {function}({passed})",
                f"ret i64 %{label}.ret",
            )

        line(
            "leave:",
            "%leave.node = load i64, ptr %node",
            "%leave.op = load i64, ptr %op",
            *(
                ["%leave.place = shl i64 %leave.node, 1"]
                if self.delay
                else ["%leave.place = add i64 %leave.node, 0"]
            ),
            "%leave.p = getelementptr i64, ptr %records, i64 %leave.place",
            "%leave.record = load i64, ptr %leave.p",
            "%leave.np = getelementptr i64, ptr %leave.p, i64 1",
            *(["%leave.next = load i64, ptr %leave.np"] if self.delay else []),
            "%leave.s = getelementptr ptr, ptr %steps, i64 %leave.op",
            "%leave.step = load ptr, ptr %leave.s, !invariant.load !0",
        )
        go("leave", "%leave.record", "%leave.step", "%leave.next")
        if self._refuses():
            self._refusal(arguments)
        line(
            "go:",
            "%go.record = load i64, ptr %there",
            "%go.next = load i64, ptr %behind",
            "%go.p = inttoptr i64 %go.record to ptr",
            "%go.o = load i16, ptr %go.p",
            "%go.op = zext i16 %go.o to i64",
            "%go.s = getelementptr ptr, ptr %steps, i64 %go.op",
            "%go.step = load ptr, ptr %go.s, !invariant.load !0",
        )
        go("go", "%go.record", "%go.step", "%go.next")
        if any(self._finds(node.edges) for node in self.region.nodes):
            self._lookups()
        self._remaking()

    def _refuses(self) -> bool:
        """Whether entering the region may turn out to be wrong."""
        return len(self.region.pages) > 1 or bool(self.delay)

    def _refusal(self, arguments: str) -> None:
        """Back to the interpreter's step of the entry's instruction, with everything as it was."""
        entries = self.region.entries
        cases = " ".join(f"i64 {n}, label %refuse{n}" for n in range(1, len(entries)))
        self.line(
            "refuse:",
            f"%refuse.p = getelementptr i8, ptr %entry, i64 {block.REGION_ENTRY}",
            "%refuse.which = load i64, ptr %refuse.p",
            f"switch i64 %refuse.which, label %refuse0 [ {cases} ]",
        )
        for number, entry in enumerate(entries):
            op = self.region.nodes[entry].op
            self.line(f"refuse{number}:", f"store i64 {op}, ptr %op", "br label %refused")
        following = "%next.in" if self.delay else "undef"
        passed = arguments.format(record="%record", budget="%budget.in", next=following)
        self.line(
            "refused:",
            "%refused.op = load i64, ptr %op",
            "%refused.s = getelementptr ptr, ptr %steps, i64 %refused.op",
            "%refused.step = load ptr, ptr %refused.s, !invariant.load !0",
            f"%refused.ret = musttail call ghccc i64 %refused.step({passed})",
            "ret i64 %refused.ret",
        )

    def _lookups(self) -> None:
        """The jump cache (`runtime.cpu.block.JUMP_CACHE`)."""
        now, later = "find.now", "find"
        for label in (now, later) if self.delay else (now,):
            n = f"%{label}"
            self.line(
                f"{label}:",
                f"{n}.pc = load i64, ptr %to",
                f"{n}.n = load i64, ptr %node",
                f"{n}.place = {'shl' if self.delay else 'add'} i64 {n}.n, {1 if self.delay else 0}",
                f"{n}.rp = getelementptr i64, ptr %records, i64 {n}.place",
                f"{n}.own = load i64, ptr {n}.rp",
                f"{n}.np = getelementptr i64, ptr {n}.rp, i64 1",
                *([f"{n}.next = load i64, ptr {n}.np"] if self.delay else []),
                f"{n}.cp = getelementptr i8, ptr %block, i64 {header(block.JUMP_CACHE)}",
                f"{n}.cache = load ptr, ptr {n}.cp",
                f"{n}.h = lshr i64 {n}.pc, 11",
                f"{n}.x = xor i64 {n}.pc, {n}.h",
                f"{n}.m = and i64 {n}.x, {block.JUMP_CACHE_ENTRIES - 1}",
                f"{n}.o = shl i64 {n}.m, 4",
                f"{n}.e = getelementptr i8, ptr {n}.cache, i64 {n}.o",
                f"{n}.k = load i64, ptr {n}.e",
                f"{n}.hit = icmp eq i64 {n}.k, {n}.pc",
                f"br i1 {n}.hit, label {n}.found, label {n}.lost, !prof !1",
                f"{label}.found:",
                f"{n}.f = getelementptr i8, ptr {n}.e, i64 8",
                f"{n}.record = load i64, ptr {n}.f",
            )
            self._inside(label)
            self.line(*self._stores(self.found, f"{label}.away"))
            if label == later:
                self.line(f"store i64 {n}.next, ptr %there", f"store i64 {n}.record, ptr %behind")
            else:
                self.line(f"store i64 {n}.record, ptr %there")
                if self.delay:
                    self.line(f"{n}.b = add i64 {n}.record, {self.delay}", f"store i64 {n}.b, ptr %behind")
            self.line("br label %go", f"{label}.lost:", *self._stores(self.found, f"{label}.lost"))
            if label == later:  # the delay slot's instruction is next
                self._lost(n, exits.Reason.LOOKUP_NEXT, f"{n}.next", f"{n}.next")
            else:
                self._lost(n, exits.Reason.LOOKUP, f"{n}.own", f"{n}.next" if self.delay else None)

    def _inside(self, label: str) -> None:
        """Stay in the region if the record that was found is one of its entries."""
        entries = {number: position for position, number in enumerate(self.region.entries)}
        known = [(entries[node], node) for _, node in self.region.dynamic if node in entries]
        if len(known) <= FEW or self.delay:
            return
        n = f"%{label}"
        cases = " ".join(f"i64 {position}, label %{self.label_of(node)}" for position, node in known)
        self.line(
            f"{n}.q = inttoptr i64 {n}.record to ptr",
            f"{n}.op = load i16, ptr {n}.q",
            f"{n}.is = icmp eq i16 {n}.op, {block.OP_REGION}",
            f"br i1 {n}.is, label {n}.region, label {n}.away",
            f"{label}.region:",
            f"{n}.wp = getelementptr i8, ptr {n}.q, i64 {block.REGION_DISTANCE}",
            f"{n}.w = load ptr, ptr {n}.wp",
            f"{n}.wr = getelementptr i8, ptr {n}.w, i64 {block.REGION_RECORDS}",
            f"{n}.records = load ptr, ptr {n}.wr",
            f"{n}.mine = icmp eq ptr {n}.records, %records",
            f"br i1 {n}.mine, label {n}.inside, label {n}.away",
            f"{label}.inside:",
            f"{n}.ip = getelementptr i8, ptr {n}.w, i64 {block.REGION_ENTRY}",
            f"{n}.index = load i64, ptr {n}.ip",
            f"switch i64 {n}.index, label {n}.away [ {cases} ]",
            f"{label}.away:",
        )

    def _lost(self, n: str, reason: exits.Reason, record: str, following: str | None) -> None:
        values = {block.REASON: str(int(reason)), block.EXIT_RECORD: record}
        if following is not None:
            values[block.EXIT_NEXT] = following
        for field, value in values.items():
            self.line(
                f"{n}.w{field} = getelementptr i8, ptr %block, i64 {header(field)}",
                f"store i64 {value}, ptr {n}.w{field}",
            )
        self.line(f"{n}.left = load i64, ptr %budget", f"ret i64 {n}.left")


def region_text(target: Target, region: Region, name: str) -> str:
    """The LLVM module of a region; its one function is `name`. Raises ValueError for what can't be."""
    return _Text(target, region, name).write()


def costs_of(target: Target, region: Region) -> Mapping[int, int]:
    """For each entry, the budget that it asks for."""
    text = _Text(target, region, "region")
    return {entry: text.costs[entry] for entry in region.entries}
