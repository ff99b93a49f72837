"""The threaded code around executors, as LLVM text: counting, going on, leaving. Build time only.

Every executor gets a *step*: a function in GHC's calling convention, which passes everything in registers and
preserves none. A step takes one from the budget, runs the executor (inlined), and ends in a tail call of the
next record's step, found in a table by the record's operation:

    step(cpu, record, tlb, table, budget, next)

`next`, the record behind this one's successor, is used by targets with delay slots only: it is what their
second program counter (npc) becomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runtime.cpu import block, exits
from runtime.cpu.primitives import (
    DISPATCH,
    DISPATCH_NEXT,
    JUMP,
    JUMP_ANNULLED,
    LEAVE,
    SKIP,
    TAKEN,
    TAKEN_ANNULLED,
    header,
)

STEP: Final = "i64 %cpu, i64 %record, i64 %tlb, i64 %table, i64 %budget, i64 %next"
_TYPES: Final = "i64, i64, i64, i64, i64, i64"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the step of an executor must know about it."""

    symbol: str
    """The name of the executor; its code is ``i64 do_<name>(cpu, record, tlb)``."""
    size: int
    """Bytes of its record."""
    targets: tuple[int, ...] = ()
    """Offsets of the target slots in its record."""
    jumps: bool = False
    """It may jump to a computed address."""
    dispatches: bool = False
    leaves: bool = False
    skips: bool = False
    annuls: bool = False
    guard: bool = False
    counts: bool = False
    """It reads or writes the number of instructions executed so far."""
    repeats: bool = False
    """It may execute further turns of itself, and takes them from the budget in the header."""
    skip_slot: int = 0
    """Guards: offset of the slot that holds the next record's size."""


class _Text:
    """Lines of one function, with fresh names."""

    def __init__(self, delayed: bool) -> None:
        self.delayed = delayed  # without delay slots, `next` is whatever is in its register
        self.lines: list[str] = []
        self.count = 0

    def value(self, text: str) -> str:
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def add(self, base: str, offset: int) -> str:
        return self.value(f"add i64 {base}, {offset}") if offset else base

    def load(self, base: str, offset: int, kind: str = "i64") -> str:
        pointer = self.value(f"inttoptr i64 {self.add(base, offset)} to ptr")
        return self.value(f"load {kind}, ptr {pointer}")

    def store(self, value: str, base: str, offset: int) -> None:
        pointer = self.value(f"inttoptr i64 {self.add(base, offset)} to ptr")
        self.line(f"store i64 {value}, ptr {pointer}")

    def tail(self, function: str, record: str, budget: str, following: str = "%next") -> None:
        """Go on in `function`, with everything else unchanged."""
        if not self.delayed:
            following = "undef"
        arguments = f"i64 %cpu, i64 {record}, i64 %tlb, i64 %table, i64 {budget}, i64 {following}"
        returned = self.value(f"musttail call ghccc i64 {function}({arguments})")
        self.line(f"ret i64 {returned}")


