"""IR statements as lines of Python: the bodies of executors and of shared functions."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from generator.emit.expression import NotYetError, Writer, number
from generator.emit.layout import Layout, stored_width
from generator.ir import nodes
from generator.ir.effects import (
    DELAY,
    RETIRED,
    TRANSLATIONS,
    WAITING,
    Analysis,
    Sensitive,
    all_expressions,
    statements,
)
from generator.ir.executor import Executor
from generator.ir.lower.builtins import EXTENDED
from generator.ir.nodes import Block, Const, Expr, Local, Stmt
from generator.ir.repeats import AHEAD, Repeat
from generator.ir.simplify import without_dead
from generator.model.target import Function, Register, Target

MEMORY_WIDTHS = (8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Code:
    """A function's body and what it uses."""

    lines: tuple[str, ...]
    primitives: frozenset[str]
    functions: frozenset[str]
    """Shared functions called."""
    builtins: Mapping[str, int]
    """Symbols of the floating-point library called, and how many arguments each takes."""
    names: Mapping[str, str]
    """The Python names of the body's locals."""


class World:
    """What bodies of one target refer to."""

    def __init__(self, target: Target, layout: Layout, analysis: Analysis) -> None:
        self.layout = layout
        self.analysis = analysis
        self.registers: Mapping[str, Register] = {register.name: register for register in target.registers}
        self.functions: Mapping[str, Function] = {function.name: function for function in target.functions}
        self.traps = {trap.name: trap.number for trap in target.traps}
        self.widths = {register.name: stored_width(register) for register in target.registers}
        stepped = [context.name for context in target.contexts if context.next is not None]
        self.stepped = frozenset(stepped)
        self.step_positions = {name: n for n, name in enumerate(n for n in stepped if n != DELAY)}
        """Stepped contexts of the decoder, in its order."""
        self.features = {feature.name: position for position, feature in enumerate(target.features)}
        self.float_policy = target.float_policy
        self.constants: dict[str, int] = {}

    @property
    def sensitive(self) -> Sensitive:
        """Registers that decoding depends on."""
        return self.analysis.sensitive


def identifier(name: str, taken: set[str]) -> str:
    """A Python name like `name` that is not `taken`; it then is."""
    base = re.sub(r"\W+", "_", name).strip("_").lower() or "value"
    if base[0].isdigit() or re.fullmatch(r"t\d+|l", base):
        base = f"v_{base}"
    candidate, count = base, 1
    while candidate in taken or keyword.iskeyword(candidate):
        count += 1
        candidate = f"{base}_{count}"
    taken.add(candidate)
    return candidate


RESERVED = frozenset(("cpu", "record", "tlb", "host", "rest", "outcome", "changed", "before", "int", "bool"))
"""Names that generated functions use themselves."""

FLOAT_SYMBOLS: Mapping[str, str] = {
    "fadd": "sf_f{0}_add",
    "fsub": "sf_f{0}_sub",
    "fmul": "sf_f{0}_mul",
    "fdiv": "sf_f{0}_div",
    "fsqrt": "sf_f{0}_sqrt",
    "fma": "sf_f{0}_fma",
    "feq": "sf_f{0}_eq_signaling",
    "flt": "sf_f{0}_lt_signaling",
    "fle": "sf_f{0}_le_signaling",
    "feq_q": "sf_f{0}_eq_quiet",
    "flt_q": "sf_f{0}_lt_quiet",
    "fle_q": "sf_f{0}_le_quiet",
    "fmin": "sf_f{0}_minimum_number",
    "fmax": "sf_f{0}_maximum_number",
    "fclass": "sf_f{0}_classify",
    "fcvt": "sf_f{1}_to_f{0}",
    "f2s": "sf_f{1}_to_i{0}",
    "f2u": "sf_f{1}_to_u{0}",
    "s2f": "sf_f{0}_from_i{1}",
    "u2f": "sf_f{0}_from_u{1}",
    "froundint": "sf_f{0}_round_to_integral_exact",
}
"""The functions of the floating-point library (`runtime.softfloat.symbols`) by built-in, over its constant
widths.
"""
FLUSH_SHIFT = 11
"""Where the bits that say how denormal numbers are treated lie in a policy (`runtime.softfloat.policy`)."""
TWO_WIDTHS = frozenset(("fcvt", "f2s", "f2u", "s2f", "u2f"))


