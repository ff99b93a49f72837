"""Groups of registers as debuggers know them: `debug "org.gnu.gdb.riscv.cpu" { x, pc }`. A bank stands for
all its registers that can be read.
"""

from __future__ import annotations

from collections.abc import Sequence

from generator.ir.lower.entities import Elaboration, StateElement
from generator.ir.lower.report import Mistake, did_you_mean
from generator.ir.lower.state import entry_names
from generator.language import syntax as s
from generator.model.target import Bank, DebugGroup, DebugRegister


def debug_groups(spec: Elaboration, banks: Sequence[Bank]) -> tuple[DebugGroup, ...]:
    """The groups in the order of the files: debuggers number registers in this order."""
    groups: list[DebugGroup] = []
    for item in spec.family.debug:
        with spec.report.recover(item.at):
            registers = [register for row in item.rows for register in _registers(spec, row, banks)]
            groups.append(DebugGroup(name=item.group.text, registers=tuple(registers)))
    return tuple(groups)


def _registers(spec: Elaboration, row: s.DebugRow, banks: Sequence[Bank]) -> list[DebugRegister]:
    bank = next((bank for bank in banks if bank.name == row.name.name), None)
    if bank is not None:
        return [
            DebugRegister(
                name=entry.name, register_name=bank.name, index=entry.first, width=bank.width, is_float=False
            )
            for entry in bank.rows
            if entry.readable
        ]
    element = spec.entities.get(row.name.name)
    if not isinstance(element, StateElement):
        known = [name for name, entity in spec.entities.items() if isinstance(entity, StateElement)]
        known += [bank.name for bank in banks]
        raise Mistake(
            row.at,
            f"there is no register `{row.name.name}`",
            did_you_mean(row.name.name, known, "declare it"),
        )
    model = element.model
    count = 1 if model.count is None else model.count
    if row.names is not None:
        names = entry_names(row.names.text, model.name, count, row.names.at)
    else:
        names = (model.name,) if model.count is None else model.names
    names = names or tuple(f"{model.name}{n}" for n in range(count))
    return [
        DebugRegister(
            name=name,
            register_name=model.name,
            index=None if model.count is None else number,
            width=model.width,
            is_float=row.is_float,
        )
        for number, name in enumerate(names)
    ]
