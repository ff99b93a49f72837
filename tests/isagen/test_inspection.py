"""``isagen run`` with options that look inside: traces, counts, profiles, coverage, flame graphs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

SOURCE = """\
#include <stdio.h>
static unsigned seed = 1;
__attribute__((noinline)) unsigned next(void) {
  seed = seed * 1103515245u + 12345u;
  return seed >> 8;
}
__attribute__((noinline)) unsigned mix(unsigned n) {
  unsigned t = 0;
  while (n--) {
    t ^= next();
    if (n % 10 == 3)
      t += 1;
  }
  return t;
}
__attribute__((noinline)) unsigned heavy(void) { return mix(90000) + 1; }
__attribute__((noinline)) unsigned light(void) { return mix(30000) + 1; }
int never(int x) {
  return x + 1;
}
int main(int argc, char **argv) {
  unsigned t = heavy();
  t ^= light();
  if (argc > 5)
    t = never(t);
  printf("%u\\n", t);
  return 3;
}
"""


@pytest.fixture(scope="module")
def program(
    tmp_path_factory: pytest.TempPathFactory,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
) -> Path:
    require_target("riscv64")
    compiler = require_tool("riscv64-linux-gnu-gcc")
    folder = tmp_path_factory.mktemp("inspection")
    (folder / "prog.c").write_text(SOURCE)
    subprocess.run(
        [compiler, "-g", "-O0", "-static", "-o", folder / "prog", folder / "prog.c"], check=True, timeout=60
    )
    return folder / "prog"


def run(*words: str | Path, status: int = 3) -> tuple[str, str]:
    """Standard output and error of ``isagen run``."""
    done = subprocess.run(
        [sys.executable, "-m", "isagen", "run", *map(str, words)],
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def address_of(program: Path, name: str, require_tool: Callable[..., str]) -> tuple[int, int]:
    """A function's address and size, as nm prints them."""
    text = subprocess.run(
        [require_tool("riscv64-linux-gnu-nm"), "-S", program], check=True, capture_output=True, text=True
    ).stdout
    match = re.search(rf"^(\w+) (\w+) T {name}$", text, re.MULTILINE)
    assert match
    return int(match[1], 16), int(match[2], 16)


