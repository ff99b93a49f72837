"""What the runtime has to know about a target besides code and tables: its state, traps and features, as
JSON.
"""

from __future__ import annotations

from typing import Any, Final

from generator.emit.layout import Layout, stored_width
from generator.model.target import Target

FILE: Final = "engine.json"
TABLES: Final = "decoder.bin"
"""Names of the description's and the decode tables' files in a target's folder."""


def describe(target: Target, layout: Layout, objects: list[str], image: str | None) -> dict[str, Any]:
    """The content of `FILE`. `objects`: names of the object files in the target's folder, all to be loaded
    unless `image` names a file with all of them linked.

    Registers come in the layout's order; `offset` counts from the end of the CPU block's header.
    """
    registers = {register.name: register for register in target.registers}
    return {
        "target": target.name,
        "family": target.family,
        "pc_width": target.pc_width,
        "big_endian": target.big_endian,
        "elf_machine": target.elf_machine,
        "elf_class": target.elf_class,
        "tables": TABLES,
        "objects": objects,
        "image": image,
        "layout": {
            "digest": layout.digest(),
            "size": layout.size,
            "sink": layout.sink,
            "registers": [
                {
                    "name": field.register_name,
                    "width": registers[field.register_name].width,
                    "stored_width": stored_width(registers[field.register_name]),
                    "offset": field.offset,
                    "stride": field.stride,
                    "count": registers[field.register_name].count,
                    "zero": registers[field.register_name].zero,
                    "names": list(registers[field.register_name].names),
                    "reset": registers[field.register_name].reset,
                    "lazy": registers[field.register_name].lazy is not None,
                    "hidden": registers[field.register_name].hidden,
                }
                for field in layout.fields
            ],
        },
        "banks": {
            bank.name: {row.name: row.first for row in bank.rows if row.readable} for bank in target.banks
        },
        "pc_reset": registers["pc"].reset if "pc" in registers else 0,
        "traps": [trap.name for trap in sorted(target.traps, key=lambda trap: trap.number)],
        "features": [feature.name for feature in target.features],
        "default_features": list(target.default_features),
        "cpus": {cpu.name: list(cpu.features) for cpu in target.cpus},
        "cpu_titles": {cpu.name: cpu.title for cpu in target.cpus},
        "feature_rules": {
            feature.name: {
                "implies": list(feature.implies),
                "requires": list(feature.requires),
                "excludes": list(feature.excludes),
            }
            for feature in target.features
        },
    }
