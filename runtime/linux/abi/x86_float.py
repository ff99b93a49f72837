"""The x87's and SSE's registers in signal frames (SDM volume 1, 8.1.10, 10.5)."""

from __future__ import annotations

import struct
from typing import Final

from runtime.linux.abi.base import Abi
from runtime.linux.ports import Cpu

SIZE: Final = 512
LEGACY_SIZE: Final = 112
"""Of the i386's ``struct _fpstate`` before the extended part."""
_ST: Final = 32
_XMM: Final = 160
_read = Abi.read_if_there
_write = Abi.write_if_there


def _status(cpu: Cpu) -> int:
    """The status word, with ES and B (8.1.3)."""
    status = _read(cpu, "fpu_sw")
    return status | (0x8080 if status & ~_read(cpu, "fpu_cw") & 0x3F else 0)


def _turned(byte: int, by: int) -> int:
    """A byte rotated to the left."""
    by &= 7
    return (byte << by | byte >> (8 - by)) & 0xFF


def save(cpu: Cpu, count: int) -> bytes:
    """FXSAVE's area with `count` XMM registers."""
    full = _turned(~_read(cpu, "fpu_empty") & 0xFF, _read(cpu, "fpu_top"))
    head = struct.pack(
        "<HHBxHQQII",
        *(_read(cpu, "fpu_cw") or 0x37F, _status(cpu), full, _read(cpu, "fpu_op")),
        *(_read(cpu, "fpu_ip"), _read(cpu, "fpu_dp"), _read(cpu, "mxcsr") or 0x1F80, 0xFFFF),
    )
    data = head + b"".join(_read(cpu, f"st{n}").to_bytes(16, "little") for n in range(8))
    data += b"".join(_read(cpu, f"xmm{n}").to_bytes(16, "little") for n in range(count))
    return data.ljust(SIZE, b"\0")


def restore(cpu: Cpu, data: bytes, count: int) -> None:
    """Set the registers from what `save` gave, as a handler may have changed it."""
    control, status, full, op, ip, dp, mxcsr, _ = struct.unpack_from("<HHBxHQQII", data)
    _write(cpu, "fpu_cw", control & 0x1F7F | 0x40)
    _write(cpu, "fpu_sw", status & 0x7F7F)
    _write(cpu, "fpu_empty", _turned(~full & 0xFF, -(status >> 11 & 7)))
    _write(cpu, "fpu_op", op & 0x7FF)
    _write(cpu, "fpu_ip", ip)
    _write(cpu, "fpu_dp", dp)
    _write(cpu, "mxcsr", mxcsr & 0xFFFF)
    for n in range(8):
        _write(cpu, f"st{n}", int.from_bytes(data[_ST + 16 * n : _ST + 16 * n + 10], "little"))
    for n in range(count):
        _write(cpu, f"xmm{n}", int.from_bytes(data[_XMM + 16 * n : _XMM + 16 * n + 16], "little"))


def legacy(cpu: Cpu) -> bytes:
    """FSAVE's part of an i386 frame: seven words, eight registers of 10 bytes, the status word, and a mark
    that FXSAVE's area follows.
    """
    tags = 0
    top = _read(cpu, "fpu_top")
    for n in range(8):
        value = _read(cpu, f"st{n}")
        exponent = value >> 64 & 0x7FFF
        if _read(cpu, "fpu_empty") >> n & 1:
            tag = 3
        elif value & ~(1 << 79) == 0:
            tag = 1
        else:
            tag = 2 if exponent in (0, 0x7FFF) or not value >> 63 & 1 else 0
        tags |= tag << 2 * (n + top & 7)
    words = (
        _read(cpu, "fpu_cw") or 0x37F,
        _status(cpu),
        tags,
        _read(cpu, "fpu_ip"),
        _read(cpu, "fpu_op") << 16,
    )
    ones = 0xFFFF_0000
    data = struct.pack("<7I", *(word | ones for word in words[:3]), *words[3:], _read(cpu, "fpu_dp"), ones)
    data += b"".join((_read(cpu, f"st{n}") & (1 << 80) - 1).to_bytes(10, "little") for n in range(8))
    return data + struct.pack("<HH", _status(cpu), 0)


def error_code(cpu: Cpu, *, simd: bool) -> int:
    """``si_code`` of SIGFPE: FPE_FLTINV, FLTDIV, FLTUND, FLTOVF, FLTRES (arch/x86/kernel/fpu/core.c)."""
    if simd:
        state = _read(cpu, "mxcsr")
        pending = state & ~(state >> 7) & 0x3F
    else:
        pending = _status(cpu) & ~_read(cpu, "fpu_cw") & 0x3F
    for bit, code in ((0, 7), (2, 3), (3, 4), (4, 5), (1, 5), (5, 6)):
        if pending >> bit & 1:
            return code
    return 0
