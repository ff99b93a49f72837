"""Behaviours of hand-made targets, compiled and run: what executors do, to compare with the evaluator."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from generator.emit.executors import emit_executors
from generator.emit.layout import Layout, place
from generator.ir.decisions import Values, compiled
from generator.ir.executor import (
    Executor,
    Leaf,
    Node,
    NumberValue,
    Plan,
    RegisterValue,
    SkipValue,
    TargetValue,
    Tree,
)
from generator.ir.nodes import Block, Expr
from generator.ir.specialise import specialise
from generator.model.target import Form, Span, Target, Variant
from runtime.cpu import block, compile, symbols
from runtime.cpu.exits import Reason

HERE = Span(file="test.isa", line=1, column=1)
RECORDS = 4096
PAGE = 4096
_FORMATS = {"u16": "<H", "i16": "<h", "i32": "<i", "i64": "<q"}
_I64 = ctypes.c_int64


def form(name: str, body: Block, guard: Expr | None = None, when: Expr | None = None) -> Form:
    """A form without an encoding."""
    return Form(
        name=name,
        mnemonic=name,
        instruction=name,
        set_name="toy",
        needs=(),
        picture=(),
        no_prefix=False,
        mandatory_prefixes=(),
        fields=(),
        operands=(),
        when=when,
        allow=(),
        undefined=(),
        before=(),
        restartable=False,
        texts=(),
        doc="",
        variants=(Variant(choices=(), condition=None, guard=guard, body=body),),
        span=HERE,
    )


def leaf_of(tree: Tree, values: Values) -> Leaf:
    """The leaf that decoding with these fields and contexts reaches."""
    while isinstance(tree, Node):
        tree = tree.then if compiled(tree.condition)(values) else tree.otherwise
    return tree


class Compiled:
    """A target's executors in memory, with registers, a TLB and a few records to run."""

    def __init__(self, target: Target, directory: Path) -> None:
        self.target = target
        self.layout: Layout = place(target)
        self.plan: Plan = specialise(target)
        self.files = emit_executors(target, self.plan, self.layout)
        for name, text in self.files.items():
            (directory / name).write_text(text)
        self.slow: list[tuple[Any, ...]] = []
        self.memory: Any = ctypes.create_string_buffer(2 * PAGE)
        self.mapped: int | None = None
        self._callbacks = self._cold()
        machine = compile.target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        package = compile.Package(directory)
        for part in compile.parts(package):
            if part.kind != "cold":
                code = compile.compile_part(package, part).code
                self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        address = self._engine.get_function_address(symbols.THREADED)
        self._threaded = ctypes.CFUNCTYPE(_I64, _I64, _I64, _I64, _I64)(address)
        self.block: Any = ctypes.create_string_buffer(block.HEADER_SIZE + self.layout.size)
        self._tlb = (ctypes.c_int64 * (block.TLB_SET_SIZE // 8))(
            *([block.TLB_EMPTY, 0] * (2 * block.TLB_ENTRIES))
        )
        self._jumps = (ctypes.c_int64 * (2 * block.JUMP_CACHE_ENTRIES))()
        self._jumps[0] = 1
        self._records = ctypes.create_string_buffer(RECORDS)
        self.set_header(block.TLB, ctypes.addressof(self._tlb))
        self.set_header(block.JUMP_CACHE, ctypes.addressof(self._jumps))

    def _cold(self) -> list[Any]:
        """Stand-ins for the cold code, which note their calls and serve the mapped page."""

        def load(s: int, address: int, size: int) -> int:
            self.slow.append(("load", address & (1 << 64) - 1, size))
            return self._host(address, size)

        def store(s: int, address: int, size: int, low: int, high: int) -> int:
            self.slow.append(("store", address & (1 << 64) - 1, size))
            host = self._host(address, size)
            if host:
                value = (low & (1 << 64) - 1) | (high & (1 << 64) - 1) << 64
                ctypes.memmove(host, value.to_bytes(16, "little"), size)
            return int(host != 0)

        def probe(s: int, address: int, size: int) -> int:
            self.slow.append(("probe", address & (1 << 64) - 1, size))
            return int(self._host(address, size) != 0)

        def exchange(s: int, address: int, size: int, *words: int) -> int:
            self.slow.append(("exchange", address & (1 << 64) - 1, size))
            host = self._host(address, size)
            new, expected = (
                ((low & (1 << 64) - 1) | (high & (1 << 64) - 1) << 64).to_bytes(16, "little")[:size]
                for low, high in (words[:2], words[2:])
            )
            if host:
                assert ctypes.string_at(host, size) == expected, "nobody else writes"
                ctypes.memmove(host, new, size)
            return int(host != 0)

        made = []
        for name, count, function in (
            (symbols.EXCHANGE_SLOW, 7, exchange),
            (symbols.LOAD_SLOW, 3, load),
            (symbols.STORE_SLOW, 5, store),
            (symbols.PROBE_WRITE, 3, probe),
            (symbols.LOAD_PHYSICAL, 3, load),
            (symbols.STORE_PHYSICAL, 5, store),
        ):
            callback = ctypes.CFUNCTYPE(_I64, *[_I64] * count)(function)
            llvm.add_symbol(name, ctypes.cast(callback, ctypes.c_void_p).value)
            made.append(callback)
        return made

    def _host(self, address: int, size: int) -> int:
        address &= (1 << self.target.pc_width) - 1  # addresses wrap around there
        if self.mapped is None or not self.mapped <= address <= self.mapped + PAGE - size:
            self.set_header(block.REASON, int(Reason.FAULT))
            return 0
        return ctypes.addressof(self.memory) + address - self.mapped

    def map(self, address: int, *, fast: bool) -> None:
        """Put the page of memory at `address`; `fast`: into the TLB as well."""
        self.mapped = address
        entry = block.tlb_offset(address % (1 << 64)) // 8
        for base in (entry, entry + 2 * block.TLB_ENTRIES):
            self._tlb[base] = _signed(address) if fast else block.TLB_EMPTY
            self._tlb[base + 1] = ctypes.addressof(self.memory) - _signed(address)

    def set_header(self, offset: int, value: int) -> None:
        """Write a header field."""
        struct.pack_into("<q", self.block, offset, _signed(value))

    def header(self, offset: int) -> int:
        """A header field, unsigned."""
        return int(struct.unpack_from("<Q", self.block, offset)[0])

    def _place(self, register: str, index: int | None) -> tuple[int, int]:
        field = self.layout.field(register)
        return block.HEADER_SIZE + field.offset + field.stride * (index or 0), field.stride

    def set(self, register: str, value: int, index: int | None = None) -> None:
        """Write a register."""
        offset, size = self._place(register, index)
        self.block[offset : offset + size] = value.to_bytes(size, "little")

    def get(self, register: str, index: int | None = None) -> int:
        """A register as it is stored: bits above its width would show."""
        offset, size = self._place(register, index)
        return int.from_bytes(self.block[offset : offset + size], "little")

    # --- records ----------

    def executor(self, leaf: Leaf) -> Executor:
        """The executor of a leaf."""
        return self.plan.executors[leaf.executor - block.FIRST_EXECUTOR]

    def record(
        self, offset: int, leaf: Leaf, values: Callable[[Expr], int], targets: Mapping[int, int] | None = None
    ) -> int:
        """Write a record at `offset` of the arena; returns the offset behind it. `targets`: pc -> offset."""
        executor = self.executor(leaf)
        struct.pack_into("<H", self._records, offset, leaf.executor)
        for slot, value in zip(executor.slots, leaf.values, strict=True):
            match value:
                case RegisterValue(register=name, index=index, write=write):
                    number = values(index)
                    zero = next(r.zero for r in self.target.registers if r.name == name)
                    field = self.layout.field(name)
                    stored = field.offset + field.stride * number
                    if write and number == zero:
                        stored = self.layout.sink
                case NumberValue(value=expr):
                    stored = values(expr)
                case TargetValue(target=expr):
                    stored = ctypes.addressof(self._records) + _known(targets)[values(expr)]
                case SkipValue():
                    stored = _known(targets)[-1]
            bits = {"u16": 16, "i16": 16, "i32": 32, "i64": 64}[slot.storage]
            stored &= (1 << bits) - 1
            if slot.storage != "u16" and stored >> (bits - 1):
                stored -= 1 << bits
            struct.pack_into(_FORMATS[slot.storage], self._records, offset + slot.offset, stored)
        return offset + executor.size

    def stop(self, offset: int) -> int:
        """Write a record that leaves threaded code; returns the offset behind it."""
        struct.pack_into("<H", self._records, offset, block.OP_BREAK)
        return offset + max(self.plan.record_size or 0, 8)

    def run(self, budget: int = 100, record: int = 0, following: int = 0) -> tuple[int, int, int]:
        """Run from the record at an offset: budget left, reason, and the offset where it stopped."""
        base = ctypes.addressof(self._records)
        address = ctypes.addressof(self.block)
        left = self._threaded(address, base + record, base + following, budget)
        return left, self.header(block.REASON), self.header(block.EXIT_RECORD) - base

    def cache_jump(self, pc: int, offset: int) -> None:
        """Let the jump cache know the record of a pc."""
        entry = (pc ^ pc >> 11) % block.JUMP_CACHE_ENTRIES
        self._jumps[2 * entry] = _signed(pc)
        self._jumps[2 * entry + 1] = ctypes.addressof(self._records) + offset


def _known(targets: Mapping[int, int] | None) -> Mapping[int, int]:
    return {} if targets is None else targets


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def values_of(values: Values) -> Callable[[Expr], int]:
    """Evaluates decode-time expressions over fields and contexts."""
    return lambda expr: compiled(expr)(values)


def forms(bodies: Iterable[Block]) -> tuple[Form, ...]:
    """A form for each body."""
    return tuple(form(f"i{number}", body) for number, body in enumerate(bodies))
