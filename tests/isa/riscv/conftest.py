"""Harts to run on, and GNU's assembler as a peer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.isa.riscv.engine import EngineHart
from tests.isa.riscv.hart import Hart


@pytest.fixture
def make_hart(require_target: Callable[[str], Path]) -> Callable[..., Hart]:
    """``make_hart(xlen, features=None)``: in machine mode at 0x8000_0000; evaluator and engine in step."""

    def make(xlen: int, features: Iterable[str] | None = None) -> Hart:
        return EngineHart(xlen, require_target(f"riscv{xlen}"), features)

    return make


@pytest.fixture(params=[32, 64], ids=["rv32", "rv64"])
def hart(request: pytest.FixtureRequest, make_hart: Callable[..., Hart]) -> Hart:
    """As `make_hart`, once of each width."""
    return make_hart(request.param)


@pytest.fixture(scope="session")
def gnu_assembler(
    require_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int, str], bytes]:
    """``gnu_assembler(text, xlen, march)``: the bytes that GNU as makes of `text`."""
    assembler = require_tool("riscv64-linux-gnu-as")
    objcopy = require_tool("riscv64-linux-gnu-objcopy")
    folder: Path = tmp_path_factory.mktemp("gas")

    def assemble(text: str, xlen: int, march: str) -> bytes:
        source, binary = folder / "a.s", folder / "a.bin"
        source.write_text(text + "\n")
        subprocess.run(
            [assembler, f"-march=rv{xlen}{march}", "-mpriv-spec=1.12", source, "-o", folder / "a.o"],
            check=True,
            capture_output=True,
        )
        subprocess.run([objcopy, "-O", "binary", "-j", ".text", folder / "a.o", binary], check=True)
        return binary.read_bytes()

    return assemble
