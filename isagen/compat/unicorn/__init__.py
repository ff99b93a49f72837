"""Unicorn's Python interface (version 2) over `isagen.Emulator`: a script runs by changing its imports.

    from isagen.compat.unicorn import *
    from isagen.compat.unicorn.riscv_const import *

Architectures are those of the built targets. Where Unicorn is inexact (hooks that cached code forgets, counts
that hooks spoil), this is exact. What is missing raises ``UcError`` with ``UC_ERR_ARG`` or ``UC_ERR_ARCH``.
"""

from __future__ import annotations

from isagen.compat.unicorn import (
    arm64_const,
    arm_const,
    ppc_const,
    riscv_const,
    sparc_const,
    unicorn_const,
    x86_const,
)
from isagen.compat.unicorn.context import UcContext
from isagen.compat.unicorn.engine import Uc, uc_arch_supported, uc_version, version_bind
from isagen.compat.unicorn.errors import UcError
from isagen.compat.unicorn.unicorn_const import *  # noqa: F403 - scripts expect all constants here

__version__ = (
    f"{unicorn_const.UC_VERSION_MAJOR}.{unicorn_const.UC_VERSION_MINOR}.{unicorn_const.UC_VERSION_PATCH}"
)
"""The version of the interface that is followed."""

__all__ = [
    "Uc",
    "UcContext",
    "UcError",
    "__version__",
    "arm64_const",
    "arm_const",
    "ppc_const",
    "riscv_const",
    "sparc_const",
    "uc_arch_supported",
    "uc_version",
    "unicorn_const",
    "version_bind",
    "x86_const",
    *(name for name in vars(unicorn_const) if name.startswith("UC_")),
]