def test_tracing_a_function(program: Path, require_tool: Callable[..., str]) -> None:
    start, size = address_of(program, "heavy", require_tool)
    output, text = run("--trace-at", "heavy", program)
    assert output.strip().isdigit()
    rows = [line.split() for line in text.splitlines()]
    addresses = [int(row[0], 16) for row in rows]
    assert all(start <= address < start + size for address in addresses)
    assert addresses == sorted(addresses)
    listing = subprocess.run(
        [require_tool("riscv64-linux-gnu-objdump"), "-d", "--disassemble=heavy", program],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert addresses == [int(m, 16) for m in re.findall(r"^ +([0-9a-f]+):\t", listing, re.MULTILINE)]
    assert any("<mix>" in line for line in text.splitlines())
    by_address = run("--trace-at", f"{start:#x}-{start + size:#x}", program)[1]
    assert by_address == text
    assert len(run("--trace-at", hex(start), program)[1].splitlines()) == 1
    only = run("--trace-at", "heavy", "--trace-register", "sp", program)[1].splitlines()
    assert 2 <= len(only) < len(rows)
    assert all(" sp=" in line for line in only)


def test_tracing_everything_as_far_as_a_limit(program: Path) -> None:
    _, text = run("--trace", "--limit", "50", program, status=124)
    lines = text.splitlines()
    assert len(lines) == 51
    assert "50 instructions" in lines[-1]


def test_counts_of_all_tools_agree(program: Path, tmp_path: Path) -> None:
    number = re.search(r"(\d+) instructions", run("--count", program)[1])
    assert number
    text = run("--profile", "--count", program)[1]
    profiled = re.search(r"^(\d+) instructions executed", text, re.MULTILINE)
    assert profiled and profiled[1] == number[1]
    functions = text.split("function\n")[1].split("\n\n")[0]
    names = [line.split()[2] for line in functions.splitlines()]
    assert names[:2] == ["mix", "next"] or names[:2] == ["next", "mix"]
    assert re.search(r"prog\.c:4$", text, re.MULTILINE)
    blocks = text.split("block\n")[1].split("\n\n")[0].splitlines()
    assert {line.split()[2] for line in blocks[:2]} == {"120000"}


def test_wrong_filters(program: Path) -> None:
    assert "no function of that name" in run("--trace-at", "nowhere", program, status=2)[1]
    assert "no such register" in run("--trace-register", "eax", program, status=2)[1]
    assert "holds no address" in run("--trace-at", "5-3", program, status=2)[1]


def lines_of(lcov: str) -> dict[int, int]:
    return {int(line): int(count) for line, count in re.findall(r"^DA:(\d+),(\d+)$", lcov, re.MULTILINE)}


def test_coverage_counts_lines_as_gcov_does(
    program: Path, tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    tracefile = tmp_path / "cov.info"
    assert "lines executed" in run("--coverage", tracefile, program)[1]
    ours = lines_of(tracefile.read_text())
    compiler = require_tool("riscv64-linux-gnu-gcc")
    source = tmp_path / "prog.c"
    source.write_text(SOURCE)
    subprocess.run(
        [compiler, "-g", "-O0", "-static", "--coverage", "-o", tmp_path / "prog", source],
        check=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    run(tmp_path / "prog")
    (notes,) = tmp_path.glob("*.gcda")
    text = subprocess.run(
        [require_tool("riscv64-linux-gnu-gcov"), "-t", notes],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    ).stdout  # fmt: skip
    theirs = {
        int(line): 0 if count in ("#####", "=====") else int(count.rstrip("*"))
        for count, line in re.findall(r"^ *([\d#=]+\*?): +(\d+):", text, re.MULTILINE)
    }
    assert theirs
    loop = 9  # whose instructions are in two blocks; gcov adds something up
    assert theirs.keys() <= ours.keys()
    assert {SOURCE.splitlines()[line - 1] for line in ours.keys() - theirs.keys()} == {"}"}
    assert {line: ours[line] for line in theirs if line != loop} == {
        line: n for line, n in theirs.items() if line != loop
    }
    assert ours[19] == 0


def test_genhtml_reads_the_tracefile(program: Path, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    tracefile = tmp_path / "cov.info"
    run("--coverage", tracefile, program)
    text = subprocess.run(
        [require_tool("genhtml"), tracefile, "-o", tmp_path / "html"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    found = lines_of(tracefile.read_text())
    hit = sum(1 for count in found.values() if count)
    assert f"({hit} of {len(found)} lines)" in text
    assert "(5 of 6 functions)" in text


class Boxes(HTMLParser):
    """The boxes of a flame graph, and whether the page loads anything."""

    def __init__(self) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("class") == "b":
            self.titles.append(values["title"] or "")
        self.loads += [name for name in ("src", "href") if name in values]


def test_a_flame_graph_has_the_callers(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "flame.html"
    run("--flame", path, program)
    text = path.read_text()
    page = Boxes()
    page.feed(text)
    assert not page.loads
    assert any(title.startswith("heavy: ") for title in page.titles)
    match = re.search(r'id="stacks">(.*?)</script>', text)
    assert match
    stacks = dict(json.loads(match[1]))
    heavy = sum(count for stack, count in stacks.items() if ";main;heavy;mix" in stack)
    light = sum(count for stack, count in stacks.items() if ";main;light;mix" in stack)
    assert 2.7 < heavy / light < 3.3
    assert any(stack.endswith(";mix;next") for stack in stacks)


def test_a_program_without_debugging_information(
    program: Path, tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run([require_tool("riscv64-linux-gnu-strip"), "-o", stripped, program], check=True)
    assert "no source lines" in run("--coverage", tmp_path / "cov.info", stripped)[1]
    assert "[stripped]" in run("--profile", stripped)[1]
