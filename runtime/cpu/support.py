"""128-bit division for executors (`runtime.cpu.wide`), as LLVM text: LLVM would call a library for it."""

from __future__ import annotations

from typing import Final

_UNSIGNED = """
define internal { i128, i128 } @divide_bits(i128 %n, i128 %d) nounwind {
  ; Restoring division, a bit a step; %d is not 0.
entry:
  br label %step
step:
  %i = phi i32 [ 128, %entry ], [ %next, %step ]
  %r = phi i128 [ 0, %entry ], [ %rest, %step ]
  %q = phi i128 [ %n, %entry ], [ %quotient, %step ]
  %top = lshr i128 %q, 127
  %carry = lshr i128 %r, 127
  %over = icmp ne i128 %carry, 0
  %shifted = shl i128 %r, 1
  %grown = or i128 %shifted, %top
  %fits = icmp uge i128 %grown, %d
  %take = or i1 %over, %fits
  %less = sub i128 %grown, %d
  %rest = select i1 %take, i128 %less, i128 %grown
  %bit = zext i1 %take to i128
  %moved = shl i128 %q, 1
  %quotient = or i128 %moved, %bit
  %next = sub i32 %i, 1
  %more = icmp ne i32 %next, 0
  br i1 %more, label %step, label %done
done:
  %pair = insertvalue { i128, i128 } undef, i128 %quotient, 0
  %both = insertvalue { i128, i128 } %pair, i128 %rest, 1
  ret { i128, i128 } %both
}

define internal { i128, i128 } @divide_unsigned(i128 %n, i128 %d) nounwind {
entry:
  %zero = icmp eq i128 %d, 0
  br i1 %zero, label %none, label %some
none:
  %ones = insertvalue { i128, i128 } undef, i128 -1, 0
  %same = insertvalue { i128, i128 } %ones, i128 %n, 1
  ret { i128, i128 } %same
some:
  %either = or i128 %n, %d
  %high = lshr i128 %either, 64
  %small = icmp eq i128 %high, 0
  br i1 %small, label %short, label %long
short:
  %n64 = trunc i128 %n to i64
  %d64 = trunc i128 %d to i64
  %q64 = udiv i64 %n64, %d64
  %r64 = urem i64 %n64, %d64
  %q128 = zext i64 %q64 to i128
  %r128 = zext i64 %r64 to i128
  %first = insertvalue { i128, i128 } undef, i128 %q128, 0
  %second = insertvalue { i128, i128 } %first, i128 %r128, 1
  ret { i128, i128 } %second
long:
  %bits = call { i128, i128 } @divide_bits(i128 %n, i128 %d)
  ret { i128, i128 } %bits
}

define internal { i128, i128 } @divide_signed(i128 %n, i128 %d) nounwind {
entry:
  %zero = icmp eq i128 %d, 0
  br i1 %zero, label %none, label %some
none:
  %ones = insertvalue { i128, i128 } undef, i128 -1, 0
  %same = insertvalue { i128, i128 } %ones, i128 %n, 1
  ret { i128, i128 } %same
some:
  %ns = ashr i128 %n, 127
  %ds = ashr i128 %d, 127
  %nx = xor i128 %n, %ns
  %na = sub i128 %nx, %ns
  %dx = xor i128 %d, %ds
  %da = sub i128 %dx, %ds
  %pair = call { i128, i128 } @divide_unsigned(i128 %na, i128 %da)
  %q = extractvalue { i128, i128 } %pair, 0
  %r = extractvalue { i128, i128 } %pair, 1
  %qs = xor i128 %ns, %ds
  %qx = xor i128 %q, %qs
  %qq = sub i128 %qx, %qs
  %rx = xor i128 %r, %ns
  %rr = sub i128 %rx, %ns
  %first = insertvalue { i128, i128 } undef, i128 %qq, 0
  %second = insertvalue { i128, i128 } %first, i128 %rr, 1
  ret { i128, i128 } %second
}
"""


def _entry(name: str, function: str, position: int) -> str:
    return f"""
define [2 x i64] @isagen_{name}128(i64 %n0, i64 %n1, i64 %d0, i64 %d1) nounwind {{
  %nl = zext i64 %n0 to i128
  %nz = zext i64 %n1 to i128
  %nh = shl i128 %nz, 64
  %n = or i128 %nl, %nh
  %dl = zext i64 %d0 to i128
  %dz = zext i64 %d1 to i128
  %dh = shl i128 %dz, 64
  %d = or i128 %dl, %dh
  %pair = call {{ i128, i128 }} @{function}(i128 %n, i128 %d)
  %value = extractvalue {{ i128, i128 }} %pair, {position}
  %low = trunc i128 %value to i64
  %up = lshr i128 %value, 64
  %high = trunc i128 %up to i64
  %first = insertvalue [2 x i64] undef, i64 %low, 0
  %both = insertvalue [2 x i64] %first, i64 %high, 1
  ret [2 x i64] %both
}}
"""


SUPPORT: Final = _UNSIGNED + "".join(
    _entry(name, function, position)
    for name, function, position in (
        ("udiv", "divide_unsigned", 0),
        ("urem", "divide_unsigned", 1),
        ("sdiv", "divide_signed", 0),
        ("srem", "divide_signed", 1),
    )
)
"""Defines ``isagen_udiv128`` and its kin: (low, high) of dividend and divisor to (low, high). Division by 0
gives all ones (-1) and the dividend as remainder."""
