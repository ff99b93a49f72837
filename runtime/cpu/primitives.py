# mypy: disable-error-code="no-untyped-call, attr-defined"
"""What generated executors are made of. Build time only: imports numba; nothing here runs in Python.

Every value is a 64-bit integer, zero-extended from its width; widths of 65 to 128 bits are *wide* values
(pairs, low half first), those up to 256 bits *huge* ones (four parts), up to 512 *giant* ones (eight). A
primitive becomes a few LLVM instructions in the executor's code; constant arguments fold away.

Executors
---------
An executor is a function ``(cpu, record, tlb) -> int``:

* `cpu`: where the registers are, that is the CPU block plus `block.HEADER_SIZE`; the header lies below it;
* `record`: the decoded instruction; its slots are read with `i16`, `i32`, `i64`, and
  `register`/`set_register` for the register whose offset a slot holds;
* `tlb`: the software TLB in use (`block.TLB`).

It returns what happens next:

* `NEXT`: the next record;
* ``TAKEN + i``: the record in the executor's i-th target slot (i < 4); delay slots: after the next record;
* ``jump(cpu, pc)``: the instruction at `pc`, through the jump cache; delay slots: after the next record;
* ``dispatch(cpu, pc)``: the instruction at `pc`, through the run loop, since decoding may have changed
  (``dispatch_next``: behind the delay slot);
* `LEAVE`: not executed: a trap or a failed access, which has been written into the header;
* `SKIP`: the record behind the next one (delay slots: the next instruction is annulled; guards: not
  executed);
* `TAKEN_ANNULLED` + i, ``jump_annulled(cpu, pc)``: delay slots: the jump takes place at once.

The threaded code around an executor (`runtime.cpu.threading`) counts the instruction and goes on to the next
record; how executors end folds into it, so that no status is left in the machine code.

Memory
------
``readable(cpu, tlb, address, size)`` is the host address of `size` bytes at `address`, or 0 if the
instruction must leave; ``writable`` the same for read-modify-write; ``write8 ... write128`` write, or return
0 if the instruction must leave. ``exchange8 ... exchange128`` write where memory still holds what was read
there (`generator.ir.nodes.Atomic`); where it doesn't, the instruction leaves, too, and is executed anew. The
fast path is inline (the TLB of `block.TLB`), the slow one a call of the
cold code (`runtime.cpu.symbols`).
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from runtime.cpu import block, exits, symbols

NEXT: Final = 0
LEAVE: Final = 1
JUMP: Final = 2
DISPATCH: Final = 3
SKIP: Final = 4
JUMP_ANNULLED: Final = 5
DISPATCH_NEXT: Final = 6
TAKEN: Final = 8
DONE: Final = symbols.STATUS_DONE
"""What shared functions return; `LEAVE` means that they raised."""
TAKEN_ANNULLED: Final = 12

FORGET_TRANSLATIONS: Final = 1
DECODING_CHANGED: Final = 2
TRANSLATION_CHANGED: Final = 4
STEPPED: Final = 8
"""Bits of `block.ATTENTION`: all cached translations must go; an input of decoding or of `translate` changed;
from `STEPPED` up, one for each stepped context: the state has its value behind the instruction.
"""

INT: Final = types.int64
BOOL: Final = types.boolean
NONE: Final = types.none
WIDE: Final = types.UniTuple(types.int64, 2)
HUGE: Final = types.UniTuple(types.int64, 4)
GIANT: Final = types.UniTuple(types.int64, 8)

_I1, _I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
_INTEGERS: Final = {n: ir.IntType(n) for n in (8, 16, 32, 64, 128, 256, 512)}

Value = Any
"""An LLVM value."""


_LLVM_TYPES: Final = {INT: _I64, BOOL: _I1, NONE: ir.VoidType(), WIDE: ir.ArrayType(_I64, 2)}
_PARTS: Final[dict[str, tuple[Callable[..., Any], Any]]] = {}
"""Primitives that stay calls until the executors are put to use: name -> what builds the code, LLVM type."""
PART_PREFIX: Final = "isagen."


def primitive(result: Any, *arguments: Any, part: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Make a numba intrinsic of fixed types from a function that builds its LLVM code: ``(builder, *values)
    -> value``.

    `part`: it becomes a call of a function of its own (`PART_PREFIX` and its name). Threaded code gets these
    from `definitions`, to be inlined; the translator puts code of its own in their place.
    """

    def decorate(build: Callable[..., Any]) -> Any:
        signature = result(*arguments)
        name = PART_PREFIX + build.__name__
        if part:
            kind = ir.FunctionType(_LLVM_TYPES[result], [_LLVM_TYPES[a] for a in arguments])
            _PARTS[name] = build, kind

        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            if part:
                function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
                made = builder.call(function, values)
            else:
                made = build(builder, *values)
            return context.get_dummy_value() if result is NONE else made

        def definition(_typing_context: Any, *_types: Any) -> Any:
            return signature, generate

        definition.__name__ = build.__name__
        definition.__qualname__ = build.__qualname__
        definition.__doc__ = build.__doc__
        # numba wants named parameters: the typing context takes the builder's place.
        definition.__signature__ = inspect.signature(build)
        return intrinsic(definition)

    return decorate