class _Body:
    """Writes one function's body."""

    def __init__(
        self,
        world: World,
        executor: Executor | None,
        names: dict[str, str],
        taken: set[str],
        body: Block,
    ) -> None:
        self._world = world
        self._executor = executor
        slots = () if executor is None else executor.slots
        self._names = names
        self._taken = taken
        self._used = {expr for expr in all_expressions(body) if isinstance(expr, Local)}
        self.writer = Writer(world.layout, slots, world.constants, self._local, world.widths)
        self.functions: set[str] = set()
        self.builtins: dict[str, int] = {}
        self._target_slots = [n for n, slot in enumerate(slots) if slot.kind == "target"]
        self._outcome = False  # whether a skip is noted in a variable and the end returns it
        self._changes = False  # whether writes to registers that decoding depends on are noted
        self.delayed = False  # the target has delay slots
        self._atomic: list[nodes.Load] | None = None  # in an atomic: what it has read so far
        self.repeat: Repeat | None = None  # how it executes further turns of itself

    def _local(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = identifier(name, self._taken)
        return self._names[name]

    # --- whole bodies ---------------------------------------------------------------------------------------

    def executor(self) -> None:
        """The body of an executor."""
        executor = self._executor
        assert executor is not None
        w = self.writer
        self._changes = executor.effects.ends_block
        self._outcome = _skips(executor.body) and (self._changes or not _ends_in_skips(executor.body))
        if self._outcome:
            w.primitives.add("NEXT")
            w.line("outcome = NEXT")
        if self._changes:
            w.line("changed = 0")
        if executor.pc is not None:
            address = w.value(nodes.Field(self._slot_width(executor.pc), str(executor.pc)))
            w.line(w.call("set_program_counter", "cpu", address))
        finished = self._block(executor.body, last=True)
        if not finished:
            self._finish(executor)
        if self._changes and not any("changed" in line for line in w.lines if line.strip() != "changed = 0"):
            w.lines.remove("    " * w.indent + "changed = 0")  # each path leaves before it is asked for

    def _slot_width(self, position: int) -> int:
        assert self._executor is not None
        return self._executor.slots[position].width

    def _finish(self, executor: Executor) -> None:
        w = self.writer
        w.primitives.add("NEXT")
        if self._changes:
            if executor.effects.calls:
                w.line(f"changed |= {w.call('attention', 'cpu')}")
            assert executor.next_pc is not None
            slot = nodes.Field(self._slot_width(executor.next_pc), str(executor.next_pc))
            w.line("if changed != 0 and outcome == NEXT:" if self._outcome else "if changed != 0:")
            w.indent += 1
            w.line(f"return {w.call('dispatch', 'cpu', w.value(slot))}")
            w.indent -= 1
        w.line("return outcome" if self._outcome else "return NEXT")

    def function(self, body: Block) -> None:
        """The body of a shared function."""
        w = self.writer
        effects = self._world.analysis.body(body)
        direct = any(
            isinstance(stmt, nodes.Load | nodes.Store) and stmt.space != "phys" for stmt in statements(body)
        )
        if direct and (effects.loads or effects.stores):
            w.line(f"tlb = {w.call('translations', 'cpu')}")
        self._changes = True
        if not self._block(body, last=True):
            w.primitives.add("DONE")
            w.line("return DONE")

    # --- statements -----------------------------------------------------------------------------------------

    def _block(self, block: Block, *, last: bool) -> bool:
        """Write `block`; whether control never reaches its end. `last`: nothing follows it."""
        for position, stmt in enumerate(block):
            if self._statement(stmt, last=last and position == len(block) - 1):
                return True
        return False

    def _nested(self, block: Block, *, last: bool) -> bool:
        w = self.writer
        w.indent += 1
        start = len(w.lines)
        ended = self._block(block, last=last)
        if len(w.lines) == start:
            w.line("pass")
        w.indent -= 1
        return ended

    def _statement(self, stmt: Stmt, *, last: bool) -> bool:
        w = self.writer
        match stmt:
            case nodes.Let(local=local, value=value) | nodes.Assign(local=local, value=value):
                text = w.value(value)
                w.line(f"{self._local(local.name)} = {text}")
            case nodes.WriteReg(register=name, index=index, value=value):
                self._write(name, index, value)
            case nodes.Load():
                self._load(stmt)
            case nodes.Store():
                self._store(stmt)
            case nodes.If(condition=condition, then=then, otherwise=otherwise):
                if self.repeat is not None and stmt is self.repeat.again:
                    self._turns_ahead(self.repeat)
                return self._if(condition, then, otherwise, last=last)
            case nodes.ForRange(local=local, first=first, last=end, body=body):
                self._for_range(local, first, end, body)
            case nodes.ForSet(local=local, mask=members, body=body):
                self._for_set(local, members, body)
            case nodes.Atomic(body=body):
                return self._atomically(body, last=last)
            case nodes.Goto():
                self._goto(stmt)
                return True
            case nodes.Skip(condition=condition):
                return self._skip(condition)
            case nodes.Raise():
                self._raise(stmt)
                return True
            case nodes.CallStmt(builtin=True):
                self._builtin(stmt)
            case nodes.CallStmt():
                self._call(stmt)
            case nodes.Return(values=values):
                self._return(values)
                return True
        return False

    def _return_if(self, condition: str, text: str) -> None:
        w = self.writer
        w.line(f"if {condition}:")
        w.indent += 1
        w.line(f"return {text}")
        w.indent -= 1

    def _leave(self) -> str:
        self.writer.primitives.add("LEAVE")
        return "LEAVE"

    def _write(self, name: str, index: Expr | None, value: Expr) -> None:
        w = self.writer
        wide = "wide_" if value.width > 64 else ""
        if name == "":
            assert isinstance(index, nodes.Field) and self._executor is not None
            slot = self._executor.slots[int(index.name)]
            head = f"set_{wide}register(cpu, record, {slot.offset}, "
            text = w.within(w.value(value), 100 - len(head) - 4 * w.indent)
            w.line(w.call(f"set_{wide}register", "cpu", "record", str(slot.offset), text))
            return
        if name == "pc":
            w.line(w.call("set_program_counter", "cpu", w.argument(value)))
            return
        if name == RETIRED:
            w.line(w.call("set_retired", "cpu", w.argument(value)))
            return
        place = self._destination(name, index)
        text = w.within(w.value(value), 60)
        bits = self._world.sensitive.bits(name) if self._changes else 0
        if bits and not wide:
            self._note_change(name, place, text)
        else:
            w.line(w.call(f"set_{wide}state", "cpu", place, text))

    def _destination(self, name: str, index: Expr | None) -> str:
        """Where a write goes: the sink, if a dynamic index is the zero register's."""
        w = self.writer
        register = self._world.registers.get(name)  # None: a stepped context
        zero = None if register is None else register.zero
        place = w.place(name, index)
        if zero is None or index is None or isinstance(index, Const):
            return place
        self._world.constants["SINK"] = self._world.layout.sink
        test = w.condition(nodes.Binary(1, "eq", index, Const(index.width, zero)))
        return w.call("pick", test, "SINK", place)

    def _note_change(self, name: str, place: str, text: str) -> None:
        """Write a register that decoding or translation depends on, and note whether that changed."""
        w = self.writer
        sensitive = self._world.sensitive
        decoding, translation = sensitive.decoding.get(name, 0), sensitive.translation.get(name, 0)
        if name in (WAITING, TRANSLATIONS) or name in self._world.stepped:
            w.line(w.call("set_state", "cpu", place, text))
            w.primitives.add(bits := "FORGET_TRANSLATIONS" if translation else "DECODING_CHANGED")
            w.line(w.call("notice", "cpu", "1", "1", bits))
            if name in self._world.step_positions:
                self._note_step(self._world.step_positions[name])
            if self._executor is not None:
                w.line("changed = 1")
            return
        w.line(f"before = {w.call('state', 'cpu', place)}")
        w.line(w.call("set_state", "cpu", place, text))
        after = w.call("state", "cpu", place)
        if self._executor is None or translation:
            w.line(f"before ^= {after}")
            if translation:
                w.primitives.add("TRANSLATION_CHANGED")
                w.line(w.call("notice", "cpu", "before", number(translation), "TRANSLATION_CHANGED"))
            if decoding and self._executor is None:
                w.primitives.add("DECODING_CHANGED")
                w.line(w.call("notice", "cpu", "before", number(decoding), "DECODING_CHANGED"))
            if self._executor is not None:
                w.line(f"changed |= before & {number(decoding | translation)}")
        else:
            w.line(f"changed |= (before ^ {after}) & {number(decoding)}")

    def _note_step(self, position: int) -> None:
        """Tell the run loop that the state's value of a stepped context holds behind this instruction."""
        w = self.writer
        w.primitives.add("STEPPED")
        w.line(w.call("notice", "cpu", "1", "1", f"STEPPED << {position}" if position else "STEPPED"))

    def _load(self, stmt: nodes.Load) -> None:
        w = self.writer
        width = stmt.local.width
        bytes_ = self._bytes(width)
        address = w.argument(stmt.address)
        if stmt.space == "phys":
            host = w.call("readable_physical", "cpu", address, bytes_)
        else:
            access = "writable" if stmt.probe_write else "readable"
            host = w.call(access, "cpu", "tlb", address, bytes_)
        w.line(f"host = {host}")
        self._return_if("host == 0", self._leave())
        if self._atomic is not None:
            self._atomic.append(stmt)
        if stmt.local in self._used or (self._atomic is not None and stmt.probe_write):
            read = w.call(f"read{width}{self._order(stmt.little, width)}", "host")
            w.line(f"{self._local(stmt.local.name)} = {read}")

    def _store(self, stmt: nodes.Store) -> None:
        w = self.writer
        width = stmt.value.width
        self._bytes(width)
        name = f"write{width}{self._order(stmt.little, width)}"
        address, value = w.argument(stmt.address), w.argument(stmt.value)
        read = self._read_before(stmt)
        if stmt.space == "phys":
            written = w.call(f"{name}_physical", "cpu", address, value)
        elif read is not None:
            expected = self._local(read.local.name)
            written = w.call(name.replace("write", "exchange"), "cpu", "tlb", address, expected, value)
        else:
            written = w.call(name, "cpu", "tlb", address, value)
        self._return_if(f"{written} == 0", self._leave())

    def _atomically(self, body: Block, *, last: bool) -> bool:
        """What writes where it has read writes only if nobody else has written there since; else the
        instruction is executed anew. An empty body is a fence.
        """
        if not body:
            self.writer.line(self.writer.call("fence"))
            return False
        self._atomic = []
        try:
            return self._block(body, last=last)
        finally:
            self._atomic = None

    def _read_before(self, store: nodes.Store) -> nodes.Load | None:
        """In an atomic: what read the place that is written."""
        for load in reversed(self._atomic or ()):
            if (
                load.probe_write
                and load.address == store.address
                and load.space == store.space
                and load.little == store.little
                and load.local.width == store.value.width
            ):
                return load
        return None

    def _bytes(self, width: int) -> str:
        if width not in MEMORY_WIDTHS:
            raise NotYetError(f"an access to {width} bits of memory")
        return str(width // 8)

    def _order(self, little: Expr, width: int) -> str:
        if not isinstance(little, Const):
            raise NotYetError("an access whose byte order is known only at run time")
        return "" if little.value or width == 8 else "_big"

    def _if(self, condition: Expr, then: Block, otherwise: Block, *, last: bool) -> bool:
        w = self.writer
        w.line(f"if {w.condition(condition)}:")
        ended = self._nested(then, last=last)
        if not otherwise:
            return False
        if ended:
            return self._block(otherwise, last=last)
        w.line("else:")
        return self._nested(otherwise, last=last) and ended

    def _for_range(self, local: Local, first: int, last: int, body: Block) -> None:
        w = self.writer
        name = self._local(local.name)
        up = first <= last
        w.line(f"{name} = {first}")
        w.line(f"while {name} {'<=' if up else '>='} {last}:")
        self._nested(body, last=False)
        w.indent += 1
        w.line(f"{name} {'+' if up else '-'}= 1")
        w.indent -= 1

    def _for_set(self, local: Local, members: Expr, body: Block) -> None:
        w = self.writer
        if members.width > 64:
            raise NotYetError(f"a loop over a set of {members.width} bits")
        rest = identifier("rest_2" if "rest" not in self._taken else "rest", self._taken)
        w.line(f"{rest} = {w.value(members)}")
        w.line(f"while {rest} != 0:")
        w.indent += 1
        w.line(f"{self._local(local.name)} = {w.call('ctz', rest)}")
        w.line(f"{rest} &= {rest} - 1")
        w.indent -= 1
        self._nested(body, last=False)

    def _turns_ahead(self, repeat: Repeat) -> None:
        """Execute further turns at once, as many as nothing unusual can happen in."""
        w = self.writer
        assert self._executor is not None
        at, size = str(self._executor.slots[repeat.target].offset), str(repeat.size)
        w.line(f"if {w.condition(repeat.again.condition)}:")
        w.indent += 1
        step, turns = w.argument(repeat.step), w.argument(repeat.turns)
        for pointer in repeat.pointers:
            turns = w.within(w.call("nearby", turns, w.argument(pointer), step, size), 0)
        if repeat.source is not None:
            name, first = "copy_ahead", w.argument(repeat.source)
        else:
            assert repeat.value is not None
            name, first = "fill_ahead", w.argument(repeat.value)
        destination = w.argument(repeat.destination)
        call = w.call(name, "cpu", "record", at, size, step, first, destination, turns)
        w.line(f"{self._local(AHEAD.name)} = {call}")
        for write in repeat.advance:
            self._write(write.register, write.index, write.value)
        w.indent -= 1

    # --- ends -----------------------------------------------------------------------------------------------

    def _goto(self, stmt: nodes.Goto) -> None:
        w = self.writer
        assert self._executor is not None
        # Without delay in a target with delay slots: at once, like an annulled slot.
        annul: Expr = Const(1, 0)
        if self.delayed:
            annul = Const(1, 1) if not stmt.delay else stmt.annul if stmt.annul is not None else annul
        if isinstance(stmt.target, nodes.Field) and int(stmt.target.name) in self._target_slots:
            position = self._target_slots.index(int(stmt.target.name))
            w.line(f"return {self._choice(annul, self._taken_text('TAKEN', position), position)}")
            return
        target = w.argument(stmt.target)
        if self._changes:
            at_once = not self.delayed or annul == Const(1, 1)
            if at_once:  # the state's stepped contexts are at rest while code runs, as they are behind jumps
                for position in self._world.step_positions.values():
                    self._note_step(position)
            w.line(f"return {w.call('dispatch' if at_once else 'dispatch_next', 'cpu', target)}")
            return
        if isinstance(annul, Const):
            w.line(f"return {w.call('jump_annulled' if annul.value else 'jump', 'cpu', target)}")
            return
        w.line(w.call("jump", "cpu", target))
        w.primitives |= {"JUMP", "JUMP_ANNULLED"}
        w.line(f"return {w.call('pick', w.condition(annul), 'JUMP_ANNULLED', 'JUMP')}")

    def _taken_text(self, base: str, position: int) -> str:
        self.writer.primitives.add(base)
        return base if position == 0 else f"{base} + {position}"

    def _choice(self, annul: Expr, taken: str, position: int) -> str:
        if isinstance(annul, Const):
            return self._taken_text("TAKEN_ANNULLED", position) if annul.value else taken
        w = self.writer
        return w.call("pick", w.condition(annul), self._taken_text("TAKEN_ANNULLED", position), taken)

    def _skip(self, condition: Expr) -> bool:
        w = self.writer
        w.primitives.add("SKIP")
        text = "outcome = SKIP" if self._outcome else "return SKIP"
        if isinstance(condition, Const):
            if condition.value:
                w.line(text)
            return bool(condition.value) and not self._outcome
        w.line(f"if {w.condition(condition)}:")
        w.indent += 1
        w.line(text)
        w.indent -= 1
        return False

    def _raise(self, stmt: nodes.Raise) -> None:
        w = self.writer
        raised = w.call("trap", "cpu", str(self._world.traps[stmt.trap]), w.argument(stmt.code))
        w.line(f"{raised}  # {stmt.trap}")
        for position, argument in enumerate(stmt.arguments):
            w.line(w.call("trap_argument", "cpu", str(position), w.argument(argument)))
        w.line(f"return {self._leave()}")

    def _return(self, values: tuple[Expr, ...]) -> None:
        w = self.writer
        for position, value in enumerate(values):
            if value.width > 64:
                raise NotYetError("a shared function with a result of more than 64 bits")
            w.line(w.call("set_result", "cpu", str(position), w.argument(value)))
        w.primitives.add("DONE")
        w.line("return DONE")

    # --- calls ----------------------------------------------------------------------------------------------

    def _call(self, stmt: nodes.CallStmt) -> None:
        w = self.writer
        self.functions.add(stmt.function)
        if any(value.width > 64 for value in (*stmt.arguments, *stmt.results)):
            raise NotYetError("a shared function with values of more than 64 bits")
        arguments = w.fit(stmt.function, ["cpu", *(w.argument(argument) for argument in stmt.arguments)])
        text = f"{stmt.function}({', '.join(arguments)})"
        if self._world.analysis.function(stmt.function).may_leave:
            self._return_if(f"{text} != 0", self._leave())
        else:
            w.line(text)
        for position, local in enumerate(stmt.results):
            if local in self._used:
                w.line(f"{self._local(local.name)} = {w.call('result', 'cpu', str(position))}")

    def _extended(self, stmt: nodes.CallStmt) -> None:
        """A built-in on numbers of 80 bits, which are passed in two parts (`runtime.softfloat.symbols`)."""
        w = self.writer
        symbol = f"sf_{stmt.function}"
        operands: list[str] = []
        for argument in stmt.arguments:
            text = w.within(w.argument(argument), 24)
            if argument.width > 64:
                operands += (w.call("low128", text), w.call("low128", w.call("shr128", text, "64")))
            else:
                operands.append(text)
        self.builtins[symbol] = len(operands) + 2
        arguments = w.fit(symbol, ["FLOAT_POLICY", *operands, w.call("float_flags_address", "cpu")])
        text = f"{symbol}({', '.join(arguments)})"
        flags = w.call("float_flags", "cpu")
        value = stmt.results[0]
        if value.width > 64:
            low = w.within(text, 0)
            text = w.call("wide", low, w.call("shr", flags, "32"))
        w.line(f"{self._local(value.name)} = {text}")
        for place, (result, shift) in enumerate(zip(stmt.results[1:], (0, 8), strict=False)):
            if result in self._used:
                moved = flags if place == 0 else w.call("shr", flags, str(shift))
                w.line(f"{self._local(result.name)} = {moved} & {(1 << result.width) - 1}")

    def _builtin(self, stmt: nodes.CallStmt) -> None:
        if stmt.function in EXTENDED:
            self._extended(stmt)
            return
        w = self.writer
        count = 2 if stmt.function in TWO_WIDTHS else 1
        widths = [argument.value for argument in stmt.arguments[:count] if isinstance(argument, Const)]
        if stmt.function not in FLOAT_SYMBOLS or len(widths) != count:
            raise NotYetError(f"the built-in {stmt.function}")
        symbol = FLOAT_SYMBOLS[stmt.function].format(*widths)
        self.builtins[symbol] = len(stmt.arguments) - count + 1
        operands = [w.argument(argument) for argument in stmt.arguments[count:-1]]
        policy = self._policy(stmt.arguments[-1])
        arguments = w.fit(symbol, [policy, *operands, w.call("float_flags_address", "cpu")])
        text = ", ".join(arguments)
        value = stmt.results[0]
        w.line(f"{self._local(value.name)} = {symbol}({text})")
        for flags in stmt.results[1:]:
            if flags in self._used:
                w.line(f"{self._local(flags.name)} = {w.call('float_flags', 'cpu')}")

    def _policy(self, mode: Expr) -> str:
        """The target's policy, with the treatment of denormal numbers."""
        if mode == Const(mode.width, 0):
            return "FLOAT_POLICY"
        shifted = nodes.Binary(16, "shl", nodes.Unary(16, "zext", mode), Const(4, FLUSH_SHIFT))
        return self.writer.within(f"FLOAT_POLICY | {self.writer.argument(shifted)}", 40)


def _skips(block: Block) -> bool:
    return any(isinstance(stmt, nodes.Skip) for stmt in statements(block))


def _ends_in_skips(block: Block) -> bool:
    """Whether skips stand only where nothing else follows."""
    if any(_skips((stmt,)) for stmt in block[:-1]):
        return False
    match block[-1:]:
        case (nodes.If(then=then, otherwise=otherwise),):
            return _ends_in_skips(then) and _ends_in_skips(otherwise)
        case (nodes.Atomic(body=body),):
            return _ends_in_skips(body)
        case (nodes.ForRange(body=body) | nodes.ForSet(body=body),):
            return not _skips(body)
    return True


def executor_code(world: World, executor: Executor, repeat: Repeat | None, *, delayed: bool) -> Code:
    """The Python body of an executor; `repeat`: how it repeats itself, if it does; `delayed`: its target has
    delay slots.
    """

    def write(taken: set[str]) -> Code:
        names = {f"v{n}": identifier(name, taken) for n, name in enumerate(executor.locals)}
        body = _Body(world, executor, names, taken, executor.body)
        body.delayed = delayed
        body.repeat = repeat
        body.executor()
        return _code(body, names)

    return _without_clashes(world, write)


def function_code(world: World, function: Function) -> Code:
    """The Python body of a shared function."""
    kept = without_dead(function.body)

    def write(taken: set[str]) -> Code:
        names = {parameter.name: identifier(parameter.name, taken) for parameter in function.parameters}
        body = _Body(world, None, names, taken, kept)
        body.function(kept)
        return _code(body, names)

    return _without_clashes(world, write)


def _without_clashes(world: World, write: Callable[[set[str]], Code]) -> Code:
    """Write a body; again, with other names, if locals hide primitives that it uses."""
    taken = set(RESERVED) | set(world.functions)
    code = write(set(taken))
    if code.primitives & set(code.names.values()):
        code = write(taken | code.primitives)
    return code


def _code(body: _Body, names: Mapping[str, str]) -> Code:
    w = body.writer
    return Code(tuple(w.lines), frozenset(w.primitives), frozenset(body.functions), body.builtins, names)
