"""The registers as gdb wants them: ``generated/<target>/target.xml`` (gdb manual, G "Target Descriptions").

Which registers belong to which of gdb's standard features, and by which names, the specs say (`debug`). A
target without such groups gets one feature of its own with all that is not hidden.
"""

from __future__ import annotations

from generator.emit.render import render
from generator.model.target import DebugGroup, DebugRegister, Target

_TYPES = {16: "uint16", 32: "uint32", 64: "uint64", 128: "uint128"}


def target_description(target: Target) -> str:
    """The target description of `target`, as XML."""
    return render(
        "target.xml.j2",
        target=target,
        groups=target.debug or (_all(target),),
        type_of=type_of,
        bits_of=bits_of,
    )


def bits_of(register: DebugRegister) -> int:
    """Bits of a register as gdb transfers it: whole bytes."""
    return -(-register.width // 8) * 8


def type_of(register: DebugRegister) -> str:
    """gdb's type for a register: what it shows it as."""
    if register.is_float:
        return "ieee_double" if register.width == 64 else "ieee_single"
    if register.name in ("pc", "rip", "eip", "npc"):
        return "code_ptr"
    if register.name in ("sp", "rsp", "esp"):
        return "data_ptr"
    return _TYPES.get(register.width, "int")


def _all(target: Target) -> DebugGroup:
    registers = []
    for register in target.registers:
        if register.hidden:
            continue
        if register.count is None:
            registers.append(
                DebugRegister(
                    name=register.name,
                    register_name=register.name,
                    index=None,
                    width=register.width,
                    is_float=False,
                )
            )
            continue
        names = register.names or tuple(f"{register.name}{n}" for n in range(register.count))
        registers += [
            DebugRegister(
                name=name, register_name=register.name, index=n, width=register.width, is_float=False
            )
            for n, name in enumerate(names)
        ]
    return DebugGroup(name=f"org.isagen.{target.name}", registers=tuple(registers))