def definitions() -> str:
    """LLVM text that defines the functions of the primitives that are parts, to be inlined."""
    module = ir.Module()
    for name, (build, kind) in _PARTS.items():
        function = ir.Function(module, kind, name)
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        made = build(builder, *function.args)
        if made is None:
            builder.ret_void()
        else:
            builder.ret(made)
    return str(module)


def external(symbol: str, count: int) -> Any:
    """A C function of `count` integers that returns one: a shared function, or one of the floating-point
    library.
    """
    return types.ExternalFunction(symbol, INT(*[INT] * count))


def const(value: int) -> Any:
    """An LLVM constant of 64 bits."""
    return ir.Constant(_I64, value)


def _pointer(b: Any, address: Value, kind: Any) -> Value:
    return b.inttoptr(address, kind.as_pointer())


def _at(b: Any, address: Value, offset: int, kind: Any = _I64) -> Value:
    return _pointer(b, b.add(address, const(offset)), kind)


def _read(b: Any, address: Value, bits: int, *, fixed: bool = False) -> Value:
    loaded = b.load(_pointer(b, address, _INTEGERS[bits]), align=1 if bits > 64 else bits // 8)
    if fixed:  # slots of a record never change while it runs
        loaded.set_metadata("invariant.load", b.module.add_metadata([]))
    return loaded


def header(offset: int) -> int:
    """The offset from `cpu` of a header field (`runtime.cpu.block`)."""
    return offset - block.HEADER_SIZE


# --- records and registers ----------------------------------------------------------------------------------


@primitive(INT, INT, INT, part=True)
def i16(b: Any, record: Value, at: Value) -> Value:
    """The signed 16-bit number at byte `at` of the record."""
    return b.sext(_read(b, b.add(record, at), 16, fixed=True), _I64)


@primitive(INT, INT, INT, part=True)
def i32(b: Any, record: Value, at: Value) -> Value:
    """The signed 32-bit number at byte `at` of the record."""
    return b.sext(_read(b, b.add(record, at), 32, fixed=True), _I64)


@primitive(INT, INT, INT, part=True)
def i64(b: Any, record: Value, at: Value) -> Value:
    """The 64-bit number at byte `at` of the record."""
    return _read(b, b.add(record, at), 64, fixed=True)


def _register_address(b: Any, cpu: Value, record: Value, at: Value) -> Value:
    offset = b.zext(_read(b, b.add(record, at), 16, fixed=True), _I64)
    return b.add(cpu, offset)


@primitive(INT, INT, INT, INT, part=True)
def register(b: Any, cpu: Value, record: Value, at: Value) -> Value:
    """The register whose offset is at byte `at` of the record."""
    return _read(b, _register_address(b, cpu, record, at), 64)


@primitive(NONE, INT, INT, INT, INT, part=True)
def set_register(b: Any, cpu: Value, record: Value, at: Value, value: Value) -> None:
    """Write the register whose offset is at byte `at` of the record."""
    b.store(value, _pointer(b, _register_address(b, cpu, record, at), _I64))


@primitive(INT, INT, INT, part=True)
def register_offset(b: Any, record: Value, at: Value) -> Value:
    """The register offset at byte `at` of the record, for `state` and `set_state`."""
    return b.zext(_read(b, b.add(record, at), 16, fixed=True), _I64)


@primitive(WIDE, INT, INT, INT, part=True)
def wide_register(b: Any, cpu: Value, record: Value, at: Value) -> Value:
    """A register of 65 to 128 bits."""
    return _unpack(b, _read(b, _register_address(b, cpu, record, at), 128), 2)


@primitive(NONE, INT, INT, INT, WIDE, part=True)
def set_wide_register(b: Any, cpu: Value, record: Value, at: Value, value: Value) -> None:
    """Write a register of 65 to 128 bits."""
    address = _pointer(b, _register_address(b, cpu, record, at), _INTEGERS[128])
    b.store(_pack(b, value), address, align=8)


@primitive(INT, INT, INT, part=True)
def state(b: Any, cpu: Value, offset: Value) -> Value:
    """The register at a byte offset."""
    return _read(b, b.add(cpu, offset), 64)


@primitive(NONE, INT, INT, INT, part=True)
def set_state(b: Any, cpu: Value, offset: Value, value: Value) -> None:
    """Write the register at a byte offset."""
    b.store(value, _pointer(b, b.add(cpu, offset), _I64))


@primitive(WIDE, INT, INT, part=True)
def wide_state(b: Any, cpu: Value, offset: Value) -> Value:
    """The register of 65 to 128 bits at a byte offset."""
    return _unpack(b, _read(b, b.add(cpu, offset), 128), 2)


@primitive(NONE, INT, INT, WIDE, part=True)
def set_wide_state(b: Any, cpu: Value, offset: Value, value: Value) -> None:
    """Write the register of 65 to 128 bits at a byte offset."""
    b.store(_pack(b, value), _pointer(b, b.add(cpu, offset), _INTEGERS[128]), align=8)


# --- leaving ------------------------------------------------------------------------------------------------


def _set_header(b: Any, cpu: Value, field: int, value: Value) -> None:
    b.store(value, _at(b, cpu, header(field)))


@primitive(INT, INT, INT)
def jump(b: Any, cpu: Value, target: Value) -> Value:
    """End with a jump to `target`."""
    _set_header(b, cpu, block.PC, target)
    return const(JUMP)


@primitive(INT, INT, INT)
def jump_annulled(b: Any, cpu: Value, target: Value) -> Value:
    """End with a jump to `target` at once, without the delay slot."""
    _set_header(b, cpu, block.PC, target)
    return const(JUMP_ANNULLED)


@primitive(INT, INT, INT)
def dispatch(b: Any, cpu: Value, target: Value) -> Value:
    """End, and go on at `target` by way of the run loop."""
    _set_header(b, cpu, block.PC, target)
    return const(DISPATCH)


@primitive(INT, INT, INT)
def dispatch_next(b: Any, cpu: Value, target: Value) -> Value:
    """End with a jump to `target` behind the delay slot, by way of the run loop."""
    _set_header(b, cpu, block.PC, target)
    field = _at(b, cpu, header(block.ATTENTION))
    b.store(b.or_(b.load(field), const(DECODING_CHANGED)), field)
    return const(DISPATCH_NEXT)


@primitive(INT, INT)
def program_counter(b: Any, cpu: Value) -> Value:
    """The program counter in the header: what shared functions see."""
    return b.load(_at(b, cpu, header(block.PC)))


@primitive(NONE, INT, INT)
def set_program_counter(b: Any, cpu: Value, value: Value) -> None:
    """Write the program counter in the header."""
    _set_header(b, cpu, block.PC, value)


@primitive(NONE, INT, INT, INT, part=True)
def trap(b: Any, cpu: Value, number: Value, code: Value) -> None:
    """Note a trap in the header; then leave."""
    _set_header(b, cpu, block.TRAP_NUMBER, number)
    _set_header(b, cpu, block.TRAP_CODE, code)
    _set_header(b, cpu, block.REASON, const(exits.Reason.TRAP))


@primitive(NONE, INT, INT, INT, part=True)
def trap_argument(b: Any, cpu: Value, position: Value, value: Value) -> None:
    """Note an argument of a trap."""
    address = b.add(b.add(cpu, b.shl(position, const(3))), const(header(block.TRAP_ARGUMENTS)))
    b.store(value, _pointer(b, address, _I64))


@primitive(INT, INT, INT)
def result(b: Any, cpu: Value, position: Value) -> Value:
    """A result of the shared function called last."""
    address = b.add(b.add(cpu, b.shl(position, const(3))), const(header(block.RESULTS)))
    return b.load(_pointer(b, address, _I64))


@primitive(NONE, INT, INT, INT)
def set_result(b: Any, cpu: Value, position: Value, value: Value) -> None:
    """A shared function leaves a result."""
    address = b.add(b.add(cpu, b.shl(position, const(3))), const(header(block.RESULTS)))
    b.store(value, _pointer(b, address, _I64))


@primitive(INT, INT)
def float_flags_address(b: Any, cpu: Value) -> Value:
    """Where the floating-point library leaves the exception flags: the last of the results."""
    return b.add(cpu, const(header(block.RESULTS + 8 * (block.RESULT_COUNT - 1))))


@primitive(INT, INT, part=True)
def float_flags(b: Any, cpu: Value) -> Value:
    """The exception flags of the floating-point function called last."""
    return b.load(_at(b, cpu, header(block.RESULTS + 8 * (block.RESULT_COUNT - 1))))


@primitive(NONE, INT, INT, INT, INT)
def notice(b: Any, cpu: Value, difference: Value, mask: Value, bits: Value) -> None:
    """Where a masked difference is not 0, or `bits` into `block.ATTENTION`."""
    field = _at(b, cpu, header(block.ATTENTION))
    changed = b.icmp_unsigned("!=", b.and_(difference, mask), const(0))
    old = b.load(field)
    b.store(b.select(changed, b.or_(old, bits), old), field)


@primitive(INT, INT)
def attention(b: Any, cpu: Value) -> Value:
    """What `notice` noted since the run loop looked."""
    return b.load(_at(b, cpu, header(block.ATTENTION)))


@primitive(INT, INT)
def translations(b: Any, cpu: Value) -> Value:
    """The software TLB in use, for shared functions."""
    return b.load(_at(b, cpu, header(block.TLB)))


@primitive(INT, INT)
def features(b: Any, cpu: Value) -> Value:
    """Which of the target's first 64 features are switched on."""
    return b.load(_at(b, cpu, header(block.FEATURES)))


def _spent(b: Any, cpu: Value) -> Value:
    """Instructions executed since the run loop was entered, without this one."""
    entered, left = (b.load(_at(b, cpu, header(field))) for field in (block.ENTRY_BUDGET, block.BUDGET))
    return b.sub(entered, left)


@primitive(INT, INT)
def retired(b: Any, cpu: Value) -> Value:
    """Instructions executed before this one. Executors that use it have noted the budget (`Shape.counts`)."""
    return b.add(b.load(_at(b, cpu, header(block.RETIRED))), _spent(b, cpu))


@primitive(NONE, INT, INT)
def set_retired(b: Any, cpu: Value, value: Value) -> None:
    """Make `value` the number of instructions executed before this one."""
    _set_header(b, cpu, block.RETIRED, b.sub(value, _spent(b, cpu)))


# --- memory -------------------------------------------------------------------------------------------------


def _cold_call(b: Any, name: str, cpu: Value, *arguments: Value) -> Value:
    kind = ir.FunctionType(_I64, [_I64] * (1 + len(arguments)))
    function = b.module.globals.get(name)
    if function is None:
        function = ir.Function(b.module, kind, name)
        function.attributes.add("cold")
        function.attributes.add("nounwind")
    base = b.sub(cpu, const(block.HEADER_SIZE))
    return b.call(function, [base, *arguments])


def _entry(b: Any, tlb: Value, address: Value, *, write: bool) -> Value:
    offset = b.and_(b.lshr(address, const(8)), const(block.TLB_OFFSET_MASK))
    fold = b.and_(b.lshr(address, const(block.TLB_FOLD_SHIFT)), const(block.TLB_FOLD_MASK))
    entry = b.add(tlb, b.xor(offset, fold))
    return b.add(entry, const(block.TLB_WRITE)) if write else entry


def _hits(b: Any, entry: Value, address: Value, size: Value) -> Value:
    last = b.add(address, b.sub(size, const(1)))
    tag = b.load(_pointer(b, entry, _I64))
    hit = b.icmp_unsigned("==", tag, b.and_(last, const(-4096)))
    expect = _declare(b.module, "llvm.expect.i1", _I1, _I1, _I1)
    return b.call(expect, [hit, ir.Constant(_I1, 1)])


def _declare(module: Any, name: str, returns: Any, *arguments: Any) -> Any:
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, ir.FunctionType(returns, arguments), name)


