"""Debian's kernel for riscv64, with busybox: what a user does with a machine."""

from __future__ import annotations

import hashlib
import lzma
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isagen import Machine
from machines.machine import Ending
from tests.machines.debugging import booted, debug

MODULES = ("virtio_mmio", "virtio_blk", "netfs", "9pnet", "9pnet_virtio", "9p")
"""In the order in which they are loaded."""
INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for module in {" ".join(MODULES)}; do insmod /$module.ko; done
echo READY
exec sh
"""
FOLDERS = ("bin", "proc", "sys", "dev", "tmp", "share")


def archive(files: dict[str, bytes]) -> bytes:
    """An initial RAM disk (Documentation/driver-api/early-userspace/buffer-format.rst: "newc"): folders, the
    console's device, and files that may be executed.
    """
    entries = [(name, 0o40755, b"", 0, 0) for name in FOLDERS]
    entries.append(("dev/console", 0o20600, b"", 5, 1))
    entries += [(name, 0o100755, data, 0, 0) for name, data in files.items()]
    entries.append(("TRAILER!!!", 0, b"", 0, 0))
    out = bytearray()
    for number, (name, mode, data, major, minor) in enumerate(entries):
        head = number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0
        out += b"070701" + b"".join(b"%08x" % value for value in head) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


class Shell:
    """The guest's shell."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._count = 0

    def run(self, command: str) -> list[str]:
        """The lines that a command prints."""
        self._count += 1
        console = self.machine.console
        # What is typed is echoed, too: there the marks look otherwise.
        console.send(f'echo B""EGIN-{self._count}; {command}; echo E""ND-{self._count}\n')
        marks = rf"(?s)\bBEGIN-{self._count}\r?\n(.*?)END-{self._count}\r?\n"
        return str(console.expect(marks, timeout=300)[1]).replace("\r", "").splitlines()

    def mount_share(self) -> Path:
        """Mount the shared folder at /share; its place on the host."""
        options = "trans=virtio,version=9p2000.L,msize=262144"
        self.run(f"mountpoint -q /share || mount -t 9p -o {options} host /share")
        return Path(self.machine.settings.share[0].path)


@pytest.fixture(scope="module")
def shell(
    tmp_path_factory: pytest.TempPathFactory,
    debian: Callable[..., Path],
    debian_kernel: Callable[..., Path],
) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("linux")
    root = debian_kernel("riscv64", *MODULES)
    files = {"init": INIT.encode()}
    for name in MODULES:
        (module,) = root.rglob(f"{name}.ko*")
        data = module.read_bytes()
        files[f"{name}.ko"] = lzma.decompress(data) if module.suffix == ".xz" else data
    files["bin/busybox"] = (debian("riscv64", "busybox-static") / "bin" / "busybox").read_bytes()
    (folder / "initrd").write_bytes(archive(files))
    (folder / "disk").write_bytes(random.Random(5).randbytes(3 << 20))
    (folder / "share").mkdir()
    (folder / "share" / "file").write_bytes(random.Random(6).randbytes(1 << 20))
    (kernel,) = root.glob("boot/vmlinu*")
    with Machine(
        "virt",
        memory="256M",
        smp=2,
        kernel=kernel,
        initrd=folder / "initrd",
        append="console=ttyS0 quiet nokaslr",
        drive=[{"path": folder / "disk", "format": "raw"}],
        share=[{"path": folder / "share", "tag": "host"}],
    ) as machine:
        machine.console.expect("READY", timeout=300)
        yield Shell(machine)


def test_the_harts_are_there(shell: Shell) -> None:
    assert shell.run("grep -c ^processor /proc/cpuinfo") == ["2"]


def test_a_disk_reads_and_keeps_what_was_written(shell: Shell) -> None:
    disk = Path(shell.machine.settings.drive[0].path)
    digest = hashlib.md5(disk.read_bytes(), usedforsecurity=False).hexdigest()
    assert shell.run("md5sum < /dev/vda") == [f"{digest}  -"]
    shell.run("dd if=/proc/version of=/dev/vda bs=512 seek=3 conv=notrunc,fsync 2>/dev/null")
    assert b"Linux version" in disk.read_bytes()[3 * 512 : 4 * 512]


def test_a_share_goes_both_ways(shell: Shell) -> None:
    share = shell.mount_share()
    digest = hashlib.md5((share / "file").read_bytes(), usedforsecurity=False).hexdigest()
    assert shell.run("md5sum < /share/file") == [f"{digest}  -"]
    shell.run("echo from the guest > /share/new")
    assert (share / "new").read_text() == "from the guest\n"


