"""Programs for several architectures, compiled once a session."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"

# Compiler and peer of each architecture.
KINDS = {
    "riscv64": ("riscv64-linux-gnu-gcc", "qemu-riscv64"),
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64"),
    "arm": ("arm-linux-gnueabihf-gcc", "qemu-arm"),
    "x86_64": ("x86_64-linux-gnu-gcc", "qemu-x86_64"),
    "ppc": ("powerpc-linux-gnu-gcc", "qemu-ppc"),
}

COMPILERS = {kind: compiler for kind, (compiler, _) in KINDS.items()} | {"i386": "i686-linux-gnu-gcc"}


@pytest.fixture(scope="session")
def build(
    require_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """``build(program, architecture)``: a static executable, compiled once."""
    folder = tmp_path_factory.mktemp("programs")

    def make(name: str, kind: str) -> Path:
        target: Path = folder / kind / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            compiler = require_tool(COMPILERS[kind])
            source = PROGRAMS / f"{name}.c"
            options = ["-O2", "-static", "-w", "-D_FILE_OFFSET_BITS=64"]
            subprocess.run([compiler, *options, "-o", target, source, "-lm", "-pthread"], check=True)
        return target

    return make
