"""Where things lie: specs and templates (package data), and built targets.

In a checkout targets are built into its ``generated/`` folder; an installed package builds into the user's
cache folder. ``ISAGEN_GENERATED`` overrides both.
"""

from __future__ import annotations

import os
from pathlib import Path

from isagen.version import __version__

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds the packages: a checkout's top folder, or site-packages."""


def spec_root() -> Path:
    """The folder of the families' spec folders."""
    return ROOT / "isa"


def is_checkout() -> bool:
    """Whether this code runs from a checkout rather than from an installed package."""
    return (ROOT / "pyproject.toml").is_file() and (ROOT / "isa").is_dir()


def generated_root() -> Path:
    """The folder that holds one package for each built target; it need not exist yet."""
    chosen = os.environ.get("ISAGEN_GENERATED")
    if chosen:
        return Path(chosen).absolute()
    if is_checkout():
        return ROOT / "generated"
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "isagen" / __version__ / "generated"


def families() -> tuple[str, ...]:
    """Names of the families that have specs, in alphabetical order."""
    root = spec_root()
    if not root.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in root.iterdir() if any(folder.glob("*.isa"))))
