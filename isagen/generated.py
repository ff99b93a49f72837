"""Built targets: where they are, and loading their generated modules."""

from __future__ import annotations

import importlib
import json
import sys
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from isagen import paths
from isagen.fingerprint import engine_digest, specs_digest
from isagen.targets import all_targets, build_command
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.assembly.disassembler import Disassembler
    from runtime.assembly.tables import Syntax


class NotBuiltError(IsagenError):
    """A target that isn't built yet."""


def is_built(target: str) -> bool:
    return (paths.generated_root() / target / "build.json").is_file()


def built_targets() -> list[str]:
    """Names of the built targets."""
    root = paths.generated_root()
    return sorted(file.parent.name for file in root.glob("*/build.json")) if root.is_dir() else []


def folder_of(target: str) -> Path:
    """The folder of a built target. Raises `NotBuiltError`."""
    folder = paths.generated_root() / target
    if not is_built(target):
        if target in all_targets():
            raise NotBuiltError(f"target {target} isn't built", remedy=f"run: {build_command(target)}")
        known = ", ".join(dict.fromkeys([*all_targets(), *built_targets()]))
        raise NotBuiltError(f"there is no target named {target!r}", remedy=f"targets: {known}")
    manifest = json.loads((folder / "build.json").read_bytes())
    if manifest.get("engine") != engine_digest():
        raise _outdated(target, "by another version")
    family = manifest.get("family", "")
    if manifest.get("specs") != specs_digest(family):
        raise _outdated(target, f"before isa/{family} was changed")
    return folder


def _outdated(target: str, how: str) -> NotBuiltError:
    base = next((name for name in all_targets() if target == name or target.startswith(f"{name}_")), target)
    extra = "" if base == target else " --with ..."
    return NotBuiltError(f"target {target} was built {how}", remedy=f"run: {build_command(base, extra)}")


def load_module(target: str, name: str) -> ModuleType:
    """The module `name` of a built target. Raises `NotBuiltError`."""
    folder = folder_of(target)
    package = f"isagen_generated_{target}"
    if package not in sys.modules:
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[package] = module_from_spec(spec)
    return importlib.import_module(f"{package}.{name}")


def load_syntax(target: str) -> Syntax:
    """The assembler's and disassembler's tables of a built target."""
    syntax: Syntax = load_module(target, "syntax").SYNTAX
    return syntax


@lru_cache
def disassembler(target: str, dialect: str) -> Disassembler:
    """The disassembler of a built target. Raises `NotBuiltError`."""
    from runtime.assembly.disassembler import Disassembler

    return Disassembler(load_syntax(target), dialect)