class Threading:
    """Writes steps. `record_size` is the fixed size of records in targets with delay slots, else None."""

    def __init__(self, record_size: int | None) -> None:
        self.record_size = record_size

    @property
    def delayed(self) -> bool:
        """Whether the target has delay slots."""
        return self.record_size is not None

    # --- parts of steps -------------------------------------------------------------------------------------

    def _go(self, text: _Text, record: str, budget: str, following: str = "%next") -> None:
        """Run the step of `record`."""
        operation = text.load(record, 0, "i16")
        offset = text.value(f"zext i16 {operation} to i64")
        table = text.value("inttoptr i64 %table to ptr")
        place = text.value(f"getelementptr ptr, ptr {table}, i64 {offset}")
        function = text.value(f"load ptr, ptr {place}, !invariant.load !0")
        text.tail(function, record, budget, following)

    def _after(self, text: _Text, record: str, size: int, budget: str) -> None:
        """Go on behind `record`."""
        if self.record_size is None:
            self._go(text, text.add(record, size), budget)
        else:
            self._go(text, "%next", budget, text.add("%next", self.record_size))

    def _taken(self, text: _Text, target: str, budget: str, *, annulled: bool) -> None:
        """Go on at the record `target`: at once, or after the delay slot."""
        if self.record_size is None:
            self._go(text, target, budget)
        elif annulled:
            self._go(text, target, budget, text.add(target, self.record_size))
        else:
            self._go(text, "%next", budget, target)

    def _find(self, text: _Text, pc: str) -> tuple[str, str]:
        """Look `pc` up in the jump cache: whether it hits, and the record."""
        cache = text.load("%cpu", header(block.JUMP_CACHE))
        high = text.value(f"lshr i64 {pc}, 11")
        mixed = text.value(f"xor i64 {pc}, {high}")
        index = text.value(f"and i64 {mixed}, {block.JUMP_CACHE_ENTRIES - 1}")
        entry = text.value(f"add i64 {cache}, {text.value(f'shl i64 {index}, 4')}")
        known = text.load(entry, 0)
        return text.value(f"icmp eq i64 {known}, {pc}"), text.load(entry, 8)

    def _jump(self, text: _Text, size: int, budget: str, *, annulled: bool) -> None:
        """Go on at the address in `block.PC`."""
        pc = text.load("%cpu", header(block.PC))
        hit, record = self._find(text, pc)
        found, lost = ("found_now", "lost_now") if annulled else ("found", "lost")
        text.line(f"br i1 {hit}, label %{found}, label %{lost}, !prof !1")
        text.label(found)
        self._taken(text, record, budget, annulled=annulled)
        text.label(lost)
        if self.record_size is None:
            text.tail("@leave_lookup", "%record", budget)
        elif annulled:
            text.tail("@leave_lookup_annulled", "%record", budget)
        else:
            self._leave_next(text, budget)

    def _leave_next(self, text: _Text, budget: str) -> None:
        """The delay slot is next, and what comes behind it, at `block.PC`, has no record yet."""
        assert self.record_size is not None
        text.tail("@leave_lookup_next", "%next", budget, text.add("%next", self.record_size))

    # --- steps ----------------------------------------------------------------------------------------------

    def step(self, name: str, shape: Shape) -> str:
        """The step of an executor."""
        text = _Text(self.delayed)
        if shape.guard:
            budget = "%budget"
        else:
            budget = text.value("sub i64 %budget, 1")
            spent = text.value(f"icmp slt i64 {budget}, 0")
            text.line(f"br i1 {spent}, label %spent, label %run, !prof !2")
            text.label("spent")
            text.tail("@leave_spent", "%record", budget)
            text.label("run")
        if shape.counts:
            text.store("%budget", "%cpu", header(block.BUDGET))
        if shape.repeats:
            text.store(budget, "%cpu", header(block.BUDGET))
        status = text.value(f"call i64 @do_{shape.symbol}(i64 %cpu, i64 %record, i64 %tlb)")
        if shape.repeats:
            budget = text.load("%cpu", header(block.BUDGET))
        cases: list[tuple[int, str]] = []
        if shape.leaves:
            cases.append((LEAVE, "leaves"))
        if shape.jumps:
            cases.append((JUMP, "jumps"))
            if shape.annuls:
                cases.append((JUMP_ANNULLED, "jumps_now"))
        if shape.dispatches:
            cases.append((DISPATCH, "dispatches"))
            if self.delayed:
                cases.append((DISPATCH_NEXT, "dispatches_next"))
        if shape.skips:
            cases.append((SKIP, "skips"))
        for position in range(len(shape.targets)):
            cases.append((TAKEN + position, f"taken{position}"))
            if shape.annuls:
                cases.append((TAKEN_ANNULLED + position, f"taken_now{position}"))
        if cases:
            choices = " ".join(f"i64 {value}, label %{label}" for value, label in cases)
            text.line(f"switch i64 {status}, label %on [ {choices} ]")
            text.label("on")
        self._after(text, "%record", shape.size, budget)
        for value, label in cases:
            text.label(label)
            self._ending(text, shape, value, budget)
        body = "\n".join(text.lines)
        return f"define ghccc i64 @{name}({STEP}) nounwind {{\n{body}\n}}\n"

    def _ending(self, text: _Text, shape: Shape, status: int, budget: str) -> None:
        if status == LEAVE:
            text.tail("@leave", "%record", budget)
        elif status in (JUMP, JUMP_ANNULLED):
            self._jump(text, shape.size, budget, annulled=status == JUMP_ANNULLED)
        elif status == DISPATCH:
            if self.record_size is None:
                text.tail("@leave_dispatch", "%record", budget)
            else:
                text.tail("@leave_dispatch", "%next", budget, text.add("%next", self.record_size))
        elif status == DISPATCH_NEXT:
            self._leave_next(text, budget)
        elif status == SKIP:
            self._skip(text, shape, budget)
        else:
            annulled = status >= TAKEN_ANNULLED
            position = status - (TAKEN_ANNULLED if annulled else TAKEN)
            target = text.load("%record", shape.targets[position])
            self._taken(text, target, budget, annulled=annulled)

    def _skip(self, text: _Text, shape: Shape, budget: str) -> None:
        if shape.guard:
            # The instruction that is not executed counts.
            left = text.value("sub i64 %budget, 1")
            spent = text.value(f"icmp slt i64 {left}, 0")
            text.line(f"br i1 {spent}, label %spent, label %pass, !prof !2")
            text.label("spent")
            text.tail("@leave_spent", "%record", left)
            text.label("pass")
            if self.record_size is None:
                size = text.value(f"sext i16 {text.load('%record', shape.skip_slot, 'i16')} to i64")
                behind = text.value(f"add i64 {text.add('%record', shape.size)}, {size}")
                self._go(text, behind, left)
                return
            raise ValueError("guards and delay slots in one target are not supported")
        if self.record_size is None:
            raise ValueError("skip without delay slots")
        # Behind a record of the engine's own lies no record of the instruction behind the one that it
        # stands for.
        operation = text.load("%next", 0, "i16")
        ends = text.value(f"icmp ult i16 {operation}, {block.FIRST_EXECUTOR}")
        text.line(f"br i1 {ends}, label %skip_end, label %skip_on, !prof !2")
        text.label("skip_end")
        text.tail("@leave_skipped", "%next", budget, text.add("%next", self.record_size))
        text.label("skip_on")
        slot = text.add("%next", self.record_size)
        self._go(text, slot, budget, text.add(slot, self.record_size))

    def _leaving(self, name: str, reason: exits.Reason | None, *, refund: bool = False) -> str:
        """Cold: note where the run stopped and return to the run loop; `refund`: what was counted did not
        happen.
        """
        text = _Text(self.delayed)
        if reason is not None:
            text.store(str(int(reason)), "%cpu", header(block.REASON))
        text.store("%record", "%cpu", header(block.EXIT_RECORD))
        if self.delayed:
            text.store("%next", "%cpu", header(block.EXIT_NEXT))
        text.line(f"ret i64 {text.add('%budget', 1) if refund else '%budget'}")
        body = "\n".join(text.lines)
        return f"define ghccc i64 @{name}({STEP}) nounwind noinline cold {{\n{body}\n}}\n"

    def _special(self, name: str, reason: exits.Reason) -> str:
        """The step of an operation of the engine's own that leaves at once."""
        return self._leaving(name, reason)

    def _stub(self) -> str:
        """Try the jump cache where the stub is not to be patched."""
        text = _Text(self.delayed)
        patch = text.load("%record", block.STUB_PATCH)
        fixed = text.value(f"icmp ne i64 {patch}, 0")
        text.line(f"br i1 {fixed}, label %lost, label %try")
        text.label("try")
        pc = text.load("%record", block.END_PC)
        hit, record = self._find(text, pc)
        text.line(f"br i1 {hit}, label %found, label %lost")
        text.label("found")
        self._follow(text, record)
        text.label("lost")
        text.tail("@leave_stub", "%record", "%budget")
        body = "\n".join(text.lines)
        return f"define ghccc i64 @special_stub({STEP}) nounwind {{\n{body}\n}}\n"

    def _follow(self, text: _Text, record: str) -> None:
        """Go on at `record` instead of this record, which counts nothing."""
        if self.record_size is None:
            self._go(text, record, "%budget")
            return
        # In sequence, what follows is what follows there; in a delay slot, `next` is the jump's target and
        # stays.
        behind = text.add("%record", self.record_size)
        sequential = text.value(f"icmp eq i64 %next, {behind}")
        there = text.add(record, self.record_size)
        self._go(text, record, "%budget", text.value(f"select i1 {sequential}, i64 {there}, i64 %next"))

    def _link(self) -> str:
        text = _Text(self.delayed)
        self._follow(text, text.load("%record", block.LINK_RECORD))
        body = "\n".join(text.lines)
        return f"define ghccc i64 @special_link({STEP}) nounwind {{\n{body}\n}}\n"

    def _count(self) -> str:
        """Count the instruction behind, unless the budget is spent: then it is counted when it's executed."""
        text = _Text(self.delayed)
        spent = text.value("icmp slt i64 %budget, 1")
        text.line(f"br i1 {spent}, label %on, label %count, !prof !2")
        text.label("count")
        place = text.load("%record", block.COUNT_ADDRESS)
        text.store(text.value(f"add i64 {text.load(place, 0)}, 1"), place, 0)
        text.line("br label %on")
        text.label("on")
        self._follow(text, text.add("%record", self.record_size or block.PREFIX_SIZE))
        body = "\n".join(text.lines)
        return f"define ghccc i64 @special_count({STEP}) nounwind {{\n{body}\n}}\n"

    def _region(self) -> str:
        """Go on in a translated region."""
        text = _Text(self.delayed)
        entry = text.load("%record", block.REGION_DISTANCE)
        function = text.value(f"inttoptr i64 {text.load(entry, block.REGION_CODE)} to ptr")
        text.tail(function, "%record", "%budget")
        body = "\n".join(text.lines)
        return f"define ghccc i64 @special_region({STEP}) nounwind {{\n{body}\n}}\n"

    def common(self) -> str:
        """The functions that all steps share, defined once an object (they are tiny and private to it)."""
        reasons = {
            "leave": None,
            "leave_spent": exits.Reason.BUDGET,
            "leave_lookup": exits.Reason.LOOKUP,
            "leave_dispatch": exits.Reason.DISPATCH,
        }
        if self.delayed:
            reasons["leave_lookup_next"] = exits.Reason.LOOKUP_NEXT
            reasons["leave_lookup_annulled"] = exits.Reason.LOOKUP
            reasons["leave_skipped"] = exits.Reason.SKIPPED
        texts = [
            self._leaving(name, reason, refund=name in ("leave", "leave_spent")).replace(
                "define", "define internal", 1
            )
            for name, reason in reasons.items()
        ]
        return "\n".join(texts)

    def entry(self, steps: list[str]) -> str:
        """The dispatch table and `isagen_threaded`; `steps` are the executors' steps by number."""
        specials = {
            block.OP_STUB: "special_stub",
            block.OP_LINK: "special_link",
            block.OP_STALE: "special_stale",
            block.OP_BREAK: "special_break",
            block.OP_HOOK: "special_hook",
            block.OP_COUNT: "special_count",
            block.OP_REGION: "special_region",
        }
        reserved = [specials.get(number, "special_stale") for number in range(block.FIRST_EXECUTOR)]
        names = [*reserved, *steps]
        declarations = "\n".join(f"declare ghccc i64 @{name}({_TYPES})" for name in steps)
        pointers = ", ".join(f"ptr @{name}" for name in names)
        text = _Text(self.delayed)
        table = text.value("ptrtoint ptr @isagen_steps to i64")
        cpu = text.value(f"add i64 %s, {block.HEADER_SIZE}")
        tlb = text.load("%s", block.TLB)
        operation = text.load("%record", 0, "i16")
        offset = text.value(f"zext i16 {operation} to i64")
        place = text.value(f"getelementptr ptr, ptr @isagen_steps, i64 {offset}")
        function = text.value(f"load ptr, ptr {place}")
        left = text.value(
            f"call ghccc i64 {function}(i64 {cpu}, i64 %record, i64 {tlb}, i64 {table}, "
            "i64 %budget, i64 %next)"
        )
        text.line(f"ret i64 {left}")
        body = "\n".join(text.lines)
        return f"""{declarations}
@isagen_steps = hidden constant [{len(names)} x ptr] [{pointers}]
{self._special("special_stale", exits.Reason.STALE)}
{self._special("special_break", exits.Reason.BREAKPOINT)}
{self._special("special_hook", exits.Reason.HOOK)}
{self._special("leave_stub", exits.Reason.STUB)}
{self._stub()}
{self._link()}
{self._count()}
{self._region()}
define i64 @isagen_threaded(i64 %s, i64 %record, i64 %next, i64 %budget) nounwind {{
{body}
}}
"""
