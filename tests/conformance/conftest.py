"""Built targets for the conformance tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.setup import Setup


@pytest.fixture(scope="session")
def setup_of() -> Callable[[str], Setup]:
    """``setup_of(target)``: a target, built where it isn't up to date."""
    from isagen import paths
    from isagen.build import build
    from isagen.targets import source_of

    def make(target: str) -> Setup:
        source = source_of(target)
        folder = next(iter(build([source]))).folder
        assert folder is not None
        return Setup(source.family, source.name, str(paths.spec_root()), str(folder))

    return make
