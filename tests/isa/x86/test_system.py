"""The system level: bare-metal images of our own print what happens to them, here as under QEMU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cpu.package import load_target
from tests.isa.x86 import board


@pytest.mark.parametrize(("image", "status"), [("protected", 3), ("long", 5)])
def test_as_qemu(
    image: str,
    status: int,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    require_tool("as")
    require_tool("qemu-system-x86_64")
    package = load_target(require_target("x86_64"))
    rom = tmp_path / "image.rom"
    rom.write_bytes(board.assemble(image, tmp_path))
    expected, code = board.run_qemu(rom, tmp_path)
    assert code == status
    text, code = board.run(package, rom.read_bytes())
    assert text.splitlines() == expected.splitlines()
    assert code == status
