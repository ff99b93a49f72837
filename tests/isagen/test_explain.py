"""`isagen explain`'s view of regions."""

from __future__ import annotations

import pytest

from isagen.explain import as_html, as_text, explained
from runtime.cpu.engine import Cpu, load_target
from runtime.memory.space import AddressSpace
from tests.runtime.cpu.test_translator import CODE, COUNTING, DATA, loop


@pytest.fixture(scope="module")
def cpu() -> Cpu:
    from isagen.build import build
    from isagen.generated import folder_of
    from isagen.targets import source_of

    list(build([source_of("riscv64")]))
    memory = AddressSpace()
    memory.map(CODE, 0x1000)
    memory.map(DATA, 0x2000, 3)
    memory.write(CODE, loop(COUNTING, 20_000_000))
    made = Cpu(load_target(folder_of("riscv64")), memory)
    made.pc = CODE
    made.set("a5", DATA)
    made.translate(background=False)
    made.run(60_000_000)
    return made


def test_three_languages(cpu: Cpu) -> None:
    (region,) = explained(cpu)
    assert any("ld a2, 8(a5)" in line for line in region.guest)
    assert any(line.startswith("define ghccc i64 @region") for line in region.ir)
    assert any(line.strip() == "region:" for line in region.host)


def test_side_by_side(cpu: Cpu) -> None:
    lines = list(as_text(explained(cpu)))
    assert "guest" in lines[1] and "LLVM IR" in lines[1] and "host" in lines[1]
    assert max(map(len, lines)) <= 48 + 2 + 96 + 2 + 48


def test_a_page(cpu: Cpu) -> None:
    page = as_html(explained(cpu), "a < b")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>a &lt; b</title>" in page
    assert page.count("<pre>") == 3


def test_nothing_hot() -> None:
    assert "".join(as_text(iter(()))) == ""
