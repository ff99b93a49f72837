"""Targets built once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from generator.model.target import Target
from runtime.cpu.engine import TargetPackage, load_target
from tests.runtime.cpu.build_target import build
from tests.runtime.cpu.toy import toy_target


@pytest.fixture(scope="session")
def build_package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Target], TargetPackage]:
    """Builds and loads a target made by a test."""

    def make(target: Target) -> TargetPackage:
        folder: Path = tmp_path_factory.mktemp(target.name)
        build(target, folder)
        return load_target(folder)

    return make


@pytest.fixture(scope="session")
def toy(build_package: Callable[[Target], TargetPackage]) -> TargetPackage:
    """The toy target, ready to run."""
    return build_package(toy_target())


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """The folder of a real target by name, built as `isagen build` does (nothing to do where it is up to
    date).
    """
    from isagen.build import build as build_targets
    from isagen.targets import source_of

    def folder(name: str) -> Path:
        (result,) = build_targets([source_of(name)])
        assert result.folder is not None
        return result.folder

    return folder
