"""A machine's monitors, by PyPI's QMP client and by our own: control, events, memory, states, garbage."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from isagen.machine import open_disk
from isagen.monitors import control_of, version
from isagen.qmp_client import CommandFailed, QmpClient
from machines.machine import Ending, Outcome
from machines.monitor.human import HumanMonitor
from machines.monitor.qmp import commands
from machines.settings import Drive
from runtime.errors import IsagenError
from runtime.monitor.address import Address
from runtime.monitor.qmp.server import QmpServer
from tests.machines.boards import board

COUNTER = """
        li    s0, 0x80100000
        li    s1, 0x80200000        # where nobody writes
        li    a0, 0x1234
loop:   ld    t0, 0(s0)
        addi  t0, t0, 1
        sd    t0, 0(s0)
        j     loop
"""
CELL = 0x80100000


class Served:
    """A machine that runs in a thread, and its QMP server's path."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.board = board(folder, COUNTER, **settings)
        self.machine = self.board.machine
        self.path = str(folder / "qmp")
        self.control = control_of(self.board, name="test", folder=folder / "states")
        self.server = QmpServer(
            Address(path=self.path), commands(self.control, version()), self.machine.selector, version()
        )
        self.machine.observers.append(self.server.event)
        self.outcome: Outcome | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.outcome = self.machine.run()

    def close(self) -> None:
        self.machine.stop()
        self.thread.join(20)
        self.server.close()
        self.machine.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, smp=2)
    yield made
    made.close()


@pytest.fixture
def client(served: Served) -> Iterator[QmpClient]:
    with QmpClient(served.path, 20) as made:
        yield made