def _host_address(b: Any, cpu: Value, tlb: Value, address: Value, size: Value, *, write: bool) -> Value:
    entry = _entry(b, tlb, address, write=write)
    hit = _hits(b, entry, address, size)
    fast, slow, done = (b.append_basic_block(name) for name in ("hit", "miss", "access"))
    b.cbranch(hit, fast, slow)
    b.position_at_end(fast)
    found = b.add(address, b.load(_at(b, entry, 8)))
    assume = _declare(b.module, "llvm.assume", ir.VoidType(), _I1)
    b.call(assume, [b.icmp_unsigned("!=", found, const(0))])
    b.branch(done)
    b.position_at_end(slow)
    if write:
        # A page that may not be written directly (it holds code, or is a device) is still read where the cold
        # code says.
        possible = _cold_call(b, symbols.PROBE_WRITE, cpu, address, size)
        ask, refused = b.append_basic_block("ask"), b.block
        b.cbranch(b.icmp_unsigned("!=", possible, const(0)), ask, done)
        b.position_at_end(ask)
        missed = _cold_call(b, symbols.LOAD_SLOW, cpu, address, size)
        b.branch(done)
        b.position_at_end(done)
        host = b.phi(_I64)
        host.add_incoming(const(0), refused)
        host.add_incoming(missed, ask)
    else:
        missed = _cold_call(b, symbols.LOAD_SLOW, cpu, address, size)
        b.branch(done)
        b.position_at_end(done)
        host = b.phi(_I64)
        host.add_incoming(missed, slow)
    host.add_incoming(found, fast)
    return host


