"""What all tests share: tools that may be absent, and the data beside the checkout.

With ``ISAGEN_REQUIRE_TOOLS=1`` (as in CI) an absent tool fails the test that asks for it instead of skipping.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from tests.debian import FetchError, kernel, tree

CHECKOUT = Path(__file__).resolve().parent.parent


def absent(what: str) -> NoReturn:
    """Skip the test for want of `what`; fail it where tools are required."""
    if os.environ.get("ISAGEN_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{what} is absent, and ISAGEN_REQUIRE_TOOLS=1")
    pytest.skip(f"{what} is absent")


@pytest.fixture(scope="session")
def require_tool() -> Callable[..., str]:
    """``require_tool(name, ...)``: the path of the first of these programs that exists."""

    def find(*names: str) -> str:
        for name in names:
            path = shutil.which(name)
            if path:
                return path
        absent(f"the program {' or '.join(names)}")

    return find


@pytest.fixture(scope="session")
def require_module() -> Callable[[str], ModuleType]:
    """``require_module(name)``: the Python module of that name (an optional peer)."""

    def find(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError:
            absent(f"the Python module {name}")

    return find


SUITES = {"riscv64": ("trixie", "stable", "testing")}
"""Where a package is looked for, by Debian's name of the architecture: the first releases that have it."""


@pytest.fixture(scope="session")
def debian() -> Callable[..., Path]:
    """``debian(architecture, package, ...)``: a tree of these packages of Debian's and their needs."""

    def find(architecture: str, *packages: str) -> Path:
        try:
            return tree(SUITES.get(architecture, ("bookworm", "oldstable")), architecture, packages)
        except FetchError as error:
            absent(f"Debian's {', '.join(packages)} for {architecture} ({error})")

    return find


@pytest.fixture(scope="session")
def debian_kernel() -> Callable[..., Path]:
    """``debian_kernel(architecture, module, ...)``: a tree with Debian's kernel and some of its modules."""

    def find(architecture: str, *modules: str) -> Path:
        try:
            return kernel(SUITES.get(architecture, ("bookworm", "oldstable")), architecture, modules)
        except FetchError as error:
            absent(f"Debian's kernel for {architecture} ({error})")

    return find


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of test vectors beside the checkout (``ISAGEN_VECTORS`` overrides).

    Always skips where it is absent: it isn't part of the project.
    """
    folder = Path(os.environ.get("ISAGEN_VECTORS") or CHECKOUT.parent / "shared" / "vectors")
    if not folder.is_dir():
        pytest.skip(f"no vectors at {folder}")
    return folder


@pytest.fixture(scope="session")
def require_target() -> Callable[[str], Path]:
    """``require_target(name)``: the folder of that target, built if it isn't up to date."""
    done: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in done:
            from isagen.build import build
            from isagen.targets import source_of

            (result,) = build([source_of(name)])
            assert result.folder is not None
            done[name] = result.folder
        return done[name]

    return make
