"""What an instruction that can't be executed means to the program, and how that is told to people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.linux.ports import EXECUTE, READ, WRITE
from runtime.linux.siginfo import BUS_ADRALN, BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR

if TYPE_CHECKING:
    from runtime.linux.memory import Area
    from runtime.linux.ports import Stop
    from runtime.linux.process import Process

DESCRIPTIONS = {
    "SIGSEGV": "segmentation fault",
    "SIGBUS": "bus error",
    "SIGILL": "illegal instruction",
    "SIGFPE": "arithmetic exception",
    "SIGTRAP": "breakpoint",
}
LONGEST_INSTRUCTION = 16


def cause(p: Process, stop: Stop) -> tuple[str, int, int]:
    """The signal's name, ``si_code`` and ``si_addr`` of a fault or trap."""
    name = p.abi.signal_of(stop)
    details = p.abi.signal_details(p.cpu, stop)
    if details is not None:
        return name, *details
    if stop.kind != "fault":
        address = stop.value if name == "SIGBUS" else stop.pc
        return name, BUS_ADRALN, address
    area = p.memory.find(stop.address)
    if area is None:
        return name, SEGV_MAPERR, stop.address
    if area.permissions & stop.access == stop.access and area.shared and area.name:
        return "SIGBUS", BUS_ADRERR, stop.address  # behind the file's end
    return name, SEGV_ACCERR, stop.address


def describe(p: Process, stop: Stop, name: str) -> str:
    """What happened, where, the instruction, and the registers, as text of several lines."""
    abi = p.abi
    digits = abi.bits // 4
    what = DESCRIPTIONS.get(name, name)
    if stop.kind == "fault":
        verb = {WRITE: "writing", EXECUTE: "executing"}.get(stop.access, "reading")
        reason = f", {verb} {stop.address:#x}"
    else:
        reason = f" ({stop.name}, code {stop.code})" if stop.name else f" (code {stop.code})"
    area = p.memory.find(stop.pc)
    place = f" in {area.name}" if area is not None and area.name else ""
    lines = [f"isagen: guest: {what} ({name}) at pc {stop.pc:#x}{place}{reason}"]
    if len(p.threads) > 1 or p.is_child:
        lines.append(f"  process {os.getpid()}, thread {p.thread.id}, {os.fsdecode(p.executable)}")
    text = instruction(p, stop.pc)
    if text:
        lines.append(f"  {stop.pc:0{digits}x}: {text}")
    if area is not None:
        lines.append(f"  code: {mapping(area, digits)}")
    if stop.kind == "fault" and stop.address != stop.pc:
        there = p.memory.find(stop.address)
        lines.append(f"  address: {mapping(there, digits) if there is not None else 'not mapped'}")
    row: list[str] = []
    for register in abi.shown_registers:
        try:
            value = p.cpu.get(register)
        except KeyError:
            continue
        row.append(f"{register:>4} {value & abi.mask:0{digits}x}")
        if len(row) == 4:
            lines.append("  " + "  ".join(row))
            row = []
    if row:
        lines.append("  " + "  ".join(row))
    return "\n".join(lines) + "\n"


def mapping(area: Area, digits: int) -> str:
    letters = "".join(
        letter if area.permissions & bit else "-"
        for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE))
    )
    name = f" {area.name}+{area.offset:#x}" if area.name else ""
    return f"{area.start:0{digits}x}-{area.end:0{digits}x} {letters}{name}"


def instruction(p: Process, address: int) -> str:
    """Bytes and, where the settings have a disassembler, text of the instruction there."""
    size = p.memory.accessible(address, LONGEST_INSTRUCTION, READ | EXECUTE)
    if not size:
        return ""
    data = p.memory.pages.read(address, size)
    if p.settings.disassemble is not None:
        length, text = p.settings.disassemble(p.abi, data, address)
        return f"{data[:length].hex()}  {text}"
    return data[:4].hex()
