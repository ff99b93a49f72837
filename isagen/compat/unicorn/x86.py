"""What only x86 has: registers that are tuples, model-specific registers and ports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from isagen.compat.unicorn import unicorn_const as uc
from isagen.compat.unicorn import x86_const as x86
from isagen.compat.unicorn.errors import UcError
from runtime.registers import RegisterFile

Value = int | tuple[int, ...]

PORTS: Final = 0x10000000000000
"""Where the target's ports lie: behind all addresses that memory can have (isa/x86/io.isa)."""
PORT_COUNT: Final = 0x10000
_MSRS: Final = {
    **{0x174: "sysenter_cs", 0x175: "sysenter_esp", 0x176: "sysenter_eip", 0xC0000080: "efer"},
    **{0xC0000081: "star", 0xC0000082: "lstar", 0xC0000083: "cstar", 0xC0000084: "fmask"},
    **{0xC0000100: "fs_base", 0xC0000101: "gs_base", 0xC0000102: "kernel_gs_base"},
}
"""Registers by the number that RDMSR takes (Intel SDM volume 4, table 2-2)."""
_TABLES: Final = {x86.UC_X86_REG_GDTR: "gdt", x86.UC_X86_REG_IDTR: "idt"}
_STACK: Final = range(x86.UC_X86_REG_ST0, x86.UC_X86_REG_ST0 + 8)
_PHYSICAL: Final = range(x86.UC_X86_REG_FP0, x86.UC_X86_REG_FP0 + 8)
_WORDS: Final = {x86.UC_X86_REG_FPSW: "fpu_sw", x86.UC_X86_REG_FPCW: "fpu_cw"}
MANTISSA: Final = (1 << 64) - 1


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} isn't a number")
    return value


def _pair(value: Any, count: int) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) != count:
        raise TypeError(f"{value!r} isn't a tuple of {count} numbers")
    return tuple(map(_number, value))


def _known(file: RegisterFile, name: str | None) -> str:
    if name is None or name not in file:
        raise UcError(uc.UC_ERR_ARG)
    return name


def _at_top(file: RegisterFile, register: int) -> str:
    """The spec's name, which counts from the top of the stack, of a register of the x87's."""
    return f"st{(register - file.read('fpu_top')) & 7}"


def read(file: RegisterFile, register: int, aux: Any) -> Value | None:
    """A register of a form of its own; None for those that are like any other.

    The x87's: mantissa and exponent (of ``ST0`` to ``ST7``, counted from the top, the mantissa alone). GDTR
    and IDTR: selector, base, limit, flags. MSR: the one that `aux` numbers.
    """
    if register in _PHYSICAL:
        value = file.read(_at_top(file, register - _PHYSICAL.start))
        return value & MANTISSA, value >> 64
    if register in _STACK:
        return file.read(f"st{register - _STACK.start}") & MANTISSA
    if register in _TABLES:
        table = _TABLES[register]
        return 0, file.read(_known(file, f"{table}_base")), file.read(_known(file, f"{table}_limit")), 0
    if register == x86.UC_X86_REG_MSR:
        return file.read(_known(file, _MSRS.get(_number(aux))))
    if register in _WORDS:
        return file.read(_WORDS[register])
    return None


def write(file: RegisterFile, register: int, value: Any) -> bool:
    """The contrary; whether the register is one of these. Raises TypeError for values of another form."""
    if register in _PHYSICAL:
        mantissa, exponent = _pair(value, 2)
        file.write(_at_top(file, register - _PHYSICAL.start), exponent << 64 | mantissa & MANTISSA)
    elif register in _STACK:
        name = f"st{register - _STACK.start}"
        file.write(name, file.read(name) >> 64 << 64 | _number(value) & MANTISSA)
    elif register in _TABLES:
        table = _TABLES[register]
        _, base, limit, _ = _pair(value, 4)
        file.write(_known(file, f"{table}_base"), base)
        file.write(_known(file, f"{table}_limit"), limit)
    elif register == x86.UC_X86_REG_MSR:
        number, content = _pair(value, 2)
        file.write(_known(file, _MSRS.get(number)), content)
    elif register in _WORDS:
        file.write(_WORDS[register], _number(value))
    else:
        return False
    return True


class Ports:
    """The ports as a device: hooks of IN and OUT answer; without any, IN reads zeros."""

    def __init__(self) -> None:
        self.inputs: list[Callable[[int, int], int]] = []
        """Port and size in bytes; the value."""
        self.outputs: list[Callable[[int, int, int], None]] = []
        """Port, size, value."""

    def read(self, offset: int, size: int) -> int:
        value = 0
        for answer in list(self.inputs):
            value = answer(offset, size)
        return value & ((1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        for take in list(self.outputs):
            take(offset, size, value)
