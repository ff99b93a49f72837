"""What a task needs to know to run in any process: a target's name and where its spec and its build are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from generator.load import load_target as load_model
from generator.model.target import Form, Target
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.assembly.tables import Syntax
    from runtime.cpu.package import TargetPackage


@dataclass(frozen=True)
class Setup:
    """A target: `specs` is the folder of the families' specs, `built` the target's own folder of generated
    files, `extra` the spec files that were added to the family's.
    """

    family: str
    target: str
    specs: str
    built: str
    extra: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The built target's name: that of its folder."""
        return Path(self.built).name if self.extra else self.target

    @property
    def model(self) -> Target:
        """The target's model, loaded once a process."""
        return _model(self.family, self.target, self.specs, self.extra)

    def is_own(self, form: Form) -> bool:
        """Whether a form comes from an extra file, so that no peer can know it."""
        return form.span.file in self.extra

    @property
    def package(self) -> TargetPackage:
        """The built target, loaded once a process. Raises `IsagenError` if it isn't built or can't
        be used.
        """
        return _package(self.name, self.built)

    @property
    def syntax(self) -> Syntax:
        """The built target's assembler tables, loaded once a process."""
        return _syntax(self.name, self.built)


@lru_cache(maxsize=4)
def _model(family: str, target: str, specs: str, extra: tuple[str, ...]) -> Target:
    return load_model(Path(specs), family, target, [Path(file) for file in extra])


@lru_cache(maxsize=4)
def _package(target: str, built: str) -> TargetPackage:
    from runtime.cpu.package import load_target

    _demand(target, built)
    return load_target(Path(built))


@lru_cache(maxsize=4)
def _syntax(target: str, built: str) -> Syntax:
    import importlib.util

    _demand(target, built)
    spec = importlib.util.spec_from_file_location(f"isagen_conformance_{target}", Path(built) / "syntax.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    syntax: Syntax = module.SYNTAX
    return syntax


def _demand(target: str, built: str) -> None:
    if not (Path(built) / "build.json").is_file():
        raise IsagenError(f"target {target} isn't built", where=built, remedy=f"run: isagen build {target}")


def all_features(model: Target) -> tuple[str, ...]:
    """Every feature of a target that fits together with those before it."""
    chosen: list[str] = []
    for feature in model.features:
        others = {name for f in model.features if f.name in chosen for name in f.excludes}
        if feature.name not in others and not set(feature.excludes) & set(chosen):
            chosen.append(feature.name)
    return tuple(chosen)
