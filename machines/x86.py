"""x86 CPUs as machines start them."""

from __future__ import annotations

from typing import Final

from runtime.cpu.engine import Cpu

PORTS: Final = range(1 << 52, (1 << 52) + 0x1_1000)
"""Physical addresses of the ports (isa/x86/io.isa), and of what an access at the last one reaches."""
IDENTITY: Final = 0x663
"""What EDX holds: family, model and stepping, as CPUID has them."""
SEGMENT: Final = 0x0093
CODE_SEGMENT: Final = 0x009B
"""Access rights: present, level 0, data that may be written, or code that may be read; 16 bits."""


def power_on(cpu: Cpu) -> None:
    """The state behind a reset (SDM volume 3, 10.1.1, table 10-1): real mode, 16 bytes from the end of 4 GiB;
    an i8086: of 1 MiB.
    """
    wide = cpu.package.name != "i8086"
    cpu.reset()
    state = {"code_size": 16, "stack_size": 16, "cpl": 0, "flag_bits": 2, "idt_limit": 0x3FF}
    state |= {"cr0": 0x6000_0010, "cr4": 0, "efer": 0, "gdt_limit": 0xFFFF}
    if wide:
        state |= {"dr[6]": 0xFFFF_0FF0, "dr[7]": 0x400, "gpr[2]": IDENTITY}
    for name, value in state.items():
        cpu.set(name, value)
    for segment in range(6):
        cpu.set(f"selector[{segment}]", 0)
        cpu.set(f"seg_base[{segment}]", 0)
        cpu.set(f"seg_limit[{segment}]", 0xFFFF)
        cpu.set(f"seg_rights[{segment}]", SEGMENT)
    cpu.set("seg_rights[1]", CODE_SEGMENT)
    cpu.set("selector[1]", 0xF000)
    cpu.set("seg_base[1]", 0xFFFF_0000 if wide else 0xF_0000)
    cpu.pc = 0xFFFF_FFF0 if wide else 0xF_FFF0