def talk(module: ModuleType, path: str, script: Callable[[Any], Awaitable[None]]) -> None:
    """Run a script with PyPI's client."""

    async def main() -> None:
        client = module.QMPClient("test")
        await client.connect(path)
        await script(client)
        await client.disconnect()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_the_qmp_client_of_pypi(served: Served, require_module: Callable[[str], ModuleType]) -> None:
    qmp = require_module("qemu.qmp")
    seen: list[str] = []

    async def script(client: Any) -> None:
        async def wait_for(*names: str) -> dict[str, Any]:
            async for event in client.events:
                seen.append(event["event"])
                if event["event"] in names:
                    return event
            raise AssertionError

        assert (await client.execute("query-status"))["status"] == "running"
        await client.execute("stop")
        await wait_for("STOP")
        assert await client.execute("query-status") == {
            "running": False, "singlestep": False, "status": "paused",
        }  # fmt: skip
        before = served.machine.spent
        await asyncio.sleep(0.05)
        assert served.machine.spent == before
        await client.execute("cont")
        await wait_for("RESUME")
        cpus = await client.execute("query-cpus-fast")
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1] and cpus[0]["target"] == "riscv64"
        await client.execute("system_reset")
        reset = await wait_for("RESET")
        assert reset["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        await client.execute("system_powerdown")
        await wait_for("POWERDOWN")
        with pytest.raises(qmp.ExecuteError, match="there is no command"):
            await client.execute("no-such-command")
        names = {row["name"] for row in await client.execute("query-commands")}
        assert names == {
            e["name"] for e in await client.execute("query-qmp-schema") if e["meta-type"] == "command"
        }
        await client.execute("quit")
        ended = await wait_for("SHUTDOWN")
        assert ended["data"] == {"guest": False, "reason": "host-qmp-quit"}

    talk(qmp, served.path, script)
    served.thread.join(10)
    assert served.outcome == Outcome(Ending.STOPPED)
    assert seen == ["STOP", "RESUME", "RESET", "POWERDOWN", "SHUTDOWN"]


def test_memory_is_saved_and_shown(served: Served, client: QmpClient, tmp_path: Path) -> None:
    served.machine.post(lambda: served.machine.memory.write(0x80200000, bytes(range(64))))
    file = tmp_path / "dump"
    client.execute("stop")
    for command, more in (("pmemsave", {}), ("memsave", {"cpu-index": 1})):
        client.execute(command, {"val": 0x80200000, "size": 64, "filename": str(file), **more})
        assert file.read_bytes() == bytes(range(64))
    human = lambda line: client.execute("human-monitor-command", {"command-line": line})  # noqa: E731
    assert human("xp/2xw 0x80200000") == "0000000080200000: 0x03020100 0x07060504\n"
    assert human("x/2xg $s1+8") == "0000000080200008: 0x0f0e0d0c0b0a0908 0x1716151413121110\n"
    assert human("x/3db 0x80200001").split()[1:] == ["1", "2", "3"]
    assert "addi" in human("x/20i 0x80000000") and "j 0x8000001c" in human("x/20i 0x80000000")
    assert human("p $a0") == "0x1234\n"
    assert "mhartid" not in human("info registers").split("CPU#")[1]  # zeros of the system's aren't shown
    assert " mhartid  0000000000000001" in human("info registers -a").split("CPU#1")[1]
    assert "no memory" in human("x/4xw 0x10")
    for mistake in (
        "x",
        "x/",
        "x/99999999x 0",
        "xp/4q 0",
        "cpu 9",
        "p $nothing",
        "p 1++",
        "info",
        "'",
        "loadvm",
    ):
        assert human(mistake), mistake
    with pytest.raises(CommandFailed, match="no memory"):
        client.execute("pmemsave", {"val": 0x10, "size": 4, "filename": str(file)})
    with pytest.raises(CommandFailed, match="no range"):
        client.execute("pmemsave", {"val": -1, "size": 4, "filename": str(file)})
    with pytest.raises(CommandFailed):
        client.execute("pmemsave", {"val": CELL, "size": 4, "filename": "/nonexistent/file"})


def cell(served: Served) -> int:
    return int.from_bytes(served.machine.memory.read(CELL, 8), "little")


def test_states_in_a_folder(served: Served, client: QmpClient) -> None:
    human = lambda line: client.execute("human-monitor-command", {"command-line": line})  # noqa: E731
    client.execute("stop")
    at_save = cell(served)
    assert human("savevm one") == ""
    client.execute("cont")
    while cell(served) <= at_save + 1000:
        pass
    client.execute("stop")
    assert "one" in human("info snapshots")
    assert human("loadvm one") == "" and cell(served) == at_save
    assert "there is no state" in human("loadvm two")
    client.execute("snapshot-save", {"job-id": "j", "tag": "two", "vmstate": "", "devices": []})
    assert client.execute("query-jobs")[0]["status"] == "concluded"
    client.execute("job-dismiss", {"id": "j"})
    client.execute("snapshot-load", {"job-id": "k", "tag": "none", "vmstate": "", "devices": []})
    assert "there is no state" in client.execute("query-jobs")[0]["error"]
    assert human("delvm one") == "" and "one" not in human("info snapshots").replace("NAME", "")
    assert "no name of a state" in human("savevm ../../x")


def test_states_go_into_the_disks_image(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """The state lies in the qcow2 as qemu-img expects it, and takes the disk's content with it."""
    from contextlib import ExitStack

    qemu_img = require_tool("qemu-img")
    image = tmp_path / "disk.qcow2"
    subprocess.run([qemu_img, "create", "-q", "-f", "qcow2", image, "8M"], check=True)
    made = board(tmp_path, COUNTER)  # assembles the firmware
    settings = made.settings.model_copy(update={"drive": (Drive(path=image),)})
    made.machine.close()
    from isagen.machine import build

    with ExitStack() as stack:
        disk = open_disk(settings.drive[0], stack)
        virt = build(settings, (disk,))
        stack.callback(virt.machine.close)
        control = control_of(virt)
        virt.machine.run(100_000)
        disk.pwrite(0, b"before")
        human = HumanMonitor(control)
        assert human.execute("savevm a") == ""
        kept = virt.machine.memory.read(CELL, 8)
        virt.machine.run(100_000)
        disk.pwrite(0, b"behind")
        assert virt.machine.memory.read(CELL, 8) != kept
        assert human.execute("loadvm a") == ""
        assert virt.machine.memory.read(CELL, 8) == kept and bytes(disk.pread(0, 6)) == b"before"
        info = commands(control, version()).execute("query-block", {})[0]
        assert info["device"] == "virtio0" and info["inserted"]["drv"] == "qcow2"
        assert info["inserted"]["image"]["virtual-size"] == 8 << 20
        assert human.execute("savevm b") == "" and human.execute("delvm a") == ""
    done = subprocess.run(
        [qemu_img, "info", "--output=json", image], check=True, capture_output=True, text=True
    )
    (entry,) = json.loads(done.stdout)["snapshots"]
    assert entry["name"] == "b" and entry["vm-state-size"] > 128 << 20
    assert subprocess.run([qemu_img, "check", "-q", image], check=False).returncode == 0


def test_devices_are_asked(tmp_path: Path) -> None:
    served = Served(tmp_path, device=("keyboard", "balloon"))
    try:
        with QmpClient(served.path, 20) as client:
            assert client.execute("query-balloon")["actual"] == 128 << 20
            client.execute("balloon", {"value": 100 << 20})
            assert served.board.peripherals.balloon.target == 100 << 20
            client.execute(
                "send-key", {"keys": [{"type": "qcode", "data": "ctrl"}, {"type": "qcode", "data": "a"}]}
            )
            with pytest.raises(CommandFailed, match="no key 'nokey'"):
                client.execute("send-key", {"keys": [{"type": "qcode", "data": "nokey"}]})
            assert client.execute("human-monitor-command", {"command-line": "sendkey ctrl-c"}) == ""
            client.execute("system_powerdown")
    finally:
        served.close()


def test_the_command_line(tmp_path: Path) -> None:
    """`isagen boot` and `isagen monitor` as their users have them: one-shot, lines, JSON, exit statuses."""
    image = board(tmp_path, COUNTER)
    image.machine.close()
    firmware, path, state = tmp_path / "firmware.bin", tmp_path / "vm", tmp_path / "vm.state"
    boot = [sys.executable, "-m", "isagen", "boot", "virt", "--bios", str(firmware), "--smp", "2"]
    monitor = [sys.executable, "-m", "isagen", "monitor", str(path)]

    def ask(*words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*monitor, *words], input=lines, capture_output=True, text=True, timeout=30)

    with subprocess.Popen(
        [*boot, "--qmp", f"unix:{path},server,nowait", "-S", "--name", "box", "--snapshot-to", str(state)],
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.05)
            assert json.loads(ask("--json", "query-status").stdout)["status"] == "prelaunch"
            assert json.loads(ask("query-name").stdout) == {"name": "box"}
            failed = ask("pmemsave", "val=0", "size=8", f"filename={tmp_path / 'x'}")
            assert failed.returncode == 1 and "no memory" in failed.stderr
            done = ask(lines='cont\n{"execute": "query-status"}\ninfo status\nnonsense\nexit\n')
            assert '"running": true' in done.stdout and "VM status: running" in done.stdout
            assert "there is no command 'nonsense'" in done.stdout and done.returncode == 0
            assert ask("quit").returncode == 0
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert not path.exists()
    done = ask("query-status")
    assert done.returncode == 2 and "can't connect" in done.stderr
    again = subprocess.run(
        [*boot, "--restore", str(state), "--limit", "1000", "--count"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert again.returncode == 124 and int(again.stderr.split()[1]) > 1000, again.stderr
    other = subprocess.run(
        [*boot[:-1], "1", "--restore", str(state)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert other.returncode == 2 and "board.smp (2 there, 1 here)" in other.stderr


def test_noise_does_not_harm(served: Served) -> None:
    """Valid requests with random arguments, on many connections."""
    generator = random.Random(4)
    names = sorted(set(commands(served.control, version()).commands) - {"quit", "memsave", "pmemsave"})
    words = [
        "x/9xw",
        "xp/3i",
        "info",
        "registers",
        "$sp",
        "-1",
        "0x1000",
        "help",
        "cpu",
        "savevm",
        "'",
        "p",
        "%",
    ]
    values = [0, -1, 1 << 70, "", "x", None, True, [], {}, 1.5]
    members = ["command-line", "cpu-index", "tag", "job-id", "id", "enable", "devices", "vmstate"]
    for _ in range(8):
        peer = Address(path=served.path).connect(5)
        peer.sendall(b'{"execute": "qmp_capabilities"}')
        for _ in range(25):
            arguments: dict[str, Any] = {
                generator.choice(members): generator.choice(values) for _ in range(generator.randrange(4))
            }
            if generator.random() < 0.5:
                arguments = {"command-line": " ".join(generator.choices(words, k=generator.randrange(1, 5)))}
            name = generator.choice(names)
            peer.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        peer.shutdown(socket.SHUT_WR)
        peer.close()
    with QmpClient(served.path, 20) as client:
        client.execute("cont")
        assert client.execute("query-status")["running"] is True


def test_who_talks_to_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(IsagenError, match="can't connect"):
        QmpClient(str(tmp_path / "nothing"))