def test_processes_run_side_by_side(shell: Shell) -> None:
    loops = "for i in 1 2 3 4; do (n=0; while [ $n -lt 300 ]; do n=$((n + 1)); done; echo $n) & done; wait"
    assert sorted(line for line in shell.run(loops) if line == "300") == ["300"] * 4


def test_a_snapshot_goes_back(shell: Shell) -> None:
    saved = shell.machine.snapshot()
    shell.run("echo later > /tmp/mark")
    assert shell.run("cat /tmp/mark") == ["later"]
    shell.machine.restore(saved)
    assert shell.run("ls /tmp | wc -l") == ["0"]


SYMBOLS = (
    "_start_kernel", "start_kernel", "rest_init", "kernel_init", "kernel_init_freeable", "do_one_initcall",
    "ret_from_fork", "handle_exception", "do_timer", "jiffies_64",
)  # fmt: skip
BASE = 0xFFFFFFFF80000000
"""Where the kernel is linked to (CONFIG_64BIT's KERNEL_LINK_ADDR)."""


@pytest.fixture
def symbols(shell: Shell, tmp_path: Path, require_tool: Callable[..., str]) -> Path:
    """An ELF file with some of the running kernel's symbols, for gdb."""
    compiler = require_tool("riscv64-linux-gnu-gcc")
    share = shell.mount_share()
    shell.run("dd if=/proc/kallsyms of=/share/kallsyms bs=4k count=1024")  # the kernel's own are in front
    rows = (line.split() for line in (share / "kallsyms").read_text().splitlines()[:-1])
    text = ['.section .kernel, "ax", @nobits', "base_of_all:"]
    for address, name in ((row[0], row[2]) for row in rows if row[2] in SYMBOLS):
        text += [
            f".globl {name}",
            f".type {name}, @function",
            f".set {name}, base_of_all + {int(address, 16) - BASE}",
        ]
    source, image = tmp_path / "symbols.s", tmp_path / "symbols"
    source.write_text("\n".join([*text, ".skip 0x4000000", ""]))
    place = f"-Wl,--section-start=.kernel={BASE:#x},--build-id=none,-e,start_kernel"
    subprocess.run([compiler, "-nostdlib", "-static", place, "-o", image, source], check=True, timeout=60)
    return image


def test_gdb_finds_its_way_in_the_kernel(
    shell: Shell, symbols: Path, tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    """Forwards by symbols, and back over a trap and over a change of memory."""
    gdb = require_tool("gdb-multiarch")
    settings = shell.machine.settings
    options = ["-S", "-m", "256M", "--smp", "2", "--serial", "none"]
    options += ["--kernel", str(settings.kernel), "--initrd", str(settings.initrd)]
    with booted(tmp_path, *options, "--append", "console=ttyS0 quiet nokaslr") as path:
        text = debug(
            gdb, symbols, path,
            "hbreak start_kernel", "continue", "print $priv", "delete",
            "hbreak do_one_initcall", "continue", "backtrace", "info threads", "delete",
            "hbreak handle_exception", "continue", "print /x $scause", "delete",
            "reverse-stepi", "print $priv", "x/i $pc", "stepi",
            "hbreak do_one_initcall", "reverse-continue", "print $priv", "delete", "continue",
            "watch *(unsigned long *)&jiffies_64", "continue", "continue", "backtrace 1", "reverse-continue",
        )  # fmt: skip
    assert re.search(r"hit Breakpoint 1, 0x\w+ in start_kernel \(\)\n\$1 = 1\b", text), text
    frames = (
        r"#0 +0x\w+ in do_one_initcall \(\)\n#1 .* in kernel_init_freeable .*\n#2 .* in kernel_init \(\)\n"
    )
    assert re.search(frames, text), text
    assert "Thread 1 (hart 0)" in text and "Thread 2 (hart 1)" in text
    assert text.count(" in do_one_initcall ()") >= 3, text
    old = [int(value) for value in re.findall(r"^Old value = (\d+)$", text, re.MULTILINE)]
    new = [int(value) for value in re.findall(r"^New value = (\d+)$", text, re.MULTILINE)]
    assert len(new) == 3 and new[0] == old[0] + 1 and new[1] == old[1] + 1, text
    assert (old[2], new[2]) == (new[1], old[1]), "one change back"
    assert re.search(r"#0 +0x\w+ in do_timer", text), text


def test_it_switches_itself_off(shell: Shell) -> None:
    shell.machine.console.send("poweroff -f\n")
    assert shell.machine.run().ending is Ending.OFF
