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
BARE: Final = Path(__file__).resolve().parent / "bare"
"""What stands in for a C library where there is none."""


@dataclass(frozen=True)
class Platform:
    """How programs for a target are made and run elsewhere.

    `sources`: files of `BARE` that are compiled along, where there is no C library. `board`: programs have a
    machine of their own (`isagen boot`) and run with paging on, else they are Linux's.
    """

    compiler: str
    qemu: tuple[str, ...]
    """The command of the peer, which a program's name is added to."""
    options: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    board: str = ""


_RISCV: Final = "riscv64-linux-gnu-gcc"
_ALONE: Final = (
    *("-nostdlib", "-ffreestanding", "-fno-math-errno", "-fno-pic", "-no-pie", "-mcmodel=medany", "-w"),
    *("-Wl,--build-id=none", f"-I{BARE / 'include'}"),
)
_BOARD: Final = (*_ALONE, "-T", str(BARE / "system.ld"))
_RV32: Final = ("-march=rv32gc", "-mabi=ilp32d")
_RV64: Final = ("-march=rv64gc", "-mabi=lp64d")


def _machine(qemu: str) -> tuple[str, ...]:
    quiet = ("-display", "none", "-monitor", "none", "-serial", "stdio")
    return (qemu, "-M", "virt", "-bios", "none", *quiet, "-kernel")


PLATFORMS: Final = {
    "riscv64": Platform(_RISCV, ("qemu-riscv64",), _RV64),
    "riscv32": Platform(_RISCV, ("qemu-riscv32",), (*_RV32, *_ALONE), ("user.c", "library.c")),
    "aarch64": Platform("aarch64-linux-gnu-gcc", ("qemu-aarch64",)),
    "arm": Platform("arm-linux-gnueabihf-gcc", ("qemu-arm",)),
    "x86_64": Platform("x86_64-linux-gnu-gcc", ("qemu-x86_64",)),
    "i386": Platform("i686-linux-gnu-gcc", ("qemu-i386",)),
    "ppc": Platform("powerpc-linux-gnu-gcc", ("qemu-ppc",)),
    "ppc64": Platform("powerpc64-linux-gnu-gcc", ("qemu-ppc64",)),
    "ppc64le": Platform("powerpc64le-linux-gnu-gcc", ("qemu-ppc64le",)),
    "sparc64": Platform("sparc64-linux-gnu-gcc", ("qemu-sparc64",)),
}
SYSTEMS: Final = {
    "riscv64": Platform(
        _RISCV, _machine("qemu-system-riscv64"), (*_RV64, *_BOARD), ("system.c", "library.c"), "virt"
    ),
    "riscv32": Platform(
        _RISCV, _machine("qemu-system-riscv32"), (*_RV32, *_BOARD), ("system.c", "library.c"), "virt32"
    ),
}
"""The same for whole machines."""


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


def platform_of(target: str, *, system: bool = False) -> Platform:
    """The platform of a target; `system`: of a whole machine. Raises `IsagenError` where there is none or its
    tools aren't installed.
    """
    platforms = SYSTEMS if system else PLATFORMS
    platform = platforms.get(target)
    if platform is None:
        raise IsagenError(
            f"the benchmark can't compile for {target}", remedy=f"targets: {', '.join(platforms)}"
        )
    for tool in (platform.compiler, platform.qemu[0]):
        if shutil.which(tool) is None:
            raise IsagenError(f"{tool} isn't installed", remedy="install gcc for that target, and QEMU")
    return platform


def compile_program(source: Path, platform: Platform, folder: Path) -> Path:
    """The static executable of `source`, in `folder`, compiled unless it is there. Raises `IsagenError`."""
    files = [source, *(BARE / name for name in platform.sources)]
    options = ["-O2", "-static", *platform.options]
    total = hashlib.sha256(" ".join([platform.compiler, *options]).encode())
    for file in (*files, *(sorted(BARE.rglob("*.[hl]*")) if platform.sources else ())):
        total.update(file.read_bytes())
    program = folder / f"{source.stem}-{total.hexdigest()[:12]}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        libraries = () if platform.sources else ("-lm",)
        command = [platform.compiler, *options, "-o", str(program), *map(str, files), *libraries]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
            raise IsagenError(f"{platform.compiler} failed: {first}", where=str(source))
    return program
