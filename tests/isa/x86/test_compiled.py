"""C++ as gcc compiles it: for both targets, at several levels, with and without SSE. The host (i386: QEMU)
says what is right.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
FLAGS = {
    "x86_64": ("-msse2", "-mfpmath=387"),
    "i386": ("-msse2 -mfpmath=sse", "-mno-sse -mfpmath=387"),
}


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
@pytest.mark.parametrize("target", ["x86_64", "i386"])
def test_as_on_the_host(
    target: str,
    level: str,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the host is no x86")
    require_target(target)
    compiler = require_tool("x86_64-linux-gnu-g++" if target == "x86_64" else "i686-linux-gnu-g++")
    peer = [] if target == "x86_64" else [require_tool("qemu-i386")]
    for number, flags in enumerate(FLAGS[target]):
        program = tmp_path / f"mixed{number}"
        source = Path(__file__).with_name("mixed.cc")
        options = [*flags.split(), "-std=c++17", "-static", "-w"]
        subprocess.run([compiler, level, *options, "-o", program, source], check=True)
        native, ours = (
            subprocess.run([*prefix, program], capture_output=True, text=True, timeout=120, cwd=CHECKOUT)
            for prefix in (peer, [sys.executable, "-m", "isagen", "run"])
        )
        assert native.stdout.count("\n") > 9, native
        assert (ours.stdout, ours.returncode) == (native.stdout, native.returncode), flags
