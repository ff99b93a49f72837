"""The reference and the compiled library against the host's own instructions (x86-64 only): results and all
flags.

The policy is X86, so this also checks NaNs, denormal operands, flush-to-zero and denormals-are-zeros.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from runtime.softfloat import policy as p
from runtime.softfloat import reference
from runtime.softfloat.symbols import SYMBOLS
from tests.runtime.softfloat.operands import operands, specials


class Peer(NamedTuple):
    """A number of host_peer.c's enumeration, and the compiled function that does the same."""

    symbol: str
    truncates: bool = False
    """The instruction rounds towards zero whatever MXCSR says."""
    mask: int = -1
    """Bits of the peer's result that count."""


def _peers() -> list[Peer]:
    peers = []
    for width in (64, 32):
        peers += [Peer(f"sf_f{width}_{name}") for name in ("add", "sub", "mul", "div", "sqrt", "fma")]
    for width in (64, 32):
        peers += [Peer(f"sf_f{width}_relation_{kind}") for kind in ("quiet", "signaling")]
    for truncates in (False, True):
        peers += [Peer(f"sf_f{width}_to_i{bits}", truncates) for width in (64, 32) for bits in (32, 64)]
    peers += [Peer(f"sf_f{width}_from_i{bits}") for width in (64, 32) for bits in (32, 64)]
    peers += [Peer(name) for name in ("sf_f64_to_f32", "sf_f32_to_f64", "sf_f32_to_f16", "sf_f16_to_f32")]
    for width in (64, 32):
        peers += [Peer(f"sf_f{width}_round_to_integral{exact}") for exact in ("", "_exact")]
    for width in (64, 32):
        peers += [Peer(f"sf_f{width}_{name}", mask=1) for name in ("lt_signaling", "eq_quiet")]
    return peers


PEERS = _peers()
# MXCSR.RC by rounding mode.
MXCSR_RC = {p.RNE: 0, p.RTZ: 3, p.RDN: 1, p.RUP: 2}
# The policies that MXCSR.FTZ and MXCSR.DAZ make.
FLUSHING = {0: p.X86, 0x8000: p.X86 | p.FLUSH_OUTPUTS, 0x40: p.X86 | p.FLUSH_INPUTS}
FLUSHING[0x8040] = FLUSHING[0x8000] | FLUSHING[0x40]
FLAGS = (p.INVALID, p.DENORMAL_INPUT, p.DIVIDE_BY_ZERO, p.OVERFLOW, p.UNDERFLOW, p.INEXACT)

Host = Callable[[int, int, int, list[int]], tuple[int, int]]


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, require_tool: Any) -> Host:
    """``host(index in PEERS, rm, mxcsr bits, operands) -> (result, flags)``."""
    if platform.machine() != "x86_64":
        pytest.skip("the host peer is written in x86-64 instructions")
    wanted = {"fma", "f16c", "sse4_1"}
    if not wanted <= set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("the host lacks FMA, F16C or SSE4.1")
    library = tmp_path_factory.mktemp("host_peer") / "host_peer.so"
    source = Path(__file__).with_name("host_peer.c")
    subprocess.run(
        [require_tool("gcc", "cc"), "-O1", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60
    )
    peer = ctypes.CDLL(str(library)).peer
    peer.argtypes = [ctypes.c_int, ctypes.c_uint, *[ctypes.c_uint64] * 3, ctypes.c_void_p]
    peer.restype = ctypes.c_uint
    result = ctypes.c_uint64()
    result_at = ctypes.byref(result)

    def call(index: int, rm: int, bits: int, values: list[int]) -> tuple[int, int]:
        padded = [*values, 0, 0][:3]
        raised = peer(index, 0x1F80 | bits | MXCSR_RC[rm] << 13, *padded, result_at)
        width = SYMBOLS[PEERS[index].symbol].result_width
        flags = sum(flag for place, flag in enumerate(FLAGS) if raised >> place & 1)
        return result.value & PEERS[index].mask & ((1 << width) - 1), flags

    return call


def check(host: Host, index: int, rm: int, bits: int, values: list[int], compiled: Any) -> None:
    """One case, three ways; `values` without the rounding mode."""
    symbol = SYMBOLS[PEERS[index].symbol]
    used = p.RTZ if PEERS[index].truncates else rm
    arguments = [*values, used] if "rm" in symbol.operands else values
    want = host(index, rm, bits, values)
    policy = FLUSHING[bits]
    got = reference.OPERATIONS[symbol.operation](policy, symbol.width, *arguments, *symbol.constants)
    case = f"{symbol.name}({policy:#x}, {', '.join(map(hex, arguments))})"
    assert got == want, f"reference {case}: {got[0]:#x} {got[1]}; host {want[0]:#x} {want[1]}"
    got = compiled(policy, *arguments)
    assert got == want, f"compiled {case}: {got[0]:#x} {got[1]}; host {want[0]:#x} {want[1]}"


@pytest.mark.parametrize(
    "index", range(len(PEERS)), ids=[f"{peer.symbol}{'_trunc' * peer.truncates}" for peer in PEERS]
)
def test_random(host: Host, compiled: Any, scale: int, index: int) -> None:
    symbol = SYMBOLS[PEERS[index].symbol]
    rng = Random(index)
    function = compiled.call(symbol.name)
    modes = list(product(MXCSR_RC, FLUSHING))
    for _ in range(1000 * scale):
        values = operands(rng, symbol)
        if "rm" in symbol.operands:
            values.pop()
        rm, bits = rng.choice(modes)
        check(host, index, rm, bits, values, function)


@pytest.mark.parametrize(
    "index", range(len(PEERS)), ids=[f"{peer.symbol}{'_trunc' * peer.truncates}" for peer in PEERS]
)
def test_specials(host: Host, compiled: Any, scale: int, index: int) -> None:
    """The cross product of the special values (sampled for three operands in a quick run)."""
    symbol = SYMBOLS[PEERS[index].symbol]
    function = compiled.call(symbol.name)
    modes = list(product(MXCSR_RC, FLUSHING))
    names = [name for name in symbol.operands if name != "rm"]
    if names == ["x"]:
        edges = [0, 1, 2**24 + 1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
        cases = [(x & ((1 << symbol.constants[0]) - 1),) for x in edges]
    else:
        cases = list(product(specials(symbol.width), repeat=len(names)))
    if len(names) == 3 and scale == 1:
        cases = cases[::5]
    for turn, values in enumerate(cases):
        chosen = modes if len(names) == 1 else [modes[turn * 5 % 16]]
        for rm, bits in chosen:
            check(host, index, rm, bits, list(values), function)
