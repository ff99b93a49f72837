"""What ``--isa`` understands."""

from __future__ import annotations

import pytest

from isagen.isa_string import features
from runtime.errors import IsagenError

KNOWN = ["I", "M", "A", "F", "D", "C", "Zicsr", "Zifencei", "Zba", "Zbb", "Zfh", "S"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rv64i", "I"),
        ("RV64IMAC", "I M A C"),
        ("rv64gc_zba", "I M A F D Zicsr Zifencei C Zba"),
        ("rv64gc_zba_zbb_s", "I M A F D Zicsr Zifencei C Zba Zbb S"),
        ("rv64imzba", "I M Zba"),
        ("RV64IMACSUZicsr_Zba", "I M A C Zicsr Zba"),
        ("rv64imacsu", "I M A C"),
        ("rv64im_zihintpause_zicclsm_s", "I M S"),
        ("rv64i2p1_m2p0_zba1p0", "I M Zba"),
        ("-C", "I M"),
        ("+Zba,-m", "I C Zba"),
    ],
)
def test_understood(text: str, expected: str) -> None:
    assert features(text, "riscv64", KNOWN, ["I", "M", "C"]) == expected.split()


@pytest.mark.parametrize(
    "text", ["", "x86", "rv32i", "rv64q", "rv64i_zzz", "rv64m", "+Zzz", "-", "rv64", "+Zba,C", "rv128i"]
)
def test_refused(text: str) -> None:
    with pytest.raises(IsagenError) as error:
        features(text, "riscv64", KNOWN, ["I", "M", "C"])
    assert "--isa" in str(error.value)
