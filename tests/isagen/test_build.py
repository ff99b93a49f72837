"""Building: what is unchanged is left alone, results don't depend on circumstances, wrong specs leave
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isagen import kept, paths
from isagen.build import files_in, read_manifest, unchanged
from isagen.commands import build as build_commands
from isagen.fingerprint import Fingerprints, is_for_running
from isagen.generated import NotBuiltError, folder_of
from isagen.targets import TargetSource, all_targets, build_command, select, source_of
from runtime.errors import IsagenError

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLES = CHECKOUT / "examples"
MADD = EXAMPLES / "custom" / "madd.isa"


def isagen(*words: str | Path, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"ISAGEN_GENERATED": str(root)} if root else {})}
    return subprocess.run(
        [sys.executable, "-m", "isagen", *words],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=CHECKOUT,
        env=environment,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with riscv64 built from nothing by the command, in one process."""
    root = tmp_path_factory.mktemp("generated")
    done = isagen("build", "riscv64", "--jobs", "1", "--json", root=root)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["targets"]
    assert result["status"] == "built"
    assert 150 < result["executors"] <= 600
    assert result["folder"] == str(root / "riscv64")
    yield root


def test_unchanged(built: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (built / "riscv64").iterdir()}
    done = isagen("build", "riscv64", "--json", root=built)
    (result,) = json.loads(done.stdout)["targets"]
    assert result["status"] == "unchanged"
    assert {file: file.stat().st_mtime_ns for file in (built / "riscv64").iterdir()} == before


def test_unchanged_is_quick(built: Path) -> None:
    """At most 0.3 s more than starting Python (the best of five, since other work may be going on)."""

    def seconds(command: list[str]) -> float:
        start = time.perf_counter()
        environment = {**os.environ, "ISAGEN_GENERATED": str(built)}
        subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT, env=environment)
        return time.perf_counter() - start

    plain = min(seconds([sys.executable, "-c", "pass"]) for _ in range(5))
    build = min(seconds([sys.executable, "-m", "isagen", "build", "riscv64"]) for _ in range(5))
    assert build - plain <= 0.3


def test_identical_output(built: Path, require_target: Callable[[str], Path]) -> None:
    """Another folder and another number of processes: the same bytes."""
    assert files_in(require_target("riscv64")) == files_in(built / "riscv64")


