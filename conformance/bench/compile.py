"""The benchmark programs, and compiling them for a target."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from runtime.errors import IsagenError

PROGRAMS: Final = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True)
class Platform:
    """How programs for a target are made and run elsewhere: compiler, its options, qemu-user's program."""

    compiler: str
    qemu: str
    options: tuple[str, ...] = ()


PLATFORMS: Final = {
    "riscv64": Platform("riscv64-linux-gnu-gcc", "qemu-riscv64", ("-march=rv64gc", "-mabi=lp64d")),
    "aarch64": Platform("aarch64-linux-gnu-gcc", "qemu-aarch64"),
    "arm": Platform("arm-linux-gnueabihf-gcc", "qemu-arm"),
    "x86_64": Platform("x86_64-linux-gnu-gcc", "qemu-x86_64"),
    "i386": Platform("i686-linux-gnu-gcc", "qemu-i386"),
    "ppc": Platform("powerpc-linux-gnu-gcc", "qemu-ppc"),
    "ppc64": Platform("powerpc64-linux-gnu-gcc", "qemu-ppc64"),
    "ppc64le": Platform("powerpc64le-linux-gnu-gcc", "qemu-ppc64le"),
    "sparc64": Platform("sparc64-linux-gnu-gcc", "qemu-sparc64"),
}


def sources(patterns: list[str]) -> list[Path]:
    """The programs whose names fit one of `patterns` (all if there are none). Raises `IsagenError` if none
    does.
    """
    found = sorted(PROGRAMS.glob("*.c"))
    chosen = [p for p in found if not patterns or any(fnmatchcase(p.stem, pattern) for pattern in patterns)]
    if not chosen:
        known = ", ".join(path.stem for path in found)
        raise IsagenError(f"no program is named {' or '.join(patterns)}", remedy=f"programs: {known}")
    return chosen


def platform_of(target: str) -> Platform:
    """The platform of a target. Raises `IsagenError` where there is none or its tools aren't installed."""
    platform = PLATFORMS.get(target)
    if platform is None:
        raise IsagenError(
            f"the benchmark can't compile for {target}", remedy=f"targets: {', '.join(PLATFORMS)}"
        )
    for tool in (platform.compiler, platform.qemu):
        if shutil.which(tool) is None:
            raise IsagenError(f"{tool} isn't installed", remedy="install gcc for that target, and qemu-user")
    return platform


def compile_program(source: Path, platform: Platform, folder: Path) -> Path:
    """The static executable of `source`, in `folder`, compiled unless it is there. Raises `IsagenError`."""
    options = ["-O2", "-static", *platform.options]
    key = hashlib.sha256(source.read_bytes() + " ".join([platform.compiler, *options]).encode()).hexdigest()[
        :12
    ]
    program = folder / f"{source.stem}-{key}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [platform.compiler, *options, "-o", str(program), str(source), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
            raise IsagenError(f"{platform.compiler} failed: {first}", where=str(source))
    return program
