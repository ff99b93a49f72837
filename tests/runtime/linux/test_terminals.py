"""Interactive programs on a pseudo-terminal: Debian's for riscv64 do what the host's own do."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.runtime.linux.test_programs import CHECKOUT, RUN

PATIENCE = 60
"""Seconds for an answer: far more than any takes."""

Programs = Callable[[str], Sequence[str | Path]]


class Terminal:
    """A program on a terminal of `rows` and `columns`, in a session of its own."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, rows: int = 24, columns: int = 80
    ) -> None:
        self.shown = b""
        """What it has written since the last expected text."""
        self.pid, self.file = pty.fork()
        if not self.pid:
            kept = {
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "TERM": "vt100",
                "LC_ALL": "C",
                "PS1": "> ",
            }
            words = [os.fspath(word) for word in command]
            try:
                # Background jobs of shells without job control ignore these, and what they start inherits it.
                for number in (signal.SIGINT, signal.SIGQUIT):
                    signal.signal(number, signal.SIG_DFL)
                os.chdir(folder)
                os.execvpe(words[0], words, {**kept, "PYTHONPATH": str(CHECKOUT)})
            finally:
                os._exit(126)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())

    def expect(self, pattern: str) -> None:
        """Wait until the program has written what matches; what comes behind it is left for the next time."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern.encode(), self.shown, re.DOTALL)) is None:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.file], [], [], left)[0], (pattern, self.shown)
            try:
                data = os.read(self.file, 65536)
            except OSError:  # it has ended
                data = b""
            assert data, (pattern, self.shown)
            self.shown += data
        self.shown = self.shown[found.end() :]

    def end(self) -> int:
        """Wait for the program's end: its exit status, negative for a signal."""
        while True:
            if not select.select([self.file], [], [], PATIENCE)[0]:
                os.kill(self.pid, signal.SIGKILL)
            try:
                if not os.read(self.file, 65536):
                    break
            except OSError:
                break
        os.close(self.file)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(params=["native", "riscv64"])
def busybox(
    request: pytest.FixtureRequest, debian: Callable[..., Path], require_target: Callable[[str], Path]
) -> Iterator[list[str | Path]]:
    if request.param == "native":
        if os.uname().machine != "x86_64":
            pytest.skip("the host isn't an x86-64")
        yield [debian("amd64", "busybox-static") / "bin" / "busybox"]
        return
    require_target("riscv64")
    program = debian("riscv64", "busybox-static") / "bin" / "busybox"
    yield [*RUN, program]


def test_vi(busybox: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("".join(f"line {n}\n" for n in range(1, 61)))
    terminal = Terminal([*busybox, "vi", "text"], tmp_path)
    terminal.expect("line 23.*text.* 1/60 ")
    terminal.type("jjdd")
    terminal.expect("Delete 1 lines")
    terminal.type("Oa new \x1b[D\x1b[Done")  # cursor keys while text is inserted
    terminal.expect("I text")
    terminal.type("\x1b")
    terminal.expect("- text")
    terminal.resize(40, 100)  # SIGWINCH
    terminal.expect("line 39.*/60 ")
    terminal.type("Gyyp")
    terminal.expect("Put 1 lines")
    terminal.type(":%s/line 1\\(.\\)$/<\\1>/g\r")
    terminal.expect("subs|- text")
    terminal.type("/line 3.\rx:wq\r")
    assert terminal.end() == 0
    expected = [f"line {n}" for n in range(1, 61)]
    expected[2] = "a neonew "
    expected += expected[-1:]
    expected = [re.sub("line 1(.)$", r"<\1>", line) for line in expected]
    expected[29] = "ine 30"
    assert (tmp_path / "text").read_text().splitlines() == expected


def test_shell_with_job_control(busybox: list[str | Path], tmp_path: Path) -> None:
    terminal = Terminal([*busybox, "sh", "-i"], tmp_path)
    terminal.expect("> ")
    terminal.type("echo $((6*7)); stty size\n")
    terminal.expect("\n42\r\n24 80\r\n> ")
    terminal.type("sh -c 'echo be''gun; exec sleep 100'\n")
    terminal.expect("begun\r\n")
    terminal.type("\x1a")
    terminal.expect(r"\[1\]\+  Stopped +sh -c .*> ")
    terminal.type("jobs; bg\n")
    terminal.expect(r"\[1\]\+  Stopped +sh -c.*\[1\] sh -c .*> ")
    terminal.type("kill %1; wait %1; echo status $?\n")
    terminal.expect("\nstatus 143\r\n.*> ")
    terminal.type("sh -c 'echo be''gun; exec cat'\n")
    terminal.expect("begun\r\n")
    terminal.type("hello\n")
    terminal.expect("hello\r\nhello\r\n")
    terminal.type("\x1a")
    terminal.expect(r"Stopped +sh -c .*> ")
    terminal.type("fg\n")
    terminal.expect("exec cat.*\r\n")
    terminal.type("again\n\x04")
    terminal.expect("again\r\nagain\r\n.*> ")
    terminal.type("echo lo''op; while :; do :; done\n")
    terminal.expect("loop\r\n")
    terminal.type("\x03")
    terminal.expect("> ")
    terminal.type("echo got $?; read x\n")
    terminal.expect("\ngot 130\r\n")
    terminal.resize(30, 90)
    terminal.type("text\n")
    terminal.expect("> ")
    terminal.type("stty -echo; stty size; stty -a | grep -c ' -echo '; stty echo; exit 3\n")
    terminal.expect("30 90\r\n1\r\n")
    assert terminal.end() == 3


def test_less(busybox: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("".join(f"line {n}\n" for n in range(1, 301)))
    terminal = Terminal([*busybox, "less", "text"], tmp_path)
    terminal.expect("line 23")
    terminal.type(" ")
    terminal.expect("line 46")
    terminal.type("G")
    terminal.expect("line 300")
    terminal.type("g")
    terminal.expect("line 1\r.*line 23")
    terminal.expect("text")  # the last line: it waits for a command
    terminal.type("/")
    terminal.expect("/")
    terminal.type(" 17.$\r")
    terminal.expect("17.*0.*line 192")
    terminal.type("q")
    assert terminal.end() == 0


def test_python(debian: Callable[..., Path], require_target: Callable[[str], Path], tmp_path: Path) -> None:
    require_target("riscv64")
    sysroot = debian("riscv64", "python3.13-minimal", "libpython3.13-stdlib")
    command: list[str | Path] = [
        *RUN,
        "--sysroot",
        sysroot,
        "--env",
        "PYTHON_BASIC_REPL=1",
        f"{sysroot}/usr/bin/python3.13",
    ]
    terminal = Terminal([*command, "-q"], tmp_path)
    terminal.expect(">>> ")
    terminal.type("6 * 7\n")
    terminal.expect("42\r\n>>> ")
    terminal.type("import os; os.get_terminal_size()\n")
    terminal.expect("columns=80, lines=24")
    terminal.expect(">>> ")
    terminal.type("print('on'); os.read(0, 9)\n")
    terminal.expect("on\r\n")
    terminal.type("\x03")
    terminal.expect("KeyboardInterrupt.*>>> ")
    terminal.type("2 ** 70\n")
    terminal.expect("1180591620717411303424\r\n>>> ")
    terminal.type("\x04")
    assert terminal.end() == 0
