"""What LLVM makes of regions' text on this host."""

import ctypes

from runtime.cpu.translator.compiler import Compiler
from runtime.cpu.translator.translator import loaded_code

PART = """
define void @part(ptr %register, i64 %distance) {
  %whole = load atomic i64, ptr %register unordered, align 8
  %address = add i64 %whole, %distance
  %place = inttoptr i64 %address to ptr
  %low = load i16, ptr %place, align 1
  %next = add i64 %whole, 2
  %behind = getelementptr i8, ptr %register, i64 8
  %wide = zext i16 %low to i64
  %upper = and i64 %whole, -65536
  %joined = or disjoint i64 %upper, %wide
  store i64 %next, ptr %behind, align 4
  store i64 %joined, ptr %register, align 4
  ret void
}
"""


def test_a_part_of_the_register_that_addresses_it():
    """As a pop of 16 bits to where the address came from (seed 90060 of x86_64's lockstep)."""
    memory = (ctypes.c_uint16 * 4)(0x1234)
    guest = 0x5555_0002_0000
    registers = (ctypes.c_uint64 * 2)(guest)
    loaded = loaded_code(Compiler().compile(PART, "part"))
    assert loaded is not None
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(loaded.address("part"))
    function(ctypes.addressof(registers), ctypes.addressof(memory) - guest)
    assert list(registers) == [guest | 0x1234, guest + 2]
