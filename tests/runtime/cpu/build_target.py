"""Builds a target made by a test into a folder, as `isagen build` does."""

from __future__ import annotations

import json
from pathlib import Path

from generator.emit.decoder import compile_tables
from generator.emit.executors import emit_executors
from generator.emit.layout import place
from generator.emit.manifest import FILE, TABLES, describe
from generator.ir.specialise import specialise
from generator.model.target import Target


def build(target: Target, folder: Path) -> None:
    """Write everything that `load_target` needs."""
    from isagen.steps import decoder_machine, link_image, softfloat_object
    from runtime.cpu.compile import compile_package

    layout = place(target)
    plan = specialise(target)
    for name, text in emit_executors(target, plan, layout).items():
        (folder / name).write_text(text)
    (folder / TABLES).write_bytes(compile_tables(target, layout, plan, decoder_machine()).data)
    objects = {f"{item.name}.o": item.code for item in compile_package(folder)}
    objects["softfloat.o"] = softfloat_object()
    for name, code in objects.items():
        (folder / name).write_bytes(code)
    image = link_image(folder, list(objects))
    (folder / FILE).write_text(json.dumps(describe(target, layout, list(objects), image)))