@primitive(INT, INT, INT, INT, INT, part=True)
def readable(b: Any, cpu: Value, tlb: Value, address: Value, size: Value) -> Value:
    """The host address of `size` bytes to read at `address`; 0: leave."""
    return _host_address(b, cpu, tlb, address, size, write=False)


@primitive(INT, INT, INT, INT, INT, part=True)
def writable(b: Any, cpu: Value, tlb: Value, address: Value, size: Value) -> Value:
    """The host address of `size` bytes to read, and then write, at `address`; 0: leave."""
    return _host_address(b, cpu, tlb, address, size, write=True)


@primitive(INT, INT, INT, INT)
def readable_physical(b: Any, cpu: Value, address: Value, size: Value) -> Value:
    """The host address of `size` bytes to read at the physical `address`; 0: leave."""
    return _cold_call(b, symbols.LOAD_PHYSICAL, cpu, address, size)


def _swap(b: Any, value: Value, bits: int) -> Value:
    if bits == 8:
        return value
    kind = _INTEGERS[bits]
    return b.call(_declare(b.module, f"llvm.bswap.i{bits}", kind, kind), [value])


def _reader(bits: int, big: bool) -> Any:
    def read(b: Any, host: Value) -> Value:
        value = b.load(_pointer(b, host, _INTEGERS[bits]), align=1)
        if big:
            value = _swap(b, value, bits)
        if bits == 128:
            return _unpack(b, value, 2)
        return value if bits == 64 else b.zext(value, _I64)

    read.__name__ = f"read{bits}{'_big' if big else ''}"
    read.__doc__ = f"The {bits}-bit number at a host address, {'big' if big else 'little'}-endian."
    return primitive(WIDE if bits == 128 else INT, INT)(read)


