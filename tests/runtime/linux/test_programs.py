"""Programs with processes, threads, signals, sockets and shared libraries, as ``isagen run`` runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.linux.conftest import PROGRAMS

CHECKOUT = Path(__file__).resolve().parents[3]
Build = Callable[[str, str], Path]
RUN = [sys.executable, "-m", "isagen", "run"]


@pytest.fixture(scope="module", autouse=True)
def target(require_target: Callable[[str], Path]) -> None:
    require_target("riscv64")


def call(command: list[str | Path], cwd: Path = CHECKOUT, **variables: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **variables},
        stdin=subprocess.DEVNULL,
        timeout=400,
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["threads", "torture", "network"])
def test_as_under_qemu(name: str, build: Build, require_tool: Callable[..., str], tmp_path: Path) -> None:
    program = build(name, "riscv64")
    expected = call([require_tool("qemu-riscv64"), program, tmp_path])
    found = call([*RUN, program, tmp_path])
    assert found[1].splitlines() == expected[1].splitlines(), found[2]
    assert found[0] == expected[0]


def test_processes_as_natively(build: Build, require_tool: Callable[..., str], tmp_path: Path) -> None:
    """(qemu-user can't let a program execute another one of its architecture by itself.)"""
    native = tmp_path / "native"
    subprocess.run([require_tool("gcc"), "-w", "-O2", "-o", native, PROGRAMS / "processes.c"], check=True)
    expected = call([native])
    found = call([*RUN, build("processes", "riscv64")])
    assert found[1].splitlines() == expected[1].splitlines(), found[2]
    assert found[0] == expected[0] == 11


def test_same_order_each_time(build: Build, tmp_path: Path) -> None:
    """The threads' turns depend on nothing but the program."""
    counts = [call([*RUN, "--count", build("turns", "riscv64")]) for _ in range(3)]
    assert counts[0][0] == 0 and len(counts[0][1].splitlines()) == 60
    assert counts[0] == counts[1] == counts[2]


def test_threads_of_a_program_that_was_executed(build: Build) -> None:
    assert call([*RUN, build("timed", "riscv64")])[:2] == (0, "wrong 0, woken 0\n")


FRAMES = [
    "-O1",
    "-w",
    "-nostdlib",
    "-static",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pic",
    "-no-pie",
]
FRAME_OPTIONS = {kind: ["-mgeneral-regs-only"] for kind in ("aarch64", "x86_64", "i386")}


def build_frames(kind: str, compiler: str, folder: Path) -> Path:
    program = folder / "frames"
    options = [*FRAMES, *FRAME_OPTIONS.get(kind, [])]
    subprocess.run([compiler, *options, "-o", program, PROGRAMS / "frames.c"], check=True)
    return program


@pytest.mark.parametrize("kind", ["ppc", "sparc64", "x86_64", "i386"])
def test_signal_frames(
    kind: str, require_tool: Callable[..., str], require_target: Callable[[str], Path], tmp_path: Path
) -> None:
    require_target(kind)
    compilers = {
        "ppc": "powerpc-linux-gnu-gcc",
        "sparc64": "sparc64-linux-gnu-gcc",
        "x86_64": "x86_64-linux-gnu-gcc",
        "i386": "i686-linux-gnu-gcc",
    }
    program = build_frames(kind, require_tool(compilers[kind]), tmp_path)
    assert call([*RUN, program]) == call([require_tool(f"qemu-{kind}"), program])


def test_signal_frames_of_riscv(require_tool: Callable[..., str], tmp_path: Path) -> None:
    """(qemu 7.2 reads RISC-V's masks of actions from the wrong place.)"""
    program = build_frames("riscv64", require_tool("riscv64-linux-gnu-gcc"), tmp_path)
    expected = call([require_tool("qemu-riscv64"), program])[1].splitlines()
    expected[2:4] = ["usr1 1 1 1 left", "usr2 1 2240c208 "]
    code, output, errors = call([*RUN, program])
    assert (code, errors) == (7, "")
    assert output.splitlines() == expected


@pytest.mark.parametrize("name", ["threads", "torture"])
@pytest.mark.parametrize("kind", ["x86_64", "i386"])
def test_as_natively(
    kind: str,
    name: str,
    build: Build,
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """(qemu 7.2 crashes or hangs in these threads.)"""
    if os.uname().machine != "x86_64":
        pytest.skip("the host isn't an x86-64")
    require_target(kind)
    program = build(name, kind)
    expected = call([program, tmp_path])
    found = call([*RUN, program, tmp_path])
    assert found[:2] == expected[:2], found[2]


EXCEPTIONS = """
#include <iostream>
#include <stdexcept>
#include <thread>
#include <vector>
#include <mutex>
std::mutex lock;
long total;
static int f(int x) { if (x > 3) throw std::runtime_error("big " + std::to_string(x)); return x; }
int main(int argc, char **argv) {
    for (int i = 0; i < 6; i++)
        try { std::cout << f(i) << std::endl; }
        catch (std::exception &e) { std::cout << e.what() << std::endl; }
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([i] {
            for (int j = 0; j < 500; j++) { std::lock_guard<std::mutex> g(lock); total += i; }
        });
    for (auto &t : threads) t.join();
    std::cout << total << std::endl;
    throw std::logic_error("nobody catches this");
}
"""


RISCV, I386 = "/usr/riscv64-linux-gnu", "/usr/i686-linux-gnu"
I386_LINKER = f"{I386}/lib/ld-linux.so.2"


@pytest.mark.parametrize(
    ("kind", "compiler", "sysroot", "peer", "options"),
    [
        ("riscv64", "riscv64-linux-gnu-g++", RISCV, ["qemu-riscv64", "-L", RISCV], []),
        ("riscv64", "riscv64-linux-gnu-g++", RISCV, ["qemu-riscv64", "-L", RISCV], ["-no-pie"]),
        ("x86_64", "x86_64-linux-gnu-g++", "/", [], []),
        ("i386", "i686-linux-gnu-g++", I386, [I386_LINKER, "--library-path", f"{I386}/lib"], []),
    ],
)
def test_dynamic_program_with_exceptions(
    kind: str,
    compiler: str,
    sysroot: str,
    peer: list[str],
    options: list[str],
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """(The host itself is the peer for x86: qemu 7.2 hangs in threads of i386.)"""
    if kind != "riscv64" and os.uname().machine != "x86_64":
        pytest.skip("the host isn't an x86-64")
    require_target(kind)
    source = tmp_path / "a.cc"
    source.write_text(EXCEPTIONS)
    program = tmp_path / "a"
    subprocess.run(
        [require_tool(compiler), *options, "-O1", "-pthread", "-o", program, source], check=True
    )
    expected = call([*peer, program])
    # (Or the host's /etc/ld.so.cache may name another C library for i386 than the dynamic linker's.)
    found = call([*RUN, "--sysroot", sysroot, "--env", "LD_LIBRARY_PATH=/lib", program])
    assert found[:2] == expected[:2], found[2]
    assert expected[0] == -6 and expected[1].endswith("3000\n")


# --- confinement --------------------------------------------------------------------------------------------


def test_root(build: Build, tmp_path: Path) -> None:
    """No way out by links, by `..`, by /proc, by descriptors of moved folders."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("SECRET\n")
    (root / "file").write_text("inside\n")
    (root / "link-out").symlink_to(secret)
    (root / "link-up").symlink_to("../secret")
    (root / "slash").symlink_to("/")
    (root / "to-proc").symlink_to("/proc/self/root")
    names = [
        *("/file", "/link-out", "/link-up", "/slash/secret", "/../secret", f"/../../..{secret}", str(secret)),
        *(f"/proc/self/root{secret}", f"/proc/1/root{secret}", f"/to-proc{secret}", "sub/../../secret"),
        *("/proc/self/cwd/../secret", "/proc/self/fd/../../../secret", "/etc/passwd", "/proc/self/environ"),
    ]
    code, output, errors = call([*RUN, "--root", root, build("confined", "riscv64"), *names])
    assert (code, errors) == (0, "")
    assert "SECRET" not in output and "root:" not in output
    lines = output.splitlines()
    assert "open /file: <inside>" in lines
    assert "cwd /" in lines and "cwd /moved" in lines
    assert lines[-2:] == ["path 1 1 1", "unnamed 3"]
    assert sum(line.endswith("No such file or directory") for line in lines) > 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "secret"]


def test_program_inside_root(build: Build, tmp_path: Path) -> None:
    shutil.copy(build("confined", "riscv64"), tmp_path / "program")
    (tmp_path / "file").write_text("inside\n")
    code, output, _ = call([*RUN, "--root", tmp_path, "/program", "file"])
    assert code == 0 and "open file: <inside>" in output


def test_deny(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept\n")
    program = build("confined", "riscv64")
    _, output, _ = call([*RUN, "--deny", "net,write", "--deny", "exec", program, "deny"], cwd=tmp_path)
    denied = dict(line.split(" ", 1) for line in output.splitlines())
    read_only = "Read-only file system"
    for name in ("create", "write", "mkdir", "unlink", "rename", "chmod", "truncate"):
        assert denied[name] == read_only, name
    assert denied["read"] == denied["null"] == "done"
    assert denied["socket"] == denied["unix"] == denied["exec"] == "Permission denied"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    code, _, errors = call([*RUN, "--deny", "nonsense", program])
    assert code == 2 and "there is no such kind" in errors


def test_only_own_processes_are_signalled(build: Build) -> None:
    with subprocess.Popen(["sleep", "30"]) as other:
        code, output, _ = call([*RUN, build("killer", "riscv64"), str(other.pid)])
        assert (code, output) == (0, "Operation not permitted\n-1 1\n")
        assert other.poll() is None
        other.kill()


def test_fork_bomb(build: Build) -> None:
    code, output, errors = call([*RUN, "--processes", "12", build("bomb", "riscv64")])
    assert (code, errors) == (0, "")
    assert output == "made 11\nleft 0\nResource temporarily unavailable\n"


# --- CPython ------------------------------------------------------------------------------------------------

SCRIPT = """
import hashlib, json, os, queue, signal, subprocess, sys, threading, time
print(json.dumps({"a": [1, 2.5, {"b": None}]}, sort_keys=True), json.loads('{"x": 1.5e3}'))
print(hashlib.sha256(b"hello").hexdigest(), hashlib.md5(b"x").hexdigest())
total, lock, done = [0], threading.Lock(), queue.Queue()
def work(n):
    for _ in range(300):
        with lock:
            total[0] += n
    done.put(n)
threads = [threading.Thread(target=work, args=(i,)) for i in range(5)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total, sorted(done.get() for _ in threads))
code = "import sys; print(sys.stdin.read().upper()); sys.exit(7)"
child = subprocess.run([sys.executable, "-c", code], input="abc", capture_output=True, text=True)
print(child.returncode, child.stdout, child.stderr)
try:
    subprocess.run(["/nonexistent"])
except FileNotFoundError as error:
    print(error)
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
sleeper.terminate()
print(sleeper.wait())
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.2)
pid = os.fork()
if not pid:
    os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_cpython(debian: Callable[..., Path], tmp_path: Path) -> None:
    """Debian's Python for riscv64 does what the Python of the tests does."""
    sysroot = debian("riscv64", "python3.13-minimal", "libpython3.13-stdlib")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    expected = call([sys.executable, script])
    assert expected[0] == 0
    python = f"{sysroot}/usr/bin/python3.13"
    assert call([*RUN, "--sysroot", sysroot, "--unset", "PYTHONPATH", python, script]) == expected


# --- other programs of Debian -------------------------------------------------------------------------------

LUA = r"""
local t = {} for i = 1, 2000 do t[i] = i * i % 97 end table.sort(t) print(#t, t[1], t[1000], t[2000])
print(string.format("%5.2f %q %x", 3.14159, "a\nb", 255), ("hello"):gsub("l", "L"))
local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) error({code = b}) end)
print(co(1)) print((pcall(co, 5))) print(math.maxinteger, math.pi, 7 // 2, -7 % 3, 2 ^ 0.5, 1e15, 10 / 2)
print(os.date("!%Y-%m-%d", 0), string.pack("<i4", 7):byte(1, -1)) print(utf8.char(228, 8364)) os.exit(3)
"""
SQL = """
create table t(a integer primary key, b text, c real); begin; with recursive n(i) as (select 1 union all
select i + 1 from n where i < 2000) insert into t select i, printf('%05d', i * 7919 % 10007), i / 3.0 from n;
commit; create index x on t(b); select count(*), sum(a), avg(c), min(b), max(b) from t;
select a, b from t where b like '%99' order by b desc limit 5; delete from t where a > 1990;
pragma integrity_check; select sum(a) over (order by a) from t limit 3; select * from nosuch;
"""
GIT = r"""
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE=2020-01-01T00:00:00Z GIT_COMMITTER_DATE=2020-01-01T00:00:00Z
git config --global user.name u; git config --global user.email u@x; git init -q -b main r; cd r
for i in 1 2 3; do seq $((i * 100)) > f$i; git add f$i; git commit -qm "c$i"; done; git log --oneline
git checkout -qb other HEAD~1; echo x >> f1; git commit -qam other; git checkout -q main
git merge -q -m merged other; git log --graph --oneline --stat | cat; git gc -q; git fsck 2>&1; cd ..
git clone -q r s; cd s; git ls-files -s
echo y > f2; git status -s; git grep -c 5
"""
BASH = r"""
export LC_ALL=C; declare -A m=([a]=1 [b]=2); for k in a b; do echo "$k ${m[$k]}"; done
x=hello; echo "${x^^}"
diff <(echo a) <(echo b); [[ abc =~ ^a(.)c$ ]] && echo "${BASH_REMATCH[1]}"; coproc cat
echo hi >&${COPROC[1]}
read -r v <&${COPROC[0]}; echo $v; kill $COPROC_PID; wait $COPROC_PID; echo $?; sleep 0.1 & wait -n; echo $?
set -o pipefail; false | true
echo $?; for i in 1 2; do seq 3000 | xz -9e | xz -dc | md5sum; done; seq 100 | sort -R | sort -n | tail -n 1
timeout 0.2 sleep 5; echo $?; seq 30 | xargs -P3 -n10 echo | sort; exit 6
"""


@pytest.fixture(scope="module")
def system(debian: Callable[..., Path]) -> Path:
    shells = ("bash", "dash")  # git needs an sh, which else would be this machine's
    tools = ("coreutils", "diffutils", "findutils", "git", "lua5.4", "sqlite3", "xz-utils")
    return debian("riscv64", *shells, *tools)


@pytest.mark.parametrize(("name", "script"), [("lua5.4", LUA), ("sqlite3", SQL)])
def test_one_program(
    name: str, script: str, system: Path, require_tool: Callable[..., str], tmp_path: Path
) -> None:
    program = system / "usr" / "bin" / name
    source = tmp_path / "script"
    source.write_text(script)
    arguments = [source] if name == "lua5.4" else [tmp_path / "x.db", f".read {source}"]
    expected = call([require_tool("qemu-riscv64"), "-L", system, program, *arguments])
    (tmp_path / "x.db").unlink(missing_ok=True)
    assert call([*RUN, "--sysroot", system, program, *arguments]) == expected
    assert len(expected[1]) > 50


@pytest.mark.parametrize(("tools", "script"), [(["git", "bash"], GIT), (["xz", "bash"], BASH)])
def test_shell_script(
    tools: list[str], script: str, system: Path, require_tool: Callable[..., str], tmp_path: Path
) -> None:
    """The programs of the system call each other: as those of this machine do."""
    *_, shell = [require_tool(tool) for tool in tools]
    for folder in ("ours", "native"):
        (tmp_path / folder).mkdir()
    expected = call([shell, "-c", script], cwd=tmp_path / "native")
    bash = system / "usr" / "bin" / "bash"
    found = call([*RUN, "--sysroot", system, bash, "-c", script], cwd=tmp_path / "ours")
    assert found[:2] == expected[:2], found[2]
    assert len(expected[1]) > 50


# --- busybox ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "architecture"), [("riscv64", "riscv64"), ("x86_64", "amd64"), ("i386", "i386")]
)
def test_busybox(
    kind: str,
    architecture: str,
    require_tool: Callable[..., str],
    require_target: Callable[[str], Path],
    debian: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """A script of applets with Debian's static busybox. Under qemu each applet is started by a script of its
    own.
    """
    require_target(kind)
    qemu = require_tool(f"qemu-{kind}")
    busybox = debian(architecture, "busybox-static") / "bin" / "busybox"
    applets = subprocess.run(
        [qemu, busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    results = []
    for name, runner in (("ours", RUN), ("qemu", [qemu])):
        folder, work = tmp_path / name, tmp_path / name / "work"
        work.mkdir(parents=True)
        for applet in applets:
            if name == "ours":
                (folder / applet).symlink_to(busybox)
            else:
                (folder / applet).write_text(f'#!/bin/dash\nexec {qemu} -0 {applet} {busybox} "$@"\n')
                (folder / applet).chmod(0o755)
        results.append(call([*runner, busybox, "sh", PROGRAMS / "applets.sh"], cwd=work, PATH=str(folder)))
    assert results[0][1].splitlines() == results[1][1].splitlines()
    assert results[0][0] == results[1][0] == 0
