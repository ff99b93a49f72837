"""The command: table, JSON and HTML reports, statuses; the same campaign on a Dask cluster; lost
processes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from conformance.bench.compile import PLATFORMS, SYSTEMS, compile_program, platform_of
from conformance.bench.measure import COLD, Result, Run, geometric_mean, record, run_once, spread
from conformance.bench.plot import LEFT, Bars, as_svg
from conformance.campaign import plan, run_local, run_on_cluster
from conformance.known import load
from conformance.results import Failure, Row
from conformance.setup import Setup
from conformance.tasks import Options, Task
from isagen.build import build
from isagen.cli import main
from isagen.targets import source_of
from runtime.errors import IsagenError

SetupOf = Callable[[str], Setup]
FORMS = "s[ul]*"
MADD = Path(__file__).resolve().parents[2] / "examples" / "custom" / "madd.isa"


def as_json(parts: list[list[Row]]) -> list[dict[str, object]]:
    return sorted((row.as_json() for part in parts for row in part), key=lambda row: str(row["name"]))


def test_reports(setup_of: SetupOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_of("riscv64")
    words = [
        "conformance",
        "riscv",
        "--target",
        "riscv64",
        "--suite",
        "states",
        "--forms",
        "xor",
        "--cases",
        "20",
    ]
    assert main([*words, "--jobs", "1", "--report", str(tmp_path / "report")]) == 0
    assert "riscv64" in capsys.readouterr().out
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert data["failed"] == 0 and data["summary"][0]["cases"] == 20
    page = (tmp_path / "report" / "report.html").read_text()
    assert "no failures" in page and "xor" in page
    assert main([*words, "--jobs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"][0]["target"] == "riscv64"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "vectors"], "add --vectors DIR"),
        (["--suite", "elf"], "add --elf-dir DIR"),
        (["--vectors", "nowhere"], "there is no such folder"),
        (["--forms", "no such form"], "nothing to run"),
        (["--target", "ppc"], "not a target of riscv"),
        (["--forms", "xor", "--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
    ],
)
def test_bad_usage(
    setup_of: SetupOf, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    setup_of("riscv64")
    assert main(["conformance", "riscv", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("isagen: ") and "Traceback" not in error


def test_own_instructions(capsys: pytest.CaptureFixture[str]) -> None:
    """A target with a spec file of one's own: no peer knows its instruction, which is tested all the same."""
    (result,) = build([source_of("riscv64", [MADD])])
    assert result.target == "riscv64_madd"
    words = ["conformance", "riscv64", "--with", str(MADD), "--jobs", "1", "--json"]
    assert main([*words, "--forms", "madd,add", "--suite", "states", "--cases", "20"]) == 0
    own, plain = (row for row in json.loads(capsys.readouterr().out)["rows"])
    own, plain = (own, plain) if own["name"] == "madd" else (plain, own)
    assert own["target"] == "riscv64_madd" and own["cases"] == 20 and "with Unicorn" not in own["counts"]
    assert "with Unicorn" in plain["counts"] or not importlib.util.find_spec("unicorn")
    assert main([*words, "--forms", "madd", "--suite", "encodings"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"][0]["cases"] > 20


def test_failures_give_status_1(
    setup_of: SetupOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_of("riscv64")

    def failing(task: Task) -> list[Row]:
        row = Row(task.suite, task.setup.target, task.items[0], cases=1)
        row.fail(Failure("a and b", "xor a0, a1, a2", ("x[10]: 1, 2",), "isagen conformance again"))
        return [row]

    def run_here(tasks: Sequence[Task], jobs: int) -> Iterator[list[Row]]:
        return map(failing, tasks)

    monkeypatch.setattr("conformance.campaign.run_local", run_here)
    words = [
        "conformance",
        "riscv",
        "--target",
        "riscv64",
        "--suite",
        "states",
        "--forms",
        "xor",
        "--jobs",
        "1",
    ]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "x[10]: 1, 2" in out and "isagen conformance again" in out


def test_processes_give_what_one_gives(setup_of: SetupOf) -> None:
    tasks = plan([setup_of("riscv64")], ["states"], Options(cases=10, forms=FORMS, peers=False))
    assert len(tasks) > 3
    assert as_json(list(run_local(tasks, 2))) == as_json(list(run_local(tasks, 1)))


def test_a_dask_cluster_gives_what_one_process_gives(
    setup_of: SetupOf, require_module: Callable[[str], ModuleType]
) -> None:
    distributed = require_module("distributed")
    tasks = plan([setup_of("riscv64")], ["states"], Options(cases=10, forms=FORMS, peers=False))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        found = as_json(list(run_on_cluster(tasks, cluster.scheduler_address)))
    assert found == as_json(list(run_local(tasks, 1)))


def fatal(task: Task) -> list[Row]:
    """Kills its process over the item `bad`."""
    if "bad" in task.items:
        os._exit(9)
    return [Row(task.suite, task.setup.target, item, cases=1) for item in task.items]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_process_that_dies_is_a_failure(setup_of: SetupOf, jobs: int) -> None:
    setup = setup_of("riscv64")
    tasks = [Task("states", setup, Options(), items) for items in (("a", "bad", "b"), ("c",), ("d", "e"))]
    rows = [row for part in run_local(tasks, jobs, fatal) for row in part]
    assert sorted((row.name, row.failed) for row in rows) == [
        ("a", 0),
        ("b", 0),
        ("bad", 1),
        ("c", 0),
        ("d", 0),
        ("e", 0),
    ]


def test_lists_are_well_formed() -> None:
    for name in ("unicorn", "encodings", "vectors", "forms"):
        rows = load(name)
        assert all(row.reason for row in rows)
        assert rows or name == "forms"  # no form of a shipped spec is unreachable


def test_bench_counts_only_runs_that_agree() -> None:
    result = Result("p", "riscv64")
    record(
        result,
        {"isagen": Run(2.0, b"x", 0, "isagen: 10 instructions", 4_000_000), "qemu": Run(0.5, b"x", 0, "")},
    )
    assert not result.error
    assert result.mips("isagen") == [2.0] and result.ratios("qemu") == [0.25]
    record(result, {"isagen": Run(2.0, b"y", 0, ""), "qemu": Run(0.5, b"x", 0, "")})
    assert "isagen" in result.error
    assert spread([3.0, 1.0, 2.0]) == {"min": 1.0, "median": 2.0, "max": 3.0}
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_bench_measures_processor_time() -> None:
    run = run_once([sys.executable, "-c", "sum(range(3_000_000)); print('done')"])
    assert run.output == b"done\n" and run.status == 0 and 0.01 < run.seconds < 60


def test_bench_knows_cold_from_warm() -> None:
    result = Result("p", "riscv64")
    runs = {COLD: Run(4.0, b"x", 0, ""), "isagen": Run(2.0, b"x", 0, ""), "qemu": Run(1.0, b"x", 0, "")}
    record(result, runs)
    assert (result.ratios("qemu", COLD), result.ratios("qemu")) == ([0.25], [0.5])
    assert set(result.as_json()["ratio"]) == set(result.as_json()["cold_ratio"]) == {"qemu"}


def test_bench_plot_is_to_scale() -> None:
    picture = ElementTree.fromstring(as_svg("a < b", [Bars("p", {"cold": 1.0, "warm": 2.0}), Bars("q", {})]))
    bars = [bar for bar in picture.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x") == str(LEFT)]
    widths = [
        float(bar.attrib["width"]) for bar in bars if bar.get("height") == "10" and bar.get("y") != "26"
    ]
    assert len(widths) == 2 and widths[1] == pytest.approx(2 * widths[0], abs=0.2)


@pytest.mark.parametrize(("target", "system"), [("riscv32", False), ("riscv32", True), ("riscv64", True)])
def test_bench_programs_without_a_c_library(
    target: str, system: bool, require_tool: Callable[..., str], tmp_path: Path
) -> None:
    """They are compiled and do the same as with one: here under QEMU, which every run is compared with."""
    require_tool("riscv64-linux-gnu-gcc")
    require_tool((SYSTEMS if system else PLATFORMS)[target].qemu[0])
    platform = platform_of(target, system=system)
    source = tmp_path / "numbers.c"
    source.write_text(
        "#include <math.h>\n#include <stdio.h>\n#include <string.h>\n"
        "volatile long long a = -1234567890123456789, b = 987654321;\n"
        'int main(void) { char t[99]; memset(t, 120, 98); t[98] = 0; memcpy(t, "abc", 3);\n'
        'printf("%lld %lld %llx %08x %.3f %zu %s %c|%d%%\\n", a / b, a % b, (unsigned long long)a / 3, 0xabc,'
        " sqrt(2.0), strlen(t), t + 90, t[2], -5); return 0; }\n"
    )
    done = run_once([*platform.qemu, str(compile_program(source, platform, tmp_path))])
    expected = b"-1249999988 -725308641 4f9f4fae80b22a4e 00000abc 1.414 98 xxxxxxxx c|-5%\n"
    assert (done.output, done.status) == (expected, 0)


def test_malformed_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.known.FOLDER", tmp_path)
    (tmp_path / "twisted.tsv").write_text("# fine\na\tb\tc\n")
    with pytest.raises(IsagenError, match=r"3 columns where 5 belong"):
        load("twisted")
