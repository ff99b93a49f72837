"""Opening images: policy, chains, probing, locks, files, and `Image` as a file."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.block.errors import (
    ImageChainError,
    ImageError,
    ImageExists,
    ImageFormatUnknown,
    ImageInUse,
    ImageIOError,
    ImageNotFound,
    ImageOption,
    ImageRange,
    ImageReadOnly,
    ImageUnsupported,
    ReferenceDenied,
)
from runtime.block.image import Image
from runtime.block.node import ExtentKind
from runtime.block.policy import ReferencePolicy
from runtime.block.protocol.file import FileNode
from runtime.block.protocol.memory import MemoryNode

MIB = 1 << 20


def overlay(path: Path, backing: str, fmt: str | None = "raw") -> None:
    """An image whose header names `backing`, whatever that is."""
    with Image.create(path, "qcow2", MIB) as image:
        image.node.set_backing(backing, fmt)


# --- policy ---


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret" * 1000)
    return folder / "secret"


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "base").write_bytes(b"base" * 1024)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "{outside}",
        "../outside/secret",
        "./../outside/secret",
        "link",
        "..",
        ".",
        "sub/base",
        "/dev/zero",
        "json:{{}}",
        'json:{{"driver":"file","filename":"{outside}"}}',
        "nbd://localhost/x",
        "nbd:unix:/tmp/socket",
        "http://localhost/x",
        "file:{outside}",
        "host_device:/dev/sda",
        "base\0../outside/secret",
    ],
)
def test_references_that_are_denied(name: str, inside: Path, outside: Path) -> None:
    (inside / "link").symlink_to(outside)
    (inside / "sub").mkdir()
    (inside / "sub" / "base").write_bytes(bytes(512))
    overlay(inside / "disk.qcow2", name.format(outside=outside))
    with pytest.raises(ReferenceDenied) as caught:
        Image.open(inside / "disk.qcow2")
    assert (caught.value.where and caught.value.remedy) or "\0" in name
    Image.open(inside / "disk.qcow2", backing=False).close()


def test_references_that_are_allowed(inside: Path, outside: Path) -> None:
    overlay(inside / "near.qcow2", "base")
    with Image.open(inside / "near.qcow2") as image:
        assert image.pread(0, 8) == b"basebase"
    overlay(inside / "absolute.qcow2", str(inside / "base"))
    Image.open(inside / "absolute.qcow2").close()
    overlay(inside / "far.qcow2", str(outside))
    for allow in (outside, outside.parent, [str(outside)], ReferencePolicy(anything=True)):
        with Image.open(inside / "far.qcow2", allow=allow) as image:
            assert image.pread(0, 6) == b"secret"
    with pytest.raises(ReferenceDenied):
        Image.open(inside / "far.qcow2", allow=inside)
    # Even who allows everything doesn't mean protocols.
    overlay(inside / "json.qcow2", "json:{}")
    with pytest.raises(ReferenceDenied):
        Image.open(inside / "json.qcow2", allow=ReferencePolicy(anything=True))


def test_data_file_follows_the_policy(inside: Path, outside: Path) -> None:
    with Image.create(inside / "disk.qcow2", "qcow2", MIB, data_file="data") as image:
        image.amend(data_file=str(outside))
    with pytest.raises(ReferenceDenied):
        Image.open(inside / "disk.qcow2")


def test_missing_backing_file(inside: Path) -> None:
    overlay(inside / "disk.qcow2", "gone")
    with pytest.raises(ImageNotFound, match="gone"):
        Image.open(inside / "disk.qcow2")


# --- chains ---


def test_deep_chain(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"x" * MIB)
    for number in range(1, 66):
        fmt = "raw" if number == 1 else "qcow2"
        if number > 63:  # creating would look below
            overlay(tmp_path / str(number), str(number - 1), fmt)
        else:
            Image.create(
                tmp_path / str(number), "qcow2", backing_file=str(number - 1), backing_fmt=fmt
            ).close()
    with Image.open(tmp_path / "63") as image:
        assert image.pread(MIB - 1, 1) == b"x"
        assert next(image.extents()).depth == 63
    with pytest.raises(ImageChainError):
        Image.open(tmp_path / "64")
    with pytest.raises(ImageChainError):
        Image.open(tmp_path / "65")


def test_loop(tmp_path: Path) -> None:
    overlay(tmp_path / "a", "b", "qcow2")
    overlay(tmp_path / "b", "a", "qcow2")
    overlay(tmp_path / "self", "self", "qcow2")
    for name in ("a", "b", "self"):
        with pytest.raises(ImageChainError):
            Image.open(tmp_path / name)
    (tmp_path / "hard").hardlink_to(tmp_path / "self")
    with pytest.raises(ImageChainError):
        Image.open(tmp_path / "hard")


def test_backing_without_format_names_nothing(tmp_path: Path) -> None:
    """A raw disk whose guest wrote an overlay's header into it doesn't make us open another file."""
    (tmp_path / "secret").write_bytes(b"secret" * 1000)
    overlay(tmp_path / "guest", "secret")
    overlay(tmp_path / "disk.qcow2", "guest", None)
    with pytest.raises(ReferenceDenied):
        Image.open(tmp_path / "disk.qcow2")
    overlay(tmp_path / "told.qcow2", "guest", "raw")
    with Image.open(tmp_path / "told.qcow2") as image:
        assert image.pread(0, 4) == b"QFI\xfb"


# --- formats ---


def test_probing(tmp_path: Path) -> None:
    Image.create(tmp_path / "a", "qcow2", MIB).close()
    (tmp_path / "b").write_bytes(bytes(MIB))
    for name, format in (("a", "qcow2"), ("b", "raw")):
        with Image.open(tmp_path / name) as image:
            assert image.format == format
    with Image.open(tmp_path / "a", "raw") as image:
        assert image.pread(0, 4) == b"QFI\xfb"
    with pytest.raises(ImageError):
        Image.open(tmp_path / "b", "qcow2")
    with pytest.raises(ImageFormatUnknown, match="known are"):
        Image.open(tmp_path / "b", "qcow3")


def test_guessed_raw_stays_raw(tmp_path: Path) -> None:
    Image.create(tmp_path / "q", "qcow2", MIB).close()
    header = (tmp_path / "q").read_bytes()[:512]
    (tmp_path / "disk").write_bytes(bytes(MIB))
    with Image.open(tmp_path / "disk", writable=True) as image:
        with pytest.raises(ImageError, match="signature"):
            image.pwrite(0, header)
        image.pwrite(0, header[4:])
        with pytest.raises(ImageError, match="signature"):
            image.pwrite(0, header[:8])
        assert image.pread(0, 4) != b"QFI\xfb"
    with Image.open(tmp_path / "disk", "raw", writable=True) as image:
        image.pwrite(0, header)


def test_create_leaves_nothing_behind(tmp_path: Path) -> None:
    bad: list[dict[str, object]] = [
        {"nonsense": 1},
        {"cluster_size": 1000},
        {"data_file": "d", "backing_file": "x"},
    ]
    for options in bad:
        with pytest.raises(ImageError):
            Image.create(tmp_path / "disk", "qcow2", MIB, **options)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImageOption):
        Image.create(tmp_path / "disk.qcow2", None, "a lot")
    with pytest.raises(ImageOption):
        Image.create(tmp_path / "disk.unheard", None, MIB)
    with pytest.raises(ImageOption):
        Image.create(tmp_path / "disk.qcow2")
    (tmp_path / "there").write_bytes(b"mine")
    with pytest.raises(ImageExists):
        Image.create(tmp_path / "there", "qcow2", MIB)
    assert (tmp_path / "there").read_bytes() == b"mine"
    with Image.create(tmp_path / "over.qcow2", size="1.5M") as image:
        assert image.size == 3 * MIB // 2 and image.format == "qcow2"


# --- locks ---

HOLD = """
import sys, time
from runtime.block.image import Image
with Image.open(sys.argv[1], writable=sys.argv[2] == "w") as image:
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path, str], subprocess.Popen[str]]]:
    """Another process that has an image open."""
    started: list[subprocess.Popen[str]] = []

    def start(path: Path, mode: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, path, mode], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_locks(
    format: str,
    tmp_path: Path,
    require_tool: Callable[..., str],
    hold: Callable[[Path, str], subprocess.Popen[str]],
) -> None:
    io_tool = require_tool("qemu-io")
    path = tmp_path / "disk"
    Image.create(path, format, MIB).close()

    def qemu_writes() -> bool:
        command = [io_tool, "-f", format, "-c", "write 0 512", str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    writer = hold(path, "w")
    for writable in (True, False):
        with pytest.raises(ImageInUse) as caught:
            Image.open(path, writable=writable)
        assert caught.value.remedy
    assert not qemu_writes()
    Image.open(path, lock=False).close()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    Image.open(path, writable=True).close()  # nothing stale
    assert qemu_writes()
    reader = hold(path, "r")
    Image.open(path).close()
    with pytest.raises(ImageInUse):
        Image.open(path, writable=True)
    assert not qemu_writes()
    reader.kill()
    reader.wait()
    with Image.open(path, writable=True), pytest.raises(ImageInUse):
        Image.open(path)
    command = [io_tool, "-f", format, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
        assert qemu.stdin is not None and qemu.stdout is not None
        qemu.stdin.write("write 0 512\n")
        qemu.stdin.flush()
        qemu.stdout.readline()
        with pytest.raises(ImageInUse):
            Image.open(path, writable=True)
        qemu.communicate("quit\n")
    Image.open(path, writable=True).close()


def test_backing_file_is_locked_too(
    tmp_path: Path, hold: Callable[[Path, str], subprocess.Popen[str]]
) -> None:
    Image.create(tmp_path / "base", "qcow2", MIB).close()
    Image.create(tmp_path / "top", "qcow2", backing_file="base", backing_fmt="qcow2").close()
    hold(tmp_path / "top", "w")
    with pytest.raises(ImageInUse):
        Image.open(tmp_path / "base", writable=True)
    Image.open(tmp_path / "base").close()


# --- files ---


def test_host_files(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        FileNode(tmp_path / "gone")
    with pytest.raises(ImageUnsupported):
        FileNode(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageUnsupported):  # and doesn't wait for a writer
        FileNode(tmp_path / "pipe")
    with pytest.raises(ImageError):
        Image.open("a\0b")
    with FileNode(tmp_path / "f", writable=True, create=True) as file:
        file.pwrite(3 * MIB, b"end")
        assert file.length() == 3 * MIB + 3
        assert file.pread(3 * MIB, 10) == b"end" + bytes(7)
        kinds = [extent.kind for extent in file.extents()]
        assert kinds == [ExtentKind.HOLE, ExtentKind.DATA]
        file.pwrite(0, b"x" * MIB)
        file.punch(4096, MIB)
        assert file.pread(4095, 2) == b"x\0"
        assert file.allocated() < MIB
        file.write_zeroes(2 * MIB, 2 * MIB)
        assert file.length() == 4 * MIB
        target = bytearray(b"?" * 10)
        file.read_into(4 * MIB - 5, memoryview(target))
        assert target == bytes(10)
        file.pwrite_vector(MIB, [b"ab"] * 1000)
        assert file.pread(MIB, 2000) == b"ab" * 1000


def test_full_device() -> None:
    """ENOSPC comes back as an error with its number."""
    file = FileNode.__new__(FileNode)
    file.name, file.read_only, file._length, file._lost = "/dev/full", False, 0, False
    file._fd = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(ImageIOError) as caught:
            file.pwrite(0, b"x")
        assert caught.value.errno == 28 and "space" in caught.value.remedy
    finally:
        file.close()


def test_block_device(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """A loop device is a disk of fixed length."""
    tool = require_tool("losetup")
    (tmp_path / "disk").write_bytes(b"x" * MIB)
    made = subprocess.run(
        [tool, "--find", "--show", tmp_path / "disk"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip("loop devices can't be made here")
    device = made.stdout.strip()
    try:
        with Image.open(device, "raw", writable=True) as image:
            assert image.size == MIB and image.pread(MIB - 1, 1) == b"x"
            image.pwrite(512, b"y" * 512)
            image.write_zeroes(4096, 8192)
            image.flush()
            assert image.pread(4095, 2) == b"x\0"
            with pytest.raises(ImageUnsupported):
                image.resize(2 * MIB)
        # An image format right on the device.
        with Image.create(device, "qcow2", 16 * MIB, overwrite=True) as image:
            image.pwrite(8 * MIB, b"on a device")
        with Image.open(device) as image:
            assert image.format == "qcow2" and image.pread(8 * MIB, 11) == b"on a device"
            assert image.pread(8 * MIB + 11, 60_000) == bytes(60_000)
            assert image.check().exit_code == 0
    finally:
        subprocess.run([tool, "-d", device], check=True)


# --- Image as a file ---


def test_file_like(tmp_path: Path) -> None:
    with Image.create(tmp_path / "disk.qcow2", size=MIB) as image:
        assert image.readable() and image.writable() and image.seekable()
        image.seek(1000)
        assert image.write(b"hello") == 5 and image.tell() == 1005
        image.seek(-5, os.SEEK_CUR)
        assert image.read(5) == b"hello"
        image.seek(-3, os.SEEK_END)
        assert image.read(100) == bytes(3) and image.read(1) == b""
        with pytest.raises(ImageRange):
            image.write(b"x")
        with pytest.raises(ImageRange):
            image.pread(MIB - 1, 2)
        with pytest.raises(ImageRange):
            image.pread(-1, 1)
        with pytest.raises(ImageRange):
            image.resize(512)
        assert image.truncate(2 * MIB) == 2 * MIB and image.size == 2 * MIB
        buffered = io.BufferedReader(image)
        buffered.seek(1000)
        assert buffered.read(5) == b"hello"
        buffered.detach()
    assert image.closed
    image.close()
    with Image.open(tmp_path / "disk.qcow2") as image:
        with pytest.raises(ImageReadOnly):
            image.pwrite(0, b"x")
        with pytest.raises(ImageReadOnly):
            image.discard(0, 512)
        assert [extent.kind for extent in image.map()][:2] == [ExtentKind.DATA, ExtentKind.HOLE]


def test_in_memory() -> None:
    file = MemoryNode()
    with Image.create(file, "qcow2", MIB) as image:
        image.pwrite(5, b"hello")
    with Image.open(file) as image:
        assert image.format == "qcow2" and image.pread(5, 5) == b"hello"
