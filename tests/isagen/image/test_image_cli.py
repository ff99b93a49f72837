"""``isagen image``: exit statuses, what is printed, and options as qemu-img's users know them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from isagen.cli import main
from isagen.commands.image import SUBCOMMANDS
from runtime.block.image import Image

MIB = 1 << 20


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def raw() -> bytes:
    """The content of disk.raw."""
    content = random.Random(1).randbytes(MIB) + bytes(2 * MIB) + b"text " * 200_000
    content = content.ljust(5 * MIB, b"\0")
    with Path("disk.raw").open("wb") as file:
        file.write(content[:MIB])
        file.seek(3 * MIB)
        file.write(content[3 * MIB :])
    return content


def run(*words: str) -> int:
    return main(["image", *words])


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Run:
    """``tell(word, ...)``: status, standard output and error output of a command."""

    def call(*words: str) -> tuple[int, str, str]:
        status = run(*words)
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_has_help(name: str, tell: Run) -> None:
    status, out, _ = tell(name, "--help")
    assert status == 0 and f"isagen image {name}" in out
    assert tell(name)[0] in (1, 2)


def test_bad_input_is_one_line_and_a_status(raw: bytes, tell: Run) -> None:
    cases = [
        (1, "info", "absent"),
        (1, "info", "."),
        (1, "info", "-f", "nothing", "disk.raw"),
        (1, "convert", "absent", "x.qcow2"),
        (1, "convert", "disk.raw", "absent/x.qcow2"),
        (1, "convert", "disk.raw", "disk.raw"),
        (1, "convert", "-o", "bogus=1", "disk.raw", "x.qcow2"),
        (1, "convert", "-c", "disk.raw", "x.vdi"),
        (1, "convert", "-m", "0", "disk.raw", "x.qcow2"),
        (1, "create", "x.qcow2"),
        (1, "create", "x.qcow2", "12Q"),
        (1, "create", "-f", "qcow2", "-o", "cluster_size=3", "x.qcow2", "1M"),
        (1, "resize", "disk.raw", "1M"),
        (1, "resize", "disk.raw", "-100M"),
        (1, "commit", "disk.raw"),
        (1, "rebase", "-b", "absent", "disk.raw"),
        (1, "bench", "-s", "100M", "disk.raw"),
        (2, "compare", "disk.raw", "absent"),
        (1, "check", "absent"),
        (1, "ls", "disk.raw", "/"),
        (1, "cat", "-p", "1", "disk.raw", "/x"),
        (1, "import", "disk.raw"),
        (1, "import", "absent.ova"),
        (1, "export", "absent.toml", "x.ova"),
        (1, "serve", "-k", "absent/socket", "disk.raw"),
        (1, "info", "nbd+unix:///?socket=absent"),
        (1, "info", "gopher://host/"),
    ]
    for expected, *words in cases:
        status, _, err = tell(*words)
        assert status == expected, words
        assert "Traceback" not in err and err.strip(), words
    assert sorted(path.name for path in Path().iterdir()) == ["disk.raw"]


def test_info_has_qemu_s_names(raw: bytes, tell: Run, require_tool: Callable[..., str]) -> None:
    run("create", "-q", "-f", "qcow2", "base.qcow2", "3M")
    run("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "4M")
    _, out, _ = tell("info", "--json", "top.qcow2")
    peer = subprocess.run(
        [require_tool("qemu-img"), "info", "--output=json", "top.qcow2"], capture_output=True
    )
    ours, theirs = json.loads(out), json.loads(peer.stdout)
    for name in ("virtual-size", "filename", "format", "backing-filename", "backing-filename-format"):
        assert ours[name] == theirs[name]
    _, out, _ = tell("info", "--output=json", "--backing-chain", "top.qcow2")
    assert [image["filename"] for image in json.loads(out)] == ["top.qcow2", "base.qcow2"]
    _, out, _ = tell("info", "top.qcow2")
    assert "virtual size: 4 MiB (4194304 bytes)" in out and "backing file: base.qcow2" in out


def test_compare_s_statuses(raw: bytes, tell: Run) -> None:
    run("convert", "disk.raw", "same.qcow2")
    assert tell("compare", "disk.raw", "same.qcow2")[:2] == (0, "Images are identical.\n")
    assert tell("compare", "-q", "disk.raw", "same.qcow2")[:2] == (0, "")
    with Image.open("same.qcow2", writable=True) as image:
        image.pwrite(4_000_001, b"\xff")
    status, out, _ = tell("compare", "disk.raw", "same.qcow2")
    assert status == 1 and "4000001" in out
    status, out, _ = tell("compare", "--json", "disk.raw", "same.qcow2")
    assert status == 1 and json.loads(out)["offset"] == 4_000_001
    run("create", "-q", "-f", "raw", "empty", "5M")
    run("create", "-q", "-f", "raw", "longer", "6M")
    assert tell("compare", "empty", "longer")[0] == 0
    assert tell("compare", "-s", "empty", "longer")[0] == 1


def test_check_s_statuses(raw: bytes, tell: Run) -> None:
    run("convert", "disk.raw", "x.qcow2")
    status, out, _ = tell("check", "x.qcow2")
    assert status == 0 and "No errors were found" in out
    with Path("x.qcow2").open("r+b") as file:  # a cluster behind the last one: lost
        size = file.seek(0, os.SEEK_END)
        file.seek(131072 + 2 * (size // 65536))
        file.write(b"\0\1")
        file.truncate(size + 65536)
    status, out, _ = tell("check", "--json", "x.qcow2")
    assert status == 3 and json.loads(out)["leaks"] == 1
    assert tell("check", "-r", "leaks", "x.qcow2")[0] == 0
    assert tell("check", "x.qcow2")[0] == 0
    with Path("x.qcow2").open("r+b") as file:  # the first data cluster isn't counted any more
        file.seek(131072)
        file.write(bytes(200))
    assert tell("check", "x.qcow2")[0] == 2
    assert tell("check", "--repair", "x.qcow2")[0] == 0
    assert tell("compare", "disk.raw", "x.qcow2")[0] == 0


def test_map_is_qemu_s(raw: bytes, tell: Run, require_tool: Callable[..., str]) -> None:
    run("convert", "disk.raw", "x.qcow2")
    for name in ("disk.raw", "x.qcow2"):
        ours = json.loads(tell("map", "--output=json", name)[1])
        peer = subprocess.run([require_tool("qemu-img"), "map", "--output=json", name], capture_output=True)
        names = ("start", "length", "depth", "present", "zero", "data", "offset")
        assert [[extent.get(key) for key in names] for extent in ours] == [
            [extent.get(key) for key in names] for extent in json.loads(peer.stdout)
        ]
    _, out, _ = tell("map", "-s", "1M", "-l", "3M", "disk.raw")
    assert out.splitlines()[1].split() == ["0x300000", "0x100000", "0x300000", "disk.raw"]


def test_resize(raw: bytes, tell: Run) -> None:
    for words, size in ((["+1M"], 6), (["8M"], 8), (["--shrink", "-3M"], 5), (["--shrink", "--", "-1M"], 4)):
        assert run("resize", "-q", "-f", "raw", "disk.raw", *words) == 0
        assert Path("disk.raw").stat().st_size == size * MIB
    assert Path("disk.raw").read_bytes() == raw[: 4 * MIB]


def test_snapshots_through_the_command(raw: bytes, tell: Run) -> None:
    run("convert", "disk.raw", "x.qcow2")
    assert run("snapshot", "-c", "one", "x.qcow2") == 0
    with Image.open("x.qcow2", writable=True) as image:
        image.pwrite(0, b"later")
    assert [entry["name"] for entry in json.loads(tell("snapshot", "--json", "x.qcow2")[1])] == ["one"]
    assert run("convert", "-l", "one", "x.qcow2", "then.raw") == 0
    assert Path("then.raw").read_bytes() == raw
    assert run("snapshot", "-a", "one", "x.qcow2") == 0
    assert run("compare", "x.qcow2", "disk.raw") == 0
    assert tell("snapshot", "-d", "one", "x.qcow2")[0] == 0
    assert tell("snapshot", "-l", "x.qcow2")[1] == ""
    assert tell("snapshot", "-d", "one", "x.qcow2")[0] == 1


def test_overlays_through_the_command(raw: bytes, tell: Run) -> None:
    Path("sub").mkdir()
    run("convert", "disk.raw", "sub/base.qcow2")
    # The backing file is named as seen from the overlay.
    assert run("create", "-b", "base.qcow2", "sub/mid.qcow2") == 0
    assert run("create", "-b", "mid.qcow2", "-F", "qcow2", "sub/top.qcow2", "6M") == 0
    model = bytearray(raw.ljust(6 * MIB, b"\0"))
    for name, offset in (("mid", 2 * MIB), ("top", 5 * MIB + 7)):
        with Image.open(f"sub/{name}.qcow2", writable=True) as image:
            image.pwrite(offset, name.encode() * 1000)
        model[offset : offset + 3000] = name.encode() * 1000
    Path("model").write_bytes(model)
    assert (
        run("convert", "-O", "qcow2", "-B", "base.qcow2", "-F", "qcow2", "sub/top.qcow2", "sub/thin.qcow2")
        == 0
    )
    assert run("compare", "model", "sub/thin.qcow2") == 0
    assert run("rebase", "-b", "base.qcow2", "sub/top.qcow2") == 0
    assert run("compare", "model", "sub/top.qcow2") == 0
    assert run("commit", "-d", "sub/top.qcow2") == 0
    assert run("compare", "model", "sub/base.qcow2") == 0
    assert run("rebase", "-b", "", "sub/top.qcow2") == 0
    assert "backing" not in tell("info", "sub/top.qcow2")[1]
    assert run("compare", "model", "sub/top.qcow2") == 0


def test_several_sources_become_one_disk(raw: bytes) -> None:
    Path("second").write_bytes(b"second" * 1000)
    assert run("convert", "-f", "raw", "disk.raw", "second", "both.raw") == 0
    assert Path("both.raw").read_bytes() == raw + b"second" * 1000


def test_into_an_image_that_exists(raw: bytes, tell: Run) -> None:
    run("create", "-q", "old.qcow2", "6M")
    with Image.open("old.qcow2", writable=True) as image:
        image.pwrite(0, b"\xff" * 6 * MIB)
    assert run("convert", "-n", "-O", "qcow2", "disk.raw", "old.qcow2") == 0
    assert run("compare", "disk.raw", "old.qcow2") == 0
    run("create", "-q", "small.qcow2", "1M")
    assert tell("convert", "-n", "-O", "qcow2", "disk.raw", "small.qcow2")[0] == 1


def test_encrypted_disks(raw: bytes, tell: Run) -> None:
    Path("key").write_text("secret\n")
    assert run("convert", "-q", "-o", "iter-time=10", "--passphrase-file", "key", "disk.raw", "x.luks") == 0
    assert run("compare", "--passphrase-file", "key", "disk.raw", "x.luks") == 0
    assert run("compare", "--object", "secret,id=a,data=secret", "disk.raw", "x.luks") == 0
    assert tell("compare", "--object", "secret,id=a,data=wrong", "disk.raw", "x.luks")[0] == 2
    assert tell("compare", "disk.raw", "x.luks")[0] in (2, 4)


def test_options_are_listed(tell: Run) -> None:
    status, out, _ = tell("create", "-f", "qcow2", "-o", "help")
    assert status == 0 and "cluster-size" in out
    assert tell("convert", "-O", "vdi", "-o", "help")[0] == 0


def test_progress_is_for_those_who_look(raw: bytes, tell: Run) -> None:
    assert "100%" in tell("convert", "-p", "disk.raw", "x.qcow2")[2]
    assert tell("convert", "disk.raw", "x.qcow2") == (0, "", "")
    status, out, _ = tell("convert", "--json", "--verify", "disk.raw", "x.qcow2")
    values = json.loads(out)
    assert status == 0 and values["verified"] and values["size"] == 5 * MIB and values["copied"] < 3 * MIB


def test_serving_until_told_to_stop(raw: bytes, here: Path, require_tool: Callable[..., str]) -> None:
    words = [sys.executable, "-m", "isagen", "image", "serve", "-k", "socket", "-r", "disk.raw"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("nbd+unix:///?socket=")
        info = subprocess.run([require_tool("nbdinfo"), "--size", address], capture_output=True, check=True)
        assert int(info.stdout) == 5 * MIB
        assert run("compare", "disk.raw", address) == 0
        assert run("compare", "disk.raw", "nbd:unix:socket") == 0
        assert run("convert", address, "copy.qcow2") == 0
        assert run("compare", "-f", "raw", "disk.raw", "copy.qcow2") == 0
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert server.stdout is not None
        server.stdout.close()
    assert not Path("socket").exists()


def test_machines_through_the_command(raw: bytes, tell: Run) -> None:
    words = ("--memory", "2G", "--cpus", "2", "--mac", "52:54:00:00:00:01", "--efi", "disk.raw", "m.ova")
    assert run("export", "-q", *words) == 0
    assert tell("export", "-q", *words)[0] == 1  # it is there already
    status, out, _ = tell("import", "--into", "new", "m.ova")
    assert status == 0 and "manifest verified" in out
    machine = tomllib.loads(Path("new/m.toml").read_text())
    assert (machine["cpus"], machine["firmware"]) == (2, "efi")
    assert run("compare", "disk.raw", f"new/{machine['disks'][0]['file']}") == 0
    assert tell("export", "--mac", "nonsense", "disk.raw", "x.ova")[0] == 1


def test_a_replaced_file_keeps_its_permissions(raw: bytes) -> None:
    Path("x.qcow2").touch(mode=0o600)
    assert run("convert", "disk.raw", "x.qcow2") == 0
    assert Path("x.qcow2").stat().st_mode & 0o777 == 0o600


def test_backing_files_among_the_options(raw: bytes, tell: Run) -> None:
    run("convert", "disk.raw", "base.qcow2")
    run("create", "-q", "-b", "base.qcow2", "top.qcow2")
    assert run("convert", "-o", "backing_file=base.qcow2,backing_fmt=qcow2", "top.qcow2", "thin.qcow2") == 0
    assert Path("thin.qcow2").stat().st_size < MIB
    assert tell("convert", "--resume", "disk.raw", "y.qcow2")[1].startswith(
        "y.qcow2: there was nothing to resume"
    )


def test_bitmaps_go_along(raw: bytes, tell: Run, require_tool: Callable[..., str]) -> None:
    qemu, io = require_tool("qemu-img"), require_tool("qemu-io")
    run("convert", "disk.raw", "from.qcow2")
    for words in (["-g", "4096", "first"], ["--disable", "second"]):
        subprocess.run([qemu, "bitmap", "--add", *words[:-1], "from.qcow2", words[-1]], check=True)
    subprocess.run([io, "-c", "write -P 1 1M 5000", "from.qcow2"], check=True, capture_output=True)
    for compressed in ([], ["-c"]):
        assert run("convert", "--bitmaps", *compressed, "-O", "qcow2", "from.qcow2", "to.qcow2") == 0
        subprocess.run([qemu, "check", "-q", "to.qcow2"], check=True)
        subprocess.run([qemu, "compare", "-q", "from.qcow2", "to.qcow2"], check=True)
        found = []
        for name in ("from.qcow2", "to.qcow2"):
            told = subprocess.run([qemu, "info", "--output=json", name], check=True, capture_output=True)
            bitmaps = json.loads(told.stdout)["format-specific"]["data"]["bitmaps"]
            with Image.open(name) as image:
                found.append((bitmaps, [image.node.bitmaps.dirty(one["name"]) for one in bitmaps]))  # type: ignore[attr-defined]
        assert found[0] == found[1]
        assert found[0][1][0] == [(MIB, 8192)]
    assert tell("convert", "--bitmaps", "-O", "vdi", "from.qcow2", "x.vdi")[0] == 1
    assert tell("convert", "--bitmaps", "-O", "qcow2", "disk.raw", "x.qcow2")[0] == 1
    assert tell("convert", "--skip-broken-bitmaps", "-O", "qcow2", "from.qcow2", "x.qcow2")[0] == 1
    assert not Path("x.qcow2").exists() and not Path("x.vdi").exists()


def test_snapshots_are_named_as_for_qemu_img(raw: bytes, tell: Run) -> None:
    run("convert", "disk.raw", "from.qcow2")
    run("snapshot", "-c", "one", "from.qcow2")
    for name in ("one", "1", "snapshot.name=one", "snapshot.id=1"):
        assert run("convert", "-l", name, "-O", "raw", "from.qcow2", "x.raw") == 0
        assert Path("x.raw").read_bytes() == raw
    assert tell("convert", "-l", "snapshot.name=two", "-O", "raw", "from.qcow2", "x.raw")[0] == 1
    assert (
        tell("convert", "-l", "snapshot.name=one,snapshot.id=1", "-O", "raw", "from.qcow2", "x.raw")[0] == 1
    )


def test_images_named_by_options(raw: bytes, tell: Run, require_tool: Callable[..., str]) -> None:
    """``--image-opts`` opens what it opens in qemu-img."""
    qemu = require_tool("qemu-img")
    assert run("convert", "-O", "qcow2", "disk.raw", "a,b.qcow2") == 0
    Path("one").write_text("first")
    Path("two").write_text("second")
    secrets = ("--object", "secret,id=s1,file=one", "--object", "secret,id=s2,file=two")
    plain, encrypted = (
        "driver=qcow2,file.driver=file,file.filename=a,,b.qcow2,l2-cache-size=1M",
        "driver=qcow2,encrypt.key-secret=s2,file.filename=locked.qcow2",
    )
    size = len(raw)
    Image.create(
        "locked.qcow2", "qcow2", size, passphrase="second", encrypt_format="luks", encrypt_iter_time=10
    ).close()
    copy = ("convert", "-n", *secrets, "--image-opts", "--target-image-opts", plain, encrypted)
    assert run(*copy) == 0
    assert run("compare", "-q", *secrets, "--image-opts", plain, encrypted) == 0
    assert run("compare", "-q", "--image-opts", plain, "driver=file,filename=disk.raw") == 0
    subprocess.run((qemu, "compare", "-q", *secrets, "--image-opts", plain, encrypted), check=True)
    status, out, _ = tell("info", "--json", "--image-opts", "file.filename=a,,b.qcow2")
    assert status == 0 and json.loads(out)["format"] == "qcow2"
    for wrong, told in (
        ("driver=qcow2,file.filename=a,,b.qcow2,backing.driver=raw", "backing.driver"),
        ("driver=qcow2,file.filename=a,,b.qcow2,bogus=1", "bogus"),
        ("driver=qcow2", "name no file"),
        ("driver=qcow2,file.driver=nbd", "name no server"),
        ("driver=qcow2,file.driver=gopher,file.filename=x", "gopher"),
        ("driver=qcow2,encrypt.key-secret=s3,file.filename=locked.qcow2", "s3"),
        ("driver=nothing,file.filename=a,,b.qcow2", "nothing"),
    ):
        status, _, err = tell("map", *secrets, "--image-opts", wrong)
        assert status == 1 and told in err, wrong
    assert run("check", "-f", "qcow2", "--image-opts", plain) == 1
    assert run("resize", "--image-opts", plain + ",read-only=on", "8M") == 1
    assert run("convert", "--target-image-opts", "disk.raw", plain) == 1


def test_servers_named_by_options(raw: bytes, tmp_path: Path) -> None:
    from runtime.block.protocol.nbd.server import Export, Server, listen_unix

    path = tmp_path / "socket"
    named = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={path},file.export=disk"
    with (
        Image.open("disk.raw", "raw") as image,
        Server([Export("disk", image.node, read_only=True)], listen_unix(path)) as server,
    ):
        server.start()
        assert run("compare", "--image-opts", named, "driver=file,filename=disk.raw") == 0