read8, read16, read32, read64, read128 = (_reader(bits, False) for bits in (8, 16, 32, 64, 128))
read16_big, read32_big, read64_big, read128_big = (_reader(bits, True) for bits in (16, 32, 64, 128))


def _number(b: Any, value: Value, bits: int, big: bool) -> Value:
    """What an access of `bits` bits writes, as the host stores it."""
    if bits == 128:
        value = _pack(b, value)
    elif bits < 64:
        value = b.trunc(value, _INTEGERS[bits])
    return _swap(b, value, bits) if big else value


def _halves(b: Any, number: Value) -> tuple[Value, Value]:
    """The low and the high 64 bits of a number of up to 128."""
    bits = number.type.width
    if bits <= 64:
        return (number if bits == 64 else b.zext(number, _I64)), const(0)
    return b.trunc(number, _I64), b.trunc(b.lshr(number, ir.Constant(_INTEGERS[128], 64)), _I64)


def _writer(bits: int, big: bool, physical: bool) -> Any:
    size = const(bits // 8)

    def write(b: Any, cpu: Value, tlb: Value, address: Value, value: Value) -> Value:
        entry = _entry(b, tlb, address, write=True)
        hit = _hits(b, entry, address, size)
        fast, slow, done = (b.append_basic_block(name) for name in ("hit", "miss", "stored"))
        stored = _number(b, value, bits, big)
        b.cbranch(hit, fast, slow)
        b.position_at_end(fast)
        host = b.add(address, b.load(_at(b, entry, 8)))
        b.store(stored, _pointer(b, host, _INTEGERS[bits]), align=1)
        b.branch(done)
        b.position_at_end(slow)
        missed = _cold_call(b, symbols.STORE_SLOW, cpu, address, size, *_halves(b, stored))
        b.branch(done)
        b.position_at_end(done)
        success = b.phi(_I64)
        success.add_incoming(const(1), fast)
        success.add_incoming(missed, slow)
        return success

    def write_physical(b: Any, cpu: Value, address: Value, value: Value) -> Value:
        return _cold_call(
            b, symbols.STORE_PHYSICAL, cpu, address, size, *_halves(b, _number(b, value, bits, big))
        )

    value_type = WIDE if bits == 128 else INT
    order = "_big" if big else ""
    if physical:
        write_physical.__name__ = f"write{bits}{order}_physical"
        write_physical.__doc__ = f"Write {bits} bits at a physical address; 0: leave."
        return primitive(INT, INT, INT, value_type)(write_physical)
    write.__name__ = f"write{bits}{order}"
    write.__doc__ = f"Write {bits} bits at a guest address; 0: leave."
    return primitive(INT, INT, INT, INT, value_type, part=True)(write)


write8, write16, write32, write64, write128 = (_writer(bits, False, False) for bits in (8, 16, 32, 64, 128))
write16_big, write32_big, write64_big, write128_big = (
    _writer(bits, True, False) for bits in (16, 32, 64, 128)
)
write8_physical, write16_physical, write32_physical, write64_physical = (
    _writer(bits, False, True) for bits in (8, 16, 32, 64)
)
write16_big_physical, write32_big_physical, write64_big_physical = (
    _writer(bits, True, True) for bits in (16, 32, 64)
)

# --- many turns at once -------------------------------------------------------------------------------------


@primitive(INT, INT, INT, INT, INT)
def nearby(b: Any, turns: Value, pointer: Value, step: Value, size: Value) -> Value:
    """At most `turns`: how many turns `pointer` begins in the page where it is now, if each moves it on by
    `step`, which is plus or minus `size`.
    """
    offset = b.and_(pointer, const(4095))
    way = b.select(b.icmp_signed("<", step, const(0)), offset, b.xor(offset, const(4095)))
    room = b.add(b.udiv(way, size), const(1))
    return b.select(b.icmp_unsigned("<", turns, room), turns, room)


def _turner(name: str, symbol: str, what: str) -> Any:
    def ahead(b: Any, cpu: Value, record: Value, at: Value, *arguments: Value) -> Value:
        target = _read(b, b.add(record, at), 64)
        own, done = b.append_basic_block("own"), b.append_basic_block("ahead")
        start = b.block
        b.cbranch(b.icmp_unsigned("==", target, record), own, done)
        b.position_at_end(own)
        turns = _cold_call(b, symbol, cpu, *arguments)
        own = b.block
        b.branch(done)
        b.position_at_end(done)
        taken = b.phi(_I64)
        taken.add_incoming(const(0), start)
        taken.add_incoming(turns, own)
        return taken

    def build(
        b: Any, cpu: Value, record: Value, at: Value,
        size: Value, step: Value, first: Value, destination: Value, turns: Value,
    ) -> Value:  # fmt: skip
        return ahead(b, cpu, record, at, size, step, first, destination, turns)

    build.__name__ = name
    build.__doc__ = f"""{what} ahead, where the target in the slot at byte `at` is the record itself: how many
    turns were executed at once (`symbols.{name.upper()}`). The executor's step has noted the budget, and
    takes it anew (`Shape.repeats`)."""
    return primitive(INT, *[INT] * 8, part=True)(build)


copy_ahead = _turner("copy_ahead", symbols.COPY_AHEAD, "Copy")
fill_ahead = _turner("fill_ahead", symbols.FILL_AHEAD, "Fill")


# --- several CPUs over one memory ---------------------------------------------------------------------------


_CX16: Final = (
    "lock cmpxchg16b ($2)",
    "={ax},={dx},r,{ax},{dx},{bx},{cx},~{memory},~{dirflag},~{fpsr},~{flags}",
)
"""LLVM takes 16 bytes at a time only for processors that it is told to have the instruction."""


def swapped(b: Any, host: Value, bits: int, expected: Value, new: Value) -> Value:
    """Write `new` at an aligned host address if `expected` is there, in one access, ordered with all others:
    whether that was so (1 bit).
    """
    if bits < 128 or platform.machine() not in ("x86_64", "AMD64"):
        pair = b.cmpxchg(_pointer(b, host, _INTEGERS[bits]), expected, new, "seq_cst", "seq_cst")
        return b.extract_value(pair, 1)
    (low, high), (new_low, new_high) = _halves(b, expected), _halves(b, new)
    kind = ir.FunctionType(ir.LiteralStructType([_I64, _I64]), [_I64] * 5)
    found = b.asm(kind, *_CX16, [host, low, high, new_low, new_high], True)
    same = [b.icmp_unsigned("==", b.extract_value(found, n), half) for n, half in enumerate((low, high))]
    return b.and_(*same)


def _exchanger(bits: int, big: bool) -> Any:
    size = bits // 8

    def exchange(b: Any, cpu: Value, tlb: Value, address: Value, expected: Value, value: Value) -> Value:
        old, new = (_number(b, each, bits, big) for each in (expected, value))
        entry = _entry(b, tlb, address, write=True)
        aligned = b.icmp_unsigned("==", b.and_(address, const(size - 1)), const(0))
        hit = b.and_(_hits(b, entry, address, const(size)), aligned)
        fast, lost, slow, done = (b.append_basic_block(n) for n in ("hit", "lost", "miss", "exchanged"))
        b.cbranch(hit, fast, slow)
        b.position_at_end(fast)
        host = b.add(address, b.load(_at(b, entry, 8)))
        b.cbranch(swapped(b, host, bits, old, new), done, lost)
        b.position_at_end(lost)
        _set_header(b, cpu, block.REASON, const(exits.Reason.AGAIN))
        b.branch(done)
        b.position_at_end(slow)
        words = (*_halves(b, new), *_halves(b, old))
        missed = _cold_call(b, symbols.EXCHANGE_SLOW, cpu, address, const(size), *words)
        b.branch(done)
        b.position_at_end(done)
        success = b.phi(_I64)
        for outcome, place in ((const(1), fast), (const(0), lost), (missed, slow)):
            success.add_incoming(outcome, place)
        return success

    exchange.__name__ = f"exchange{bits}{'_big' if big else ''}"
    exchange.__doc__ = f"Write {bits} bits where the expected ones are; 0: leave."
    value_type = WIDE if bits == 128 else INT
    return primitive(INT, INT, INT, INT, value_type, value_type, part=True)(exchange)


exchange8, exchange16, exchange32, exchange64, exchange128 = (
    _exchanger(bits, False) for bits in (8, 16, 32, 64, 128)
)
exchange16_big, exchange32_big, exchange64_big, exchange128_big = (
    _exchanger(bits, True) for bits in (16, 32, 64, 128)
)


@primitive(NONE)
def fence(b: Any) -> None:
    """No access behind it comes before one in front of it, for other CPUs either."""
    b.fence("seq_cst")


# --- arithmetic that Python's operators on 64-bit integers do not give --------------------------------------


@primitive(BOOL, INT, INT)
def ult(b: Any, left: Value, right: Value) -> Value:
    """left < right, unsigned 64-bit."""
    return b.icmp_unsigned("<", left, right)


@primitive(BOOL, INT, INT)
def ule(b: Any, left: Value, right: Value) -> Value:
    """left <= right, unsigned 64-bit."""
    return b.icmp_unsigned("<=", left, right)


@primitive(INT, BOOL)
def bit(b: Any, condition: Value) -> Value:
    """1 or 0."""
    return b.zext(condition, _I64)


@primitive(INT, BOOL, INT, INT)
def pick(b: Any, condition: Value, then: Value, otherwise: Value) -> Value:
    """`then` if the condition holds, else `otherwise`, without a branch."""
    return b.select(condition, then, otherwise)


@primitive(INT, INT, INT)
def sext(b: Any, value: Value, width: Value) -> Value:
    """The signed 64-bit number whose low `width` bits are those of `value`."""
    distance = b.sub(const(64), width)
    return b.ashr(b.shl(value, distance), distance)


@primitive(INT, INT, INT)
def shl(b: Any, value: Value, amount: Value) -> Value:
    """value << amount; 0 from 64 on."""
    shifted = b.shl(value, b.and_(amount, const(63)))
    return b.select(b.icmp_unsigned("<", amount, const(64)), shifted, const(0))


@primitive(INT, INT, INT)
def shr(b: Any, value: Value, amount: Value) -> Value:
    """value >> amount, unsigned; 0 from 64 on."""
    shifted = b.lshr(value, b.and_(amount, const(63)))
    return b.select(b.icmp_unsigned("<", amount, const(64)), shifted, const(0))


@primitive(INT, INT, INT)
def sar(b: Any, value: Value, amount: Value) -> Value:
    """value >> amount, signed; copies of the sign from 64 on."""
    small = b.icmp_unsigned("<", amount, const(64))
    return b.ashr(value, b.select(small, amount, const(63)))


def _rotate(name: str, left: bool, bits: int) -> Any:
    kind = _INTEGERS[bits]

    def rotate(b: Any, value: Value, amount: Value) -> Value:
        function = _declare(b.module, f"llvm.fsh{'l' if left else 'r'}.i{bits}", kind, kind, kind, kind)
        if bits == 64:
            return b.call(function, [value, value, amount])
        narrow = b.trunc(value, kind)
        return b.zext(b.call(function, [narrow, narrow, b.trunc(amount, kind)]), _I64)

    rotate.__name__ = name
    rotate.__doc__ = f"Rotate {bits} bits {'left' if left else 'right'}, by the amount modulo {bits}."
    return primitive(INT, INT, INT)(rotate)


rotl8, rotl16, rotl32, rotl64 = (_rotate(f"rotl{bits}", True, bits) for bits in (8, 16, 32, 64))
rotr8, rotr16, rotr32, rotr64 = (_rotate(f"rotr{bits}", False, bits) for bits in (8, 16, 32, 64))


def _rotate_any(name: str, left: bool) -> Any:
    def rotate(b: Any, value: Value, amount: Value, width: Value) -> Value:
        distance = b.urem(amount, width)
        rest = b.sub(width, distance)
        forward, back = (distance, rest) if left else (rest, distance)
        # One of the two shifts may be by `width`, which is less than 64.
        return b.or_(b.shl(value, forward), b.lshr(value, back))

    rotate.__name__ = name
    rotate.__doc__ = "Rotate `width` < 64 bits; the result has garbage above them."
    return primitive(INT, INT, INT, INT)(rotate)


rotl_any, rotr_any = _rotate_any("rotl_any", True), _rotate_any("rotr_any", False)


@primitive(INT, INT, INT)
def udiv(b: Any, left: Value, right: Value) -> Value:
    """Unsigned quotient; all ones for a zero divisor."""
    zero = b.icmp_unsigned("==", right, const(0))
    quotient = b.udiv(left, b.select(zero, const(1), right))
    return b.select(zero, const(-1), quotient)


@primitive(INT, INT, INT)
def urem(b: Any, left: Value, right: Value) -> Value:
    """Unsigned remainder; the dividend for a zero divisor."""
    zero = b.icmp_unsigned("==", right, const(0))
    return b.select(zero, left, b.urem(left, b.select(zero, const(1), right)))


def _safe_signed(b: Any, left: Value, right: Value) -> tuple[Value, Value, Value]:
    """Whether the divisor is 0, whether the quotient overflows, and a divisor that cannot trap."""
    zero = b.icmp_signed("==", right, const(0))
    least = b.icmp_signed("==", left, const(-(1 << 63)))
    overflow = b.and_(least, b.icmp_signed("==", right, const(-1)))
    return zero, overflow, b.select(b.or_(zero, overflow), const(1), right)


@primitive(INT, INT, INT)
def sdiv(b: Any, left: Value, right: Value) -> Value:
    """Signed quotient, rounded to zero; -1 for a zero divisor; the least number by -1 is itself."""
    zero, _, divisor = _safe_signed(b, left, right)
    return b.select(zero, const(-1), b.sdiv(left, divisor))


@primitive(INT, INT, INT)
def srem(b: Any, left: Value, right: Value) -> Value:
    """Signed remainder, with the dividend's sign; the dividend for a zero divisor."""
    zero, overflow, divisor = _safe_signed(b, left, right)
    remainder = b.srem(left, divisor)
    return b.select(zero, left, b.select(overflow, const(0), remainder))


@primitive(INT, INT)
def clz(b: Any, value: Value) -> Value:
    """Leading zeros of 64 bits."""
    return b.call(_declare(b.module, "llvm.ctlz.i64", _I64, _I64, _I1), [value, ir.Constant(_I1, 0)])


@primitive(INT, INT)
def ctz(b: Any, value: Value) -> Value:
    """Trailing zeros of 64 bits."""
    return b.call(_declare(b.module, "llvm.cttz.i64", _I64, _I64, _I1), [value, ir.Constant(_I1, 0)])


@primitive(INT, INT)
def popcount(b: Any, value: Value) -> Value:
    """How many of 64 bits are set."""
    return b.call(_declare(b.module, "llvm.ctpop.i64", _I64, _I64), [value])


@primitive(INT, INT)
def bitreverse(b: Any, value: Value) -> Value:
    """64 bits in reverse order."""
    return b.call(_declare(b.module, "llvm.bitreverse.i64", _I64, _I64), [value])


@primitive(INT, INT)
def byteswap(b: Any, value: Value) -> Value:
    """8 bytes in reverse order."""
    return _swap(b, value, 64)


# --- wide and huge values -----------------------------------------------------------------------------------


def _pack(b: Any, parts: Value) -> Value:
    """One integer of 128, 256 or 512 bits from an array of 64-bit parts."""
    count = parts.type.count
    kind = _INTEGERS[64 * count]
    number = b.zext(b.extract_value(parts, 0), kind)
    for position in range(1, count):
        part = b.zext(b.extract_value(parts, position), kind)
        number = b.or_(number, b.shl(part, ir.Constant(kind, 64 * position)))
    return number


def _unpack(b: Any, number: Value, count: int) -> Value:
    parts = ir.Constant(ir.ArrayType(_I64, count), ir.Undefined)
    for position in range(count):
        part = number if position == 0 else b.lshr(number, ir.Constant(number.type, 64 * position))
        parts = b.insert_value(parts, b.trunc(part, _I64), position)
    return parts