@pytest.mark.parametrize("change", ["edit", "remove", "add", "manifest", "no manifest"])
def test_damage_is_seen(change: str, built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "riscv64"
    shutil.copytree(built / "riscv64", folder)
    target = source_of("riscv64")
    fingerprint = Fingerprints().of(target)
    assert unchanged(target, folder, fingerprint) is not None
    assert unchanged(target, folder, fingerprint[::-1]) is None
    if change == "edit":
        (folder / "executors.py").write_text("# nothing\n")
    elif change == "remove":
        (folder / "decoder.bin").unlink()
    elif change == "add":
        (folder / "more.py").write_text("")
    elif change == "manifest":
        (folder / "build.json").write_text('{"fingerprint": 5}')
    else:
        (folder / "build.json").unlink()
    assert unchanged(target, folder, fingerprint) is None


def test_damage_is_repaired(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(built, root)
    folder = root / "riscv64"
    original = files_in(folder)
    (folder / "executors.py").write_text("# nothing\n")
    done = isagen("build", "riscv64", "--json", root=root)
    assert json.loads(done.stdout)["targets"][0]["status"] == "built", done.stderr
    assert files_in(folder) == original


def test_target_older_than_its_specs_does_not_run(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CHECKOUT / "isa", tmp_path / "isa")
    monkeypatch.setenv("ISAGEN_GENERATED", str(built))
    monkeypatch.setattr(paths, "spec_root", lambda: tmp_path / "isa")
    assert folder_of("riscv64") == built / "riscv64"
    spec = tmp_path / "isa" / "riscv" / "i.isa"
    spec.write_text(spec.read_text() + "# something new\n")
    with pytest.raises(NotBuiltError, match="before isa/riscv was changed") as raised:
        folder_of("riscv64")
    assert raised.value.remedy == "run: isagen build riscv64"


def test_wrong_spec_leaves_nothing(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.isa"
    wrong.write_text(MADD.read_text().replace("rs1 * rs2 + rs3", "rs1 * rs2 + rs4"))
    root = tmp_path / "generated"
    done = isagen("build", "riscv64", "--with", wrong, root=root)
    assert done.returncode == 2
    assert f"{wrong}:" in done.stderr and "rs4" in done.stderr and "^" in done.stderr
    assert "Traceback" not in done.stderr
    assert not root.exists() or [f.name for f in root.rglob("*") if f.is_file()] in ([], [".lock"])


def test_wrong_spec_keeps_what_was_there(built: Path, tmp_path: Path) -> None:
    """A custom target that was right once stays usable while its new spec is wrong."""
    root = tmp_path / "copy"
    shutil.copytree(built, root)
    (root / "riscv64").rename(root / "riscv64_mine")
    before = files_in(root / "riscv64_mine")
    mine = tmp_path / "mine.isa"
    mine.write_text("insn broken {\n")
    assert isagen("build", "riscv64", "--with", mine, root=root).returncode == 2
    assert files_in(root / "riscv64_mine") == before


def test_custom_instruction(tmp_path: Path) -> None:
    """A file of about ten lines: emulator, assembler and disassembler know the instruction."""
    root = tmp_path / "generated"
    assert len([line for line in MADD.read_text().splitlines() if line and line[0] != "#"]) <= 10
    assert isagen("build", "riscv64", "--with", MADD, root=root).returncode == 0
    program = tmp_path / "program"
    source = EXAMPLES / "custom" / "madd.s"
    done = isagen("asm", "riscv64_madd", source, "-o", program, root=root)
    assert done.returncode == 0, done.stderr
    assert isagen("run", "--target", "riscv64_madd", program, root=root).returncode == 6 * 7 + 3
    assert "madd" in isagen("disasm", "--target", "riscv64_madd", program, root=root).stdout
    listing = isagen("disasm", "--hex", "riscv64_madd", "0b 85 c5 68", root=root)
    assert listing.stdout.split() == ["0:", "68c5850b", "madd", "a0,", "a1,", "a2,", "a3"]


def test_custom_instructions_of_each_kind(tmp_path: Path) -> None:
    """Register, immediate, branch, load, floating point, compressed, and a control register."""
    root, program = tmp_path / "generated", tmp_path / "program"
    folder = EXAMPLES / "custom"
    assert isagen("build", "riscv64", "--with", folder / "kinds.isa", root=root).returncode == 0
    done = isagen("asm", "riscv64_kinds", folder / "kinds.s", "-o", program, root=root)
    assert done.returncode == 0, done.stderr
    assert isagen("run", "--target", "riscv64_kinds", program, root=root).returncode == 45
    listing = isagen("disasm", "--target", "riscv64_kinds", program, root=root).stdout
    for name in ("swapadd", "triple", "bmore", "lwx", "favg.d", "c.negate", "csrw scratch0"):
        assert name in listing


def test_example_program(require_target: Callable[[str], Path], tmp_path: Path) -> None:
    """The README's main job."""
    require_target("riscv64")
    program = tmp_path / "hello"
    assert isagen("asm", "riscv64", EXAMPLES / "hello.s", "-o", program).returncode == 0
    done = isagen("run", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "hello from riscv64: the sum of 1 to 100 is 5050\n"


def test_check(tmp_path: Path) -> None:
    root = tmp_path / "generated"
    done = isagen("build", "riscv", "--check", "--json", root=root)
    targets = json.loads(done.stdout)["targets"]
    assert [(t["target"], t["status"]) for t in targets] == [("riscv32", "checked"), ("riscv64", "checked")]
    assert not root.exists()


def test_installed(built: Path, tmp_path: Path) -> None:
    """From a wheel in another environment, a build needs nothing of the checkout and goes to the user's
    cache.
    """
    wheels = tmp_path / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", wheels, "."]
    source = tmp_path / "source"
    kept = [
        p
        for p in CHECKOUT.iterdir()
        if p.name in ("pyproject.toml", "README.md", "LICENSE") or p.name in PACKAGES
    ]
    source.mkdir()
    for item in kept:
        if item.is_dir():
            shutil.copytree(item, source / item.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(item, source)
    subprocess.run(command, check=True, cwd=source)
    (wheel,) = wheels.glob("*.whl")
    place = tmp_path / "site"
    target = ["--target", str(place), "--no-deps", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", *target], check=True)
    environment = {**os.environ, "PYTHONPATH": str(place), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ISAGEN_GENERATED", None)
    work = tmp_path / "elsewhere"
    work.mkdir()
    subprocess.run(
        [sys.executable, "-P", "-m", "isagen", "build", "riscv64"], check=True, cwd=work, env=environment
    )
    (folder,) = (tmp_path / "cache" / "isagen").glob("*/generated/riscv64")
    assert files_in(folder) == files_in(built / "riscv64")


PACKAGES = ("isa", "generator", "runtime", "machines", "conformance", "isagen")


def test_fingerprint_depends_on_contents_only(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "my.isa", tmp_path / "b" / "my.isa"
    for file in (first, second):
        file.parent.mkdir()
        file.write_text(MADD.read_text())
    prints = Fingerprints()
    assert prints.of(TargetSource("riscv64", "riscv", (first,))) == prints.of(
        TargetSource("riscv64", "riscv", (second,))
    )
    second.write_text(MADD.read_text() + "#\n")
    assert prints.of(TargetSource("riscv64", "riscv", (first,))) != prints.of(
        TargetSource("riscv64", "riscv", (second,))
    )
    assert prints.of(TargetSource("riscv64", "riscv")) != prints.of(TargetSource("riscv32", "riscv"))


def test_selection() -> None:
    assert [t.name for t in select(["riscv"])] == ["riscv32", "riscv64"]
    assert [t.name for t in select(["riscv64", "riscv"])] == ["riscv64", "riscv32"]
    assert {t.name for t in select(["all"])} == set(all_targets())
    assert [t.name for t in select(["riscv64"], [MADD])] == ["riscv64_madd"]
    # A family's name means all its targets, whatever they are called; `only` leaves out the others.
    assert [t.name for t in select(["ppc"])] == ["ppc", "ppc64", "ppc64le"]
    assert {t.name for t in select(["arm"])} == {"arm", "aarch64"}
    assert [t.name for t in select(["arm"], only=["arm"])] == ["arm"]
    assert [t.name for t in select(["ppc", "riscv"], only=["riscv32", "ppc"])] == ["ppc", "riscv32"]
    assert source_of("arm") == TargetSource("arm", "arm")
    assert build_command("arm") == "isagen build arm --target arm"
    assert build_command("riscv64") == "isagen build riscv64"
    with pytest.raises(IsagenError, match="not a target of riscv"):
        select(["riscv"], only=["arm"])
    with pytest.raises(IsagenError, match="no target named"):
        source_of("riscv")
    with pytest.raises(IsagenError, match="can't be part of a target's name"):
        select(["riscv64"], [CHECKOUT / ".gitignore"])


def test_manifest_names_every_file(built: Path) -> None:
    manifest = read_manifest(built / "riscv64")
    assert manifest is not None
    assert manifest["files"].keys() == {f.name for f in (built / "riscv64").iterdir()} - {
        "build.json",
        "__pycache__",
    }
    assert paths.is_checkout()


def test_kept_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled is found again; what was damaged isn't; those used longest ago go first."""
    monkeypatch.setenv("ISAGEN_GENERATED", str(tmp_path))
    object_file = kept.Kept(b"code", {"add": {"text": "x", "slots": [1, 2]}})
    first, second = kept.key_of("steps", "a"), kept.key_of("functions", "a")
    assert first != second != kept.key_of("functions", "b")
    assert kept.find(first) is None
    kept.keep(first, object_file)
    kept.keep(second, object_file)
    assert kept.find(first) == object_file
    os.utime(kept.folder() / second, (1, 1))
    kept.prune((kept.folder() / first).stat().st_size)
    assert kept.find(second) is None
    for damage in range((kept.folder() / first).stat().st_size):
        data = bytearray((kept.folder() / first).read_bytes())
        data[damage] ^= 1
        (kept.folder() / first).write_bytes(data)
        assert kept.find(first) is None
        data[damage] ^= 1
        (kept.folder() / first).write_bytes(data)
    (kept.folder() / first).write_bytes(b"short")
    assert kept.find(first) is None


def test_what_only_runs_is_not_compiled() -> None:
    """Files left out of the compiler's hash are none that the compiler imports."""
    code = (
        "import sys, runtime.cpu.compile; "
        "print(*(getattr(module, '__file__', None) for module in sys.modules.values()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, check=True
    )
    files = [Path(word) for word in found.stdout.split() if word.startswith(str(CHECKOUT))]
    assert CHECKOUT / "runtime/cpu/threading.py" in files
    assert not [file for file in files if is_for_running(file) and file.name != "__init__.py"]


def test_bytecode_is_kept_whatever_python_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in build_commands.PACKAGES:
        (tmp_path / name / "part").mkdir(parents=True)
        (tmp_path / name / "part" / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    build_commands.keep_bytecode()
    assert len(list(tmp_path.rglob("__pycache__/module.*.pyc"))) == len(build_commands.PACKAGES)
