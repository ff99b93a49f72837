"""Scripts for Unicorn, run under Unicorn and under our module: the same events, the same results.

A script is a function of the module (`u`), the constants of its architecture (`r`) and a list that it notes
events in. Where the two are known to differ, and ours is what Unicorn documents, the script avoids it.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import isagen.compat.unicorn as ours
from isagen.compat.unicorn import UC_ARCH_RISCV, UC_MODE_RISCV64, Uc, UcError, unicorn_const
from isagen.compat.unicorn.riscv_const import UC_RISCV_REG_A0, UC_RISCV_REG_PC

A, D = 0x10000, 0x20000
Script = Callable[[Any, Any, list[Any]], None]
SCRIPTS: list[Script] = []


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


ADDI = 0x00150513  # addi a0, a0, 1
LOOP = words(0x00158593, 0xFFF50513, 0xFE051CE3, 0x00000013, 0x00000013)
"""addi a1, a1, 1; addi a0, a0, -1; bnez a0, -8; nop; nop"""
STORES = words(0x00B53023, 0x00053603, 0x00452683)
"""sd a1, 0(a0); ld a2, 0(a0); lw a3, 4(a0)"""


def script(function: Script) -> Script:
    SCRIPTS.append(function)
    return function


def engine(u: Any, code: bytes) -> Any:
    uc = u.Uc(u.UC_ARCH_RISCV, u.UC_MODE_RISCV64)
    uc.mem_map(A, 0x4000)
    uc.mem_map(D, 0x2000, u.UC_PROT_READ | u.UC_PROT_WRITE)
    uc.mem_write(A, code)
    return uc


def start(u: Any, uc: Any, log: list[Any], *arguments: int, **named: int) -> None:
    """``emu_start``, with the error that it ends in."""
    try:
        uc.emu_start(*arguments, **named)
    except u.UcError as error:
        log.append(("error", error.errno))


@script
def blocks_and_instructions(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, LOOP)
    uc.reg_write(r.UC_RISCV_REG_A0, 3)
    uc.hook_add(u.UC_HOOK_BLOCK, lambda uc, address, size, data: log.append((data, address, size)), "block")
    uc.hook_add(
        u.UC_HOOK_CODE,
        lambda uc, address, size, data: log.append(
            (data, address, size, uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_PC))
        ),
        "code",
    )
    uc.emu_start(A, A + len(LOOP))
    log.append([uc.reg_read(number) for number in range(r.UC_RISCV_REG_X0, r.UC_RISCV_REG_X31 + 1)])
    log.append(uc.reg_read(r.UC_RISCV_REG_PC))


@script
def ranges_and_user_data(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))
    note = lambda uc, address, size, data: log.append((address, size, data))  # noqa: E731 - as scripts do
    uc.hook_add(u.UC_HOOK_CODE, note, {"some": "data"}, A + 4, A + 8)
    one = uc.hook_add(u.UC_HOOK_CODE, note, None, begin=A + 16, end=A + 16)
    uc.emu_start(A, A + 32)
    uc.hook_del(one)
    uc.emu_start(A, A + 32)


@script
def stops(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))

    def stop(uc: Any, address: int, size: int, data: Any) -> None:
        if address == A + 8:
            uc.emu_stop()

    uc.hook_add(u.UC_HOOK_CODE, stop)
    uc.emu_start(A, A + 32)
    log.append((uc.reg_read(r.UC_RISCV_REG_PC), uc.reg_read(r.UC_RISCV_REG_A0)))


@script
def jumps_from_a_hook(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))

    def jump(uc: Any, address: int, size: int, data: Any) -> None:
        log.append(address)
        if address == A + 4:
            uc.reg_write(r.UC_RISCV_REG_PC, A + 16)

    uc.hook_add(u.UC_HOOK_CODE, jump)
    uc.emu_start(A, A + 32)
    log.append(uc.reg_read(r.UC_RISCV_REG_A0))


@script
def counts(u: Any, r: Any, log: list[Any]) -> None:
    for count in (1, 3, 5):
        uc = engine(u, words(*[ADDI] * 8))
        uc.emu_start(A, A + 32, count=count)
        log.append((uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_PC)))


@script
def timeouts(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(0x0000006F))
    uc.emu_start(A, A + 4, timeout=20_000)
    log.append((uc.query(u.UC_QUERY_TIMEOUT), uc.reg_read(r.UC_RISCV_REG_PC)))


@script
def memory_accesses(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, STORES + words(0x00B5262F, 0x00B50C23))  # amoadd.w a2, a1, (a0); sb a1, 24(a0)
    uc.reg_write(r.UC_RISCV_REG_A0, D)
    uc.reg_write(r.UC_RISCV_REG_A1, 0xFEDCBA9876543210)

    def access(uc: Any, kind: int, address: int, size: int, value: int, data: Any) -> None:
        log.append((kind, address, size, value, data, uc.reg_read(r.UC_RISCV_REG_PC)))

    uc.hook_add(u.UC_HOOK_MEM_READ | u.UC_HOOK_MEM_WRITE, access, "all")
    uc.hook_add(u.UC_HOOK_MEM_WRITE, access, "byte", D + 24, D + 24)
    uc.hook_add(u.UC_HOOK_MEM_READ, access, "inside", D + 4, D + 5)
    uc.emu_start(A, A + 20)
    log.append([uc.reg_read(r.UC_RISCV_REG_A2), uc.reg_read(r.UC_RISCV_REG_A3), bytes(uc.mem_read(D, 32))])


@script
def stops_in_a_memory_hook(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, STORES)
    uc.reg_write(r.UC_RISCV_REG_A0, D)
    uc.reg_write(r.UC_RISCV_REG_A1, 5)
    uc.hook_add(u.UC_HOOK_MEM_WRITE, lambda uc, *_: uc.emu_stop())
    uc.emu_start(A, A + 12)
    log.append((uc.reg_read(r.UC_RISCV_REG_PC), bytes(uc.mem_read(D, 8))))


@script
def unmapped_memory(u: Any, r: Any, log: list[Any]) -> None:
    for answer in (None, False, True):
        for code in (STORES, STORES[4:], words(0x00050067)):
            uc = engine(u, code)
            uc.reg_write(r.UC_RISCV_REG_A0, 0x500000)
            uc.reg_write(r.UC_RISCV_REG_A1, 0x1122334455667788)

            def invalid(uc: Any, kind: int, address: int, size: int, value: int, data: Any) -> Any:
                log.append((kind, address, size, value, uc.reg_read(r.UC_RISCV_REG_PC)))
                if answer:  # noqa: B023 - called in this turn
                    uc.mem_map(address & ~0xFFF, 0x1000)
                    uc.mem_write(address & ~0xFFF, words(ADDI, 0x00008067))
                return answer  # noqa: B023 - likewise

            if answer is not None:
                uc.hook_add(u.UC_HOOK_MEM_UNMAPPED, invalid)
            uc.reg_write(r.UC_RISCV_REG_RA, A + len(code))
            start(u, uc, log, A, A + len(code))
            log.append((uc.reg_read(r.UC_RISCV_REG_PC), uc.reg_read(r.UC_RISCV_REG_A2)))


@script
def protected_memory(u: Any, r: Any, log: list[Any]) -> None:
    for hooked in (False, True):
        uc = engine(u, STORES)
        uc.mem_protect(D, 0x1000, u.UC_PROT_READ)
        uc.reg_write(r.UC_RISCV_REG_A0, D)

        def invalid(uc: Any, kind: int, address: int, size: int, value: int, data: Any) -> bool:
            log.append((kind, address, size))
            uc.mem_protect(address & ~0xFFF, 0x1000)
            return True

        if hooked:
            uc.hook_add(u.UC_HOOK_MEM_PROT, invalid)
        start(u, uc, log, A, A + 12)
        log.append(uc.reg_read(r.UC_RISCV_REG_PC))
    uc = engine(u, words(0x00050067))
    uc.reg_write(r.UC_RISCV_REG_A0, D)
    start(u, uc, log, A, A + 4)
    log.append(list(uc.mem_regions()))


@script
def interrupts(u: Any, r: Any, log: list[Any]) -> None:
    for word in (0x00000073, 0xFFFFFFFF, 0x00100073):  # ecall, illegal, ebreak
        for hooked in (False, True):
            uc = engine(u, words(ADDI, word, ADDI))
            uc.hook_add(u.UC_HOOK_CODE, lambda uc, *event: log.append(event))

            def interrupt(uc: Any, number: int, data: Any) -> None:
                log.append(("interrupt", number, uc.reg_read(r.UC_RISCV_REG_PC), data))

            if hooked:
                uc.hook_add(u.UC_HOOK_INTR, interrupt, "data")
            start(u, uc, log, A, A + 12)
            log.append((uc.reg_read(r.UC_RISCV_REG_PC), uc.reg_read(r.UC_RISCV_REG_A0)))


@script
def an_interrupt_hook_that_jumps(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(0x00000073, ADDI, ADDI, ADDI))
    uc.hook_add(u.UC_HOOK_INTR, lambda uc, number, data: uc.reg_write(r.UC_RISCV_REG_PC, A + 12))
    uc.emu_start(A, A + 16)
    log.append(uc.reg_read(r.UC_RISCV_REG_A0))


@script
def system_calls_of_a_program(u: Any, r: Any, log: list[Any]) -> None:
    """write(1, D, 3); exit(7), as scripts emulate them."""
    code = words(
        0x00100513, 0x000205B7, 0x00300613, 0x04000893, 0x00000073, 0x00700513, 0x05D00893, 0x00000073, ADDI
    )
    uc = engine(u, code)
    uc.mem_write(D, b"abc")

    def call(uc: Any, number: int, data: Any) -> None:
        which = uc.reg_read(r.UC_RISCV_REG_A7)
        if which == 64:
            at, size = uc.reg_read_batch([r.UC_RISCV_REG_A1, r.UC_RISCV_REG_A2])
            log.append((number, bytes(uc.mem_read(at, size))))
            uc.reg_write(r.UC_RISCV_REG_A0, size)
        else:
            log.append((number, which, uc.reg_read(r.UC_RISCV_REG_A0)))
            uc.emu_stop()

    uc.hook_add(u.UC_HOOK_INTR, call)
    uc.emu_start(A, A + len(code))
    log.append(uc.reg_read(r.UC_RISCV_REG_A0))


@script
def errors_of_arguments(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, b"")
    attempts: list[Callable[[], Any]] = [
        lambda: uc.mem_map(1, 4096),
        lambda: uc.mem_map(0x800000, 100),
        lambda: uc.mem_map(A, 4096),
        lambda: uc.mem_map(A + 0x3000, 0x2000),
        lambda: uc.mem_unmap(0x900000, 4096),
        lambda: uc.mem_unmap(A, 100),
        lambda: uc.mem_protect(0x900000, 4096),
        lambda: uc.mem_read(0x900000, 4),
        lambda: uc.mem_write(0x900000, b"x"),
        lambda: uc.mem_read(A + 0x3FFE, 4),
        lambda: u.Uc(u.UC_ARCH_RISCV, 0),
        lambda: uc.hook_add(0, print),
        lambda: uc.hook_add(u.UC_HOOK_CODE | u.UC_HOOK_INTR, print),
    ]
    for attempt in attempts:
        try:
            attempt()
            log.append("no error")
        except u.UcError as error:
            log.append(error.errno)


@script
def regions(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, b"")
    uc.mem_protect(A + 0x1000, 0x1000, u.UC_PROT_READ)
    log.append(list(uc.mem_regions()))
    uc.mem_unmap(A + 0x2000, 0x1000)
    log.append(list(uc.mem_regions()))
    log.append([uc.query(n) for n in (u.UC_QUERY_MODE, u.UC_QUERY_PAGE_SIZE, u.UC_QUERY_ARCH)])
    log.append(
        (uc.ctl_get_mode(), uc.ctl_get_arch(), uc.ctl_get_page_size(), type(uc.mem_read(A, 1)) is bytearray)
    )


@script
def registers(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, b"")
    choose = random.Random(1)
    numbers = [
        *range(r.UC_RISCV_REG_X0, r.UC_RISCV_REG_X31 + 1),
        *range(r.UC_RISCV_REG_F0, r.UC_RISCV_REG_F31 + 1),
    ]
    for number in numbers[1:]:
        uc.reg_write(number, choose.choice([-1, 1 << 63, choose.getrandbits(64)]))
    uc.reg_write_batch([(r.UC_RISCV_REG_A0, 1), (r.UC_RISCV_REG_FA0, 2)])
    log.append(uc.reg_read_batch(numbers[1:]))
    log.append((r.UC_RISCV_REG_FP, r.UC_RISCV_REG_ZERO, r.UC_RISCV_REG_FT11, r.UC_RISCV_REG_ENDING))


@script
def contexts(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))
    uc.emu_start(A, A + 16)
    context = uc.context_save()
    uc.emu_start(A + 16, A + 32)
    log.append(uc.reg_read(r.UC_RISCV_REG_A0))
    uc.context_restore(context)
    log.append((uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_PC)))
    log.append(context.reg_read(r.UC_RISCV_REG_A0))
    other = u.Uc(u.UC_ARCH_RISCV, u.UC_MODE_RISCV64)
    other.context_restore(context)
    log.append(other.reg_read(r.UC_RISCV_REG_A0))


@script
def devices(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(0x00B52023, 0x00452603, 0x00A51423))  # sw a1, 0(a0); lw a2, 4(a0); sh a0, 8(a0)
    uc.reg_write(r.UC_RISCV_REG_A0, 0x900000)
    uc.reg_write(r.UC_RISCV_REG_A1, 0xDEADBEEF)

    def read(uc: Any, offset: int, size: int, data: Any) -> int:
        log.append(("read", offset, size, data))
        return 0x55

    def write(uc: Any, offset: int, size: int, value: int, data: Any) -> None:
        log.append(("write", offset, size, value, data))

    uc.mmio_map(0x900000, 0x1000, read, 1, write, 2)
    uc.emu_start(A, A + 12)
    log.append((uc.reg_read(r.UC_RISCV_REG_A2), list(uc.mem_regions())))


@script
def code_that_a_hook_writes(u: Any, r: Any, log: list[Any]) -> None:
    """It is code further on that changes: Unicorn runs on in the block that it has translated."""
    uc = engine(u, words(ADDI, ADDI, 0x0040006F, ADDI, ADDI))  # ...; j +4; ...
    uc.hook_add(u.UC_HOOK_CODE, lambda uc, *_: uc.mem_write(A + 12, words(0x06450513)), None, A, A)
    uc.emu_start(A, A + 20)
    log.append(uc.reg_read(r.UC_RISCV_REG_A0))


@script
def a_run_in_a_hook(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))
    done: list[int] = []

    def nest(uc: Any, address: int, size: int, data: Any) -> None:
        if not done:
            done.append(1)
            uc.emu_start(A + 0x10, A + 0x18)
            log.append((uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_PC)))

    uc.hook_add(u.UC_HOOK_CODE, nest, None, A + 4, A + 4)
    uc.emu_start(A, A + 0x10)
    log.append((uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_PC)))


@script
def exceptions_of_callbacks(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))

    def fail(*_: Any) -> None:
        raise ValueError("from a hook")

    uc.hook_add(u.UC_HOOK_CODE, fail)
    try:
        uc.emu_start(A, A + 32)
    except ValueError as error:
        log.append((str(error), uc.reg_read(r.UC_RISCV_REG_A0)))


@script
def floating_point_when_it_is_on(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(0x02B57553))  # fadd.d fa0, fa0, fa1
    start(u, uc, log, A, A + 4)
    uc.reg_write(r.UC_RISCV_REG_MSTATUS, 0x6000)
    uc.reg_write(r.UC_RISCV_REG_FA0, 0x3FF8000000000000)
    uc.reg_write(r.UC_RISCV_REG_FA1, 0x4000000000000000)
    uc.emu_start(A, A + 4)
    log.append(uc.reg_read(r.UC_RISCV_REG_FA0))


@script
def memory_of_the_host(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(0x00B53023, ADDI))
    memory = mmap.mmap(-1, 0x2000)
    place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[0x1000:0x1004] = b"host"
    uc.mem_map_ptr(0x500000, 0x2000, u.UC_PROT_ALL, place)
    uc.reg_write(r.UC_RISCV_REG_A0, 0x500010)
    uc.reg_write(r.UC_RISCV_REG_A1, 0x61626364)
    uc.emu_start(A, A + 8)
    log.append((memory[0x10:0x14], bytes(uc.mem_read(0x501000, 4))))
    uc.mem_unmap(0x500000, 0x2000)


@script
def rv32(u: Any, r: Any, log: list[Any]) -> None:
    uc = u.Uc(u.UC_ARCH_RISCV, u.UC_MODE_RISCV32)
    uc.mem_map(A, 0x1000)
    uc.mem_write(A, words(ADDI, 0x00000073))
    uc.reg_write(r.UC_RISCV_REG_A0, 0xFFFFFFFF)
    uc.hook_add(u.UC_HOOK_INTR, lambda uc, number, data: log.append(number))
    uc.emu_start(A, A + 8)
    log.append(uc.reg_read(r.UC_RISCV_REG_A0))


@script
def exits(u: Any, r: Any, log: list[Any]) -> None:
    def state() -> tuple[int, int]:
        return uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_PC)

    uc = engine(u, words(*[ADDI] * 8))
    for ask in (uc.ctl_get_exits_cnt, uc.ctl_get_exits, lambda: uc.ctl_set_exits([A])):
        with pytest.raises(u.UcError) as caught:
            ask()
        log.append(caught.value.errno)
    uc.ctl_exits_enabled(True)
    uc.ctl_set_exits([A + 8, A + 16])
    log.append((uc.ctl_get_exits_cnt(), sorted(uc.ctl_get_exits())))
    uc.emu_start(A, 0)
    log.append(state())
    uc.emu_start(A + 12, A + 24)
    log.append(state())
    uc.ctl_set_exits([A + 4])
    uc.emu_start(A, 0, count=3)
    log.append(state())
    uc.ctl_exits_enabled(False)
    uc.emu_start(A, A + 20)
    log.append(state())


@script
def controls(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(*[ADDI] * 8))
    uc.ctl_set_tlb_mode(u.UC_TLB_CPU)
    uc.ctl_flush_tb()
    uc.ctl_remove_cache(A, A + 16)
    uc.emu_start(A, A + 8, timeout=5_000_000)
    log.append((uc.ctl_get_mode(), uc.ctl_get_arch(), uc.ctl_get_page_size(), uc.ctl_get_timeout()))


@script
def contexts_that_change(u: Any, r: Any, log: list[Any]) -> None:
    uc = engine(u, words(ADDI))
    context = uc.context_save()
    context.reg_write(r.UC_RISCV_REG_A0, 77)
    context.reg_write_batch([(r.UC_RISCV_REG_A1, 5)])
    log.append((context.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_A0)))
    uc.emu_start(A, A + 4)
    uc.context_restore(context)
    log.append((uc.reg_read(r.UC_RISCV_REG_A0), uc.reg_read(r.UC_RISCV_REG_A1)))


@pytest.mark.parametrize("function", SCRIPTS, ids=lambda function: function.__name__)
def test_a_script(
    function: Script, require_module: Callable[[str], ModuleType], require_target: Callable[[str], Path]
) -> None:
    require_target("riscv32" if function is rv32 else "riscv64")
    real = require_module("unicorn")
    expected: list[Any] = []
    function(real, importlib.import_module("unicorn.riscv_const"), expected)
    found: list[Any] = []
    function(ours, ours.riscv_const, found)
    assert found == expected
    assert expected


X86 = [
    ("48c7c003000000 488903 48ffc8 75f8 90", {"RBX": D}),  # mov rax, 3; mov [rbx], rax; dec rax; jnz; nop
    ("50 5b e800000000 58 90", {"RSP": D + 0x100, "RAX": 7}),  # push, pop, call, pop
    ("b001 b402 88a310000000 90", {"RAX": -1, "RBX": D}),  # mov al, 1; mov ah, 2; mov [rbx + 16], ah
    ("f7f1 90", {}),  # div ecx by zero
    ("90 0f0b 90", {}),  # ud2
    ("90 cd80 90", {}),  # int 0x80
    ("90 cc 90", {}),  # int3
    ("90 0f05 90", {}),  # syscall
    ("0f110b 0f104310 0f100b 90", {"XMM1": 5 << 70 | 9, "RBX": D}),  # movups, there and back
]


@pytest.mark.slow
@pytest.mark.parametrize(("code", "registers"), X86)
@pytest.mark.parametrize("hooked", [False, True])
def test_x86(
    code: str,
    registers: dict[str, int],
    hooked: bool,
    require_module: Callable[[str], ModuleType],
    require_target: Callable[[str], Path],
) -> None:
    require_target("x86_64")

    def play(u: Any, r: Any) -> list[Any]:
        log: list[Any] = []
        uc = u.Uc(u.UC_ARCH_X86, u.UC_MODE_64)
        uc.mem_map(A, 0x2000)
        uc.mem_map(D, 0x2000)
        data = bytes.fromhex(code)
        uc.mem_write(A, data)
        for name, value in registers.items():
            uc.reg_write(getattr(r, f"UC_X86_REG_{name}"), value)
        uc.hook_add(
            u.UC_HOOK_MEM_READ | u.UC_HOOK_MEM_WRITE, lambda uc, *event: log.append(("memory", *event))
        )
        if "0f0b" not in code:  # Unicorn makes up a size for what is no instruction
            uc.hook_add(u.UC_HOOK_CODE, lambda uc, *event: log.append(("code", *event)))
            uc.hook_add(u.UC_HOOK_BLOCK, lambda uc, *event: log.append(("block", *event)))
        if hooked:

            def interrupt(uc: Any, number: int, data: Any) -> None:
                log.append(("interrupt", number, uc.reg_read(r.UC_X86_REG_RIP)))
                if number == 0:
                    uc.emu_stop()

            uc.hook_add(u.UC_HOOK_INTR, interrupt)
        start(u, uc, log, A, A + len(data))
        names = ("RIP", "RAX", "RBX", "RSP", "EAX", "AX", "AH", "XMM0", "XMM1")
        log.append([uc.reg_read(getattr(r, f"UC_X86_REG_{name}")) for name in names])
        log.append(bytes(uc.mem_read(D, 0x200)))
        return log

    real = require_module("unicorn")
    assert play(ours, ours.x86_const) == play(real, importlib.import_module("unicorn.x86_const"))


@pytest.mark.slow
def test_x86_system_calls(
    require_module: Callable[[str], ModuleType], require_target: Callable[[str], Path]
) -> None:
    require_target("x86_64")

    def play(u: Any, r: Any) -> list[Any]:
        log: list[Any] = []
        uc = u.Uc(u.UC_ARCH_X86, u.UC_MODE_64)
        uc.mem_map(A, 0x1000)
        uc.mem_write(A, bytes.fromhex("b83c000000 0f05 90".replace(" ", "")))
        uc.hook_add(
            u.UC_HOOK_INSN,
            lambda uc, data: log.append((uc.reg_read(r.UC_X86_REG_RAX), uc.reg_read(r.UC_X86_REG_RIP), data)),
            "data", 1, 0, r.UC_X86_INS_SYSCALL,
        )  # fmt: skip
        uc.emu_start(A, A + 8)
        return [*log, uc.reg_read(r.UC_X86_REG_RIP)]

    real = require_module("unicorn")
    assert play(ours, ours.x86_const) == play(real, importlib.import_module("unicorn.x86_const"))


@pytest.mark.parametrize("name", ["unicorn", "riscv", "arm", "arm64", "x86", "ppc", "sparc"])
def test_constants_have_the_same_values(name: str, require_module: Callable[[str], ModuleType]) -> None:
    theirs = vars(require_module(f"unicorn.{name}_const"))
    mine = vars(importlib.import_module(f"isagen.compat.unicorn.{name}_const"))
    numbers = {key: value for key, value in mine.items() if key.startswith("UC_")}
    assert len(numbers) > 50
    assert {key: theirs.get(key) for key in numbers} == numbers
    missing = {key for key in theirs if key.startswith("UC_") and "_INS_" not in key} - numbers.keys()
    assert not missing


def test_what_scripts_import() -> None:
    space: dict[str, Any] = {}
    exec(
        "from isagen.compat.unicorn import *\nfrom isagen.compat.unicorn.riscv_const import *\n"
        "import isagen.compat.unicorn as unicorn\nfrom isagen.compat.unicorn.unicorn_const import *",
        space,
    )
    assert space["Uc"] is Uc
    assert space["UC_HOOK_CODE"] == unicorn_const.UC_HOOK_CODE
    assert space["UC_RISCV_REG_A0"] == UC_RISCV_REG_A0
    assert space["unicorn"].x86_const.UC_X86_REG_RAX == 35
    assert space["uc_arch_supported"](UC_ARCH_RISCV)
    assert space["uc_version"]()[:2] == (2, 1)


def test_hooks_are_exact_where_unicorn_is_not(require_target: Callable[[str], Path]) -> None:
    """Counts with hooks; hooks on code that ran before; a changed instruction in the same block."""
    require_target("riscv64")
    uc = engine(ours, words(*[ADDI] * 8))
    uc.emu_start(A, A + 32)
    seen: list[int] = []
    uc.hook_add(ours.UC_HOOK_CODE, lambda uc, address, size, data: seen.append(address))
    uc.emu_start(A, A + 32, 0, 3)
    assert seen == [A, A + 4, A + 8]
    uc.hook_add(ours.UC_HOOK_CODE, lambda uc, *_: uc.mem_write(A + 8, words(0x06450513)), None, A + 4, A + 4)
    uc.reg_write(UC_RISCV_REG_A0, 0)
    uc.emu_start(A, A + 16)
    assert uc.reg_read(UC_RISCV_REG_A0) == 103


def test_reads_after(require_target: Callable[[str], Path]) -> None:
    require_target("riscv64")
    uc = engine(ours, STORES)
    uc.reg_write(UC_RISCV_REG_A0, D)
    uc.mem_write(D + 4, b"\x01\x02\x03\x04")
    seen: list[Any] = []
    uc.hook_add(ours.UC_HOOK_MEM_READ_AFTER, lambda uc, *event: seen.append(event))
    uc.emu_start(A + 8, A + 12)
    assert seen == [(ours.UC_MEM_READ_AFTER, D + 4, 4, 0x04030201, None)]


def test_contexts_can_be_pickled(require_target: Callable[[str], Path]) -> None:
    require_target("riscv64")
    uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV64)
    uc.reg_write(UC_RISCV_REG_A0, 5)
    context = pickle.loads(pickle.dumps(uc.context_save()))
    uc.reg_write(UC_RISCV_REG_A0, 6)
    uc.context_restore(context)
    assert uc.reg_read(UC_RISCV_REG_A0) == 5


def test_errors_are_of_our_root_and_have_texts(require_target: Callable[[str], Path]) -> None:
    require_target("riscv64")
    uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV64)
    with pytest.raises(UcError, match="UC_ERR_FETCH_UNMAPPED") as caught:
        uc.emu_start(0x1000, 0x2000)
    assert caught.value.errno == unicorn_const.UC_ERR_FETCH_UNMAPPED
    assert uc.reg_read(UC_RISCV_REG_PC) == 0x1000
    for arch, mode, number in ((3, 4, 2), (99, 4, 2), (5, 4, 4), (8, 99, 4)):
        with pytest.raises(UcError) as caught:
            Uc(arch, mode)
        assert caught.value.errno == number
