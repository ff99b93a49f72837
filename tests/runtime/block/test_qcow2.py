"""QCOW2 against qemu-img, both ways, for every option; and what is QCOW2's own: bitmaps, amend, checksums,
repair.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.block.errors import (
    ImageCorrupt,
    ImageExists,
    ImageKeyError,
    ImageNotFound,
    ImageOption,
    ImageUnsupported,
)
from runtime.block.format.qcow2.node import Qcow2Node
from runtime.block.image import Image

MIB = 1 << 20
SIZE = 3 * MIB + 512
SECRET = "secret,id=key,data=passphrase"

OPTIONS: list[dict[str, object]] = [
    {},
    {"compat": "0.10"},
    *({"cluster_size": 1 << bits} for bits in (9, 12, 18, 21)),
    *({"refcount_bits": 1 << order, "cluster_size": 1024} for order in range(7)),
    {"lazy_refcounts": "on"},
    {"compression_type": "zstd"},
    {"extended_l2": "on"},
    {"extended_l2": "on", "cluster_size": 16384},
    {"preallocation": "metadata"},
    {"preallocation": "falloc"},
    {"preallocation": "full"},
    {"data_file": "data"},
    {"data_file": "data", "data_file_raw": "on"},
    {"backing_file": "below", "backing_fmt": "raw"},
    {"backing_file": "below", "backing_fmt": "raw", "compat": "0.10"},
    {"backing_file": "below", "backing_fmt": "raw", "extended_l2": "on"},
]


def option_id(options: dict[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()) or "plain"


@pytest.fixture
def qemu(require_tool: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Run a program of qemu-utils in the test's folder; its output. Fails the test if it fails."""

    def run(program: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        for _ in range(60):  # that many, as each is short and they often fail together
            result = subprocess.run(
                [require_tool(program), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
            )
            if "accurate CPU usage" not in result.stderr:  # it couldn't time its key derivation: busy machine
                break
        assert result.returncode in codes, f"{program} {arguments}: {result.stdout}{result.stderr}"
        return result.stdout

    return run


def node_of(image: Image) -> Qcow2Node:
    assert isinstance(image.node, Qcow2Node)
    return image.node


def fill(image: Image, content: bytearray, rng: random.Random, times: int = 15) -> None:
    """Random writes, zeroes, discards and compressed clusters."""
    for _ in range(times):
        offset = rng.randrange(len(content))
        length = min(rng.choice((1, 512, 70_000, 300_000)), len(content) - offset)
        what = rng.choice(("write", "write", "zero", "compressed", "discard"))
        if what == "write":
            content[offset : offset + length] = data = rng.randbytes(length)
            image.pwrite(offset, data)
        elif what == "zero":
            content[offset : offset + length] = bytes(length)
            image.write_zeroes(offset, length, unmap=rng.random() < 0.5)
        elif what == "discard":
            image.discard(offset, length)
            content[offset : offset + length] = image.pread(offset, length)
        else:
            try:
                compression = image.node.compression
            except ImageUnsupported:
                continue
            assert compression is not None
            size = compression.cluster_size
            offset = offset // size * size
            data = (rng.randbytes(30) * (size // 30 + 1))[: min(size, len(content) - offset)]
            content[offset : offset + len(data)] = data
            image.write_compressed(offset, data)


def below(folder: Path, options: dict[str, object], rng: random.Random) -> bytearray:
    """The disk's content at first; makes the backing file if `options` names one."""
    if "backing_file" not in options:
        return bytearray(SIZE)
    data = rng.randbytes(SIZE // 2)
    (folder / "below").write_bytes(data)
    return bytearray(data + bytes(SIZE - len(data)))


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_ours_read_by_qemu(options: dict[str, object], tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(option_id(options))
    content = below(tmp_path, options, rng)
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", SIZE, **options) as image:
        assert image.pread(0, SIZE) == content
    qemu("qemu-img", "check", path.name)
    with Image.open(path, writable=True) as image:
        fill(image, content, rng)
    (tmp_path / "plain").write_bytes(content)
    qemu("qemu-img", "check", path.name)
    qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path.name, "plain")
    with Image.open(path) as image:
        assert image.check().exit_code == 0
        theirs = json.loads(qemu("qemu-img", "info", "--output", "json", path.name))
        ours = image.info().as_json()
        for name in ("virtual-size", "cluster-size", "dirty-flag", "backing-filename"):
            assert ours.get(name) == theirs.get(name), name
        specific = ours["format-specific"]["data"]
        assert {name: specific.get(name) for name in theirs["format-specific"]["data"]} == theirs[
            "format-specific"
        ]["data"]
    if options.get("data_file_raw"):
        assert (tmp_path / "data").read_bytes() == content
    # QEMU goes on with it, and we with what QEMU did.
    qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 100k 70k", "-c", "write -z 1M 200k", path.name)
    content[102_400 : 102_400 + 71_680] = b"\7" * 71_680
    content[MIB : MIB + 204_800] = bytes(204_800)
    with Image.open(path, writable=True) as image:
        assert image.pread(0, SIZE) == content
        fill(image, content, rng, 5)
        assert image.check().exit_code == 0
    (tmp_path / "plain").write_bytes(content)
    qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path.name, "plain")
    qemu("qemu-img", "check", path.name)


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_theirs_read_by_us(options: dict[str, object], tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(option_id(options))
    content = below(tmp_path, options, rng)
    listed = ",".join(f"{name}={value}" for name, value in options.items())
    qemu("qemu-img", "create", "-f", "qcow2", *(["-o", listed] if listed else []), "disk.qcow2", str(SIZE))
    commands = []
    for number in range(12):
        offset = rng.randrange(SIZE // 512) * 512
        length = min(rng.choice((512, 65536, 200_704)), SIZE - offset)
        zero = number % 4 == 3
        commands += ["-c", f"write {'-z' if zero else f'-P {number + 1}'} {offset} {length}"]
        content[offset : offset + length] = bytes(length) if zero else bytes([number + 1]) * length
    qemu("qemu-io", "-f", "qcow2", *commands, "disk.qcow2")
    with Image.open(tmp_path / "disk.qcow2", writable=True) as image:
        assert image.pread(0, SIZE) == content
        assert image.check().exit_code == 0
        for extent in image.extents():
            assert not extent.reads_zero or not any(content[extent.offset : extent.end])
        fill(image, content, rng, 8)
    (tmp_path / "plain").write_bytes(content)
    qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", "disk.qcow2", "plain")
    qemu("qemu-img", "check", "disk.qcow2")


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
def test_compressed_both_ways(kind: str, tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(kind)
    content = b"".join(rng.randbytes(40) * 4000 for _ in range(12))
    content += rng.randbytes(-len(content) % 512)
    (tmp_path / "plain").write_bytes(content)
    qemu(
        "qemu-img", "convert", "-c", "-O", "qcow2", "-o", f"compression_type={kind}", "plain", "theirs.qcow2"
    )
    with Image.open(tmp_path / "theirs.qcow2") as image:
        assert image.pread(0, len(content)) == content
    with Image.create(tmp_path / "ours.qcow2", "qcow2", len(content), compression_type=kind) as image:
        image.write_compressed(0, content)
        assert image.pread(0, len(content)) == content
    qemu("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "plain", "ours.qcow2")
    qemu("qemu-img", "check", "ours.qcow2")
    assert (tmp_path / "ours.qcow2").stat().st_size < len(content) // 2


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_snapshots_both_ways(compat: str, tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(compat)
    content = bytearray(SIZE)
    path = tmp_path / "disk.qcow2"
    state = rng.randbytes(300_000)
    with Image.create(path, "qcow2", SIZE, compat=compat) as image:
        fill(image, content, rng)
        image.snapshots.write_vm_state(0, state)
        image.snapshots.create("ours", vm_state_size=len(state), vm_clock_ns=12_345_678_901)
        ours = bytes(content)
        fill(image, content, rng)
        with pytest.raises(ImageExists):
            image.snapshots.create("ours")
    qemu("qemu-img", "check", path.name)
    listed = qemu("qemu-img", "snapshot", "-l", path.name)
    assert "ours" in listed and "293 KiB" in listed and "00:00:12.345" in listed
    qemu("qemu-img", "convert", "-l", "ours", "-O", "raw", path.name, "plain")
    assert (tmp_path / "plain").read_bytes() == ours
    qemu("qemu-img", "snapshot", "-c", "theirs", path.name)
    theirs = bytes(content)
    with Image.open(path, writable=True) as image:
        assert [item.name for item in image.snapshots.entries()] == ["ours", "theirs"]
        fill(image, content, rng)
        assert image.snapshots.open("theirs").pread(0, SIZE) == theirs
        image.snapshots.apply("theirs")
        assert image.pread(0, SIZE) == theirs
        image.snapshots.delete("theirs")
        assert image.snapshots.read_vm_state(0, len(state), snapshot="ours") == state
        with pytest.raises(ImageNotFound):
            image.snapshots.apply("theirs")
    qemu("qemu-img", "check", path.name)
    qemu("qemu-img", "snapshot", "-a", "ours", path.name)
    with Image.open(path) as image:
        assert image.pread(0, SIZE) == ours
    qemu("qemu-img", "snapshot", "-d", "ours", path.name)
    with Image.open(path) as image:
        assert image.snapshots.entries() == []
        assert image.check().exit_code == 0


def test_luks_both_ways(tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(1)
    content = bytearray(MIB)
    options = "driver=qcow2,file.filename={},encrypt.key-secret=key"
    path = tmp_path / "ours.qcow2"
    with Image.create(
        path, "qcow2", MIB, encrypt_format="luks", encrypt_iter_time=10, passphrase="passphrase"
    ) as image:
        fill(image, content, rng)
        assert image.pread(0, MIB) == content
    qemu(
        "qemu-img",
        "convert",
        "--object",
        SECRET,
        "--image-opts",
        options.format(path.name),
        "-O",
        "raw",
        "plain",
    )
    assert (tmp_path / "plain").read_bytes() == content
    assert content[:4096] == bytes(4096) or content[:4096] not in path.read_bytes()
    with Image.open(path) as image:
        assert image.info().encrypted and image.check().exit_code == 0
        with pytest.raises(ImageKeyError):
            image.pread(0, MIB)
    with pytest.raises(ImageKeyError):
        Image.open(path, passphrase="wrong")
    made = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    qemu("qemu-img", "create", "-f", "qcow2", "--object", SECRET, "-o", made, "theirs.qcow2", "1M")
    opened = ("--object", SECRET, "--image-opts", options.format("theirs.qcow2"))
    qemu("qemu-io", *opened, "-c", "write -P 9 1000 100000")
    with Image.open(tmp_path / "theirs.qcow2", passphrase="passphrase", writable=True) as image:
        assert image.pread(0, 102_000) == bytes(1000) + b"\t" * 100_000 + bytes(1000)
        image.pwrite(77, b"ours")
    assert "read 4/4" in qemu("qemu-io", *opened, "-c", "read -P 0x6f 77 1", "-c", "read 77 4")


def test_passphrases(tmp_path: Path, qemu: Callable[..., str]) -> None:
    """A second passphrase, and the first taken away."""
    path = tmp_path / "disk.qcow2"
    with Image.create(
        path,
        "qcow2",
        MIB,
        encrypt_format="luks",
        encrypt_iter_time=10,
        encrypt_cipher_alg="aes-128",
        encrypt_hash_alg="sha512",
        passphrase="first",
    ) as image:
        image.pwrite(0, b"hello")
    with Image.open(path, writable=True, passphrase="first") as image:
        image.amend(
            **{"encrypt.state": "active", "encrypt.new-secret": "passphrase", "encrypt.iter-time": 10}
        )
    with Image.open(path, writable=True, passphrase="passphrase") as image:
        image.amend(**{"encrypt.state": "inactive", "encrypt.old-secret": "first"})
        assert image.check().exit_code == 0
    with pytest.raises(ImageKeyError):
        Image.open(path, passphrase="first")
    opened = f"driver=qcow2,file.filename={path.name},encrypt.key-secret=key"
    read = qemu("qemu-io", "--object", SECRET, "--image-opts", opened, "-c", "read -P 0x68 0 1")
    assert "read 1/1" in read


def test_aes(tmp_path: Path) -> None:
    with Image.create(tmp_path / "a.qcow2", "qcow2", MIB, encrypt_format="aes", passphrase="short") as image:
        image.pwrite(1000, b"secret" * 1000)
    with Image.open(tmp_path / "a.qcow2", passphrase="short") as image:
        assert image.pread(1000, 6) == b"secret"
    assert b"secret" not in (tmp_path / "a.qcow2").read_bytes()


def test_bitmaps(tmp_path: Path, qemu: Callable[..., str]) -> None:
    path = tmp_path / "disk.qcow2"

    def flags() -> dict[str, list[str]]:
        info = json.loads(qemu("qemu-img", "info", "--output", "json", path.name))
        return {item["name"]: item["flags"] for item in info["format-specific"]["data"].get("bitmaps", [])}

    with Image.create(path, "qcow2", 8 * MIB) as image:
        bitmaps = node_of(image).bitmaps
        bitmaps.add("a")
        bitmaps.add("fine", granularity=512)
        bitmaps.add("frozen", enabled=False)
        image.pwrite(100_000, b"x" * 5)
        image.write_zeroes(5 * MIB, 70_000)
        assert bitmaps.dirty("a") == [(65536, 65536), (5 * MIB, 131_072)]
        assert bitmaps.dirty("frozen") == []
        with pytest.raises(ImageExists):
            bitmaps.add("a")
    assert flags() == {"a": ["auto"], "fine": ["auto"], "frozen": []}
    qemu("qemu-img", "check", path.name)
    qemu("qemu-io", "-f", "qcow2", "-c", "write 2M 64k", path.name)
    qemu("qemu-img", "bitmap", "--add", "--disable", path.name, "theirs")
    qemu("qemu-img", "bitmap", "--merge", "a", path.name, "theirs")
    with Image.open(path, writable=True) as image:
        bitmaps = node_of(image).bitmaps
        expected = [(65536, 65536), (2 * MIB, 65536), (5 * MIB, 131_072)]
        assert bitmaps.dirty("theirs") == expected
        assert bitmaps.dirty("fine") == [(99_840, 512), (2 * MIB, 65536), (5 * MIB, 70_144)]
        image.resize(9 * MIB)
        image.pwrite(9 * MIB - 1, b"x")
        bitmaps.clear("fine")
        bitmaps.remove("frozen")
        assert bitmaps.dirty("a") == [*expected, (9 * MIB - 65536, 65536)]
        (tmp_path / "crashed.qcow2").write_bytes(path.read_bytes())
    assert flags() == {"a": ["auto"], "fine": ["auto"], "theirs": []}
    qemu("qemu-img", "check", path.name)
    with Image.open(tmp_path / "crashed.qcow2") as image:
        assert {item.name: item.inconsistent for item in node_of(image).bitmaps.entries()} == {
            "a": True,
            "fine": True,
            "theirs": False,
        }


AMENDS: list[dict[str, object]] = [
    *({"refcount_bits": bits} for bits in (64, 8, 16)),
    {"lazy_refcounts": "on"},
    {"lazy_refcounts": "off"},
    {"compat": "0.10"},
    {"compat": "1.1"},
    {"checksums": "on"},
    {"refcount_bits": 32},
    {"size": "5M"},
    {"checksums": "off"},
]


@pytest.mark.parametrize("backing", [False, True])
def test_amend(backing: bool, tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(backing)
    options: dict[str, object] = {"backing_file": "below", "backing_fmt": "raw"} if backing else {}
    content = below(tmp_path, options, rng)
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", SIZE, **options) as image:
        fill(image, content, rng)
    for change in AMENDS:
        with Image.open(path, writable=True) as image:
            fill(image, content, rng, 2)
            image.amend(**change)
            content.extend(bytes(image.size - len(content)))
            if change != {"compat": "0.10"}:
                fill(image, content, rng, 2)
        (tmp_path / "plain").write_bytes(content)
        qemu("qemu-img", "check", path.name)
        qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path.name, "plain")
    with Image.open(path, writable=True) as image:
        with pytest.raises(ImageUnsupported):
            image.amend(cluster_size=4096)
        with pytest.raises(ImageOption):
            image.amend(nonsense=1)


def test_amend_with_snapshots(tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(0)
    content = bytearray(SIZE)
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", SIZE, compat="0.10") as image:
        image.pwrite(0, rng.randbytes(200_000))
        image.snapshots.create("one")
        image.amend(compat="1.1")
        image.snapshots.create("two")
        with pytest.raises(ImageUnsupported, match="references"):
            image.amend(refcount_bits=1)
        image.amend(refcount_bits=2)
        content[:] = image.pread(0, SIZE)
        image.amend(refcount_bits=16, compat="0.10")
    qemu("qemu-img", "check", path.name)
    (tmp_path / "plain").write_bytes(content)
    qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path.name, "plain")


def test_checksums(tmp_path: Path, qemu: Callable[..., str]) -> None:
    rng = random.Random(0)
    content = bytearray(SIZE)
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", SIZE, checksums=True) as image:
        fill(image, content, rng)
        image.pwrite(0, rng.randbytes(200_000))
        image.snapshots.create("kept")
        fill(image, content, rng)
        content[:] = image.pread(0, SIZE)
    qemu("qemu-img", "check", path.name)
    with Image.open(path) as image:
        assert image.pread(0, SIZE) == content and image.check().exit_code == 0
        place = next(extent for extent in image.extents() if extent.host_offset is not None)
    data = bytearray(path.read_bytes())
    assert place.host_offset is not None
    data[place.host_offset + 5] ^= 1
    path.write_bytes(data)
    with Image.open(path) as image:
        assert image.check().corruptions == 1
        with pytest.raises(ImageCorrupt, match="checksum"):
            image.pread(place.offset, 1)
    qemu("qemu-img", "check", path.name)
    # Whoever doesn't know them turns them off by writing.
    qemu("qemu-io", "-f", "qcow2", "-c", "write 0 2M", path.name)
    with Image.open(path) as image:
        assert "checksums" not in image.info().as_json()["format-specific"]["data"]
        image.pread(0, SIZE)
        assert image.check().exit_code == 0


@pytest.mark.parametrize("seed", range(12))
def test_repair(
    seed: int, tmp_path: Path, qemu: Callable[..., str], require_tool: Callable[..., str]
) -> None:
    """Bits flipped in tables: we find what qemu-img finds, and mend it so that it finds nothing."""
    judge = require_tool("qemu-img")
    rng = random.Random(seed)
    options = rng.choice(
        [{}, {"cluster_size": 512}, {"compat": "0.10"}, {"extended_l2": True}, {"refcount_bits": 8}]
    )
    path = tmp_path / "disk.qcow2"
    content = bytearray(SIZE)
    with Image.create(path, "qcow2", SIZE, **options) as image:
        fill(image, content, rng)
        image.snapshots.create("kept")
        fill(image, content, rng)
        image.flush()
        node = node_of(image)
        places = [
            (node.header.l1_table_offset, node.header.l1_size * 8),
            (node.header.refcount_table_offset, 8),
        ]
        places += [(entry, 128) for entry in node.refcounts.table if entry]
        places += [(entry & ((1 << 56) - 512), 512) for entry in node.tables.l1 if entry]
    data = bytearray(path.read_bytes())
    for _ in range(3):
        offset, length = rng.choice(places)
        data[offset + rng.randrange(length)] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    theirs = subprocess.run([judge, "check", path], capture_output=True, check=False).returncode
    with Image.open(path, writable=True, check=True) as image:
        ours = image.check()
        # Beyond the file's end qemu-img doesn't look for leaks, and it gives up where it can't read.
        assert ours.exit_code == theirs or (theirs == 0 and ours.exit_code == 3) or theirs == 1
        image.check("all")
        assert image.check().exit_code == 0
    qemu("qemu-img", "check", path.name)
    with Image.open(path, writable=True) as image:
        image.pread(0, SIZE)
        fill(image, content, rng, 5)
        assert image.check().exit_code == 0


def test_dirty_is_mended(tmp_path: Path, qemu: Callable[..., str]) -> None:
    """An image with lazy refcounts that QEMU left open gets its refcounts at the next opening; ours has
    them.
    """
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", SIZE, lazy_refcounts=True) as image:
        image.pwrite(100_000, b"x" * 400_000)
        image.flush()
        (tmp_path / "left.qcow2").write_bytes(path.read_bytes())
    with Image.open(tmp_path / "left.qcow2") as image:
        assert not image.info().dirty_flag and image.check().exit_code == 0
    qemu("qemu-img", "check", "left.qcow2")
    qemu("qemu-io", "-c", "write -P 5 1M 1M", "-c", "flush", "-c", "abort", path.name, codes=(-6,))
    with Image.open(path) as image:
        assert image.info().dirty_flag and image.check().exit_code == 2
    with Image.open(path, writable=True) as image:
        assert image.pread(100_000, 400_000) == b"x" * 400_000
        assert image.pread(MIB, MIB) == b"\5" * MIB
        image.pwrite(0, b"x")
    with Image.open(path) as image:
        assert not image.info().dirty_flag
    qemu("qemu-img", "check", path.name)


def test_guest_data_over_metadata(tmp_path: Path) -> None:
    """An entry that leads to a table makes the image corrupt, and doesn't let the table be written over."""
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", SIZE) as image:
        image.pwrite(0, b"x" * 65536)
        image.flush()
        node = node_of(image)
        l2, l1 = node.tables.l1[0] & ((1 << 56) - 512), node.header.l1_table_offset
    data = bytearray(path.read_bytes())
    data[l2 : l2 + 8] = (l1 | 1 << 63).to_bytes(8, "big")
    path.write_bytes(data)
    with Image.open(path, writable=True) as image, pytest.raises(ImageCorrupt, match="metadata"):
        image.pwrite(0, b"y" * 65536)
    with pytest.raises(ImageCorrupt, match="marked as corrupt"):
        Image.open(path, writable=True)
    with Image.open(path, writable=True, check=True) as image:
        image.check("all")
        assert image.check().exit_code == 0
    Image.open(path, writable=True).close()


def test_queues(tmp_path: Path, qemu: Callable[..., str]) -> None:
    """Threads that write, read and flush one image don't get in each other's way."""
    path = tmp_path / "disk.qcow2"
    share, count = 2 * MIB, 4
    contents = [bytearray(share) for _ in range(count)]
    errors: list[BaseException] = []
    with Image.create(path, "qcow2", share * count, cluster_size=4096) as image:

        def work(number: int) -> None:
            rng = random.Random(number)
            content = contents[number]
            try:
                for _ in range(120):
                    offset = rng.randrange(share)
                    length = min(rng.randrange(1, 30_000), share - offset)
                    place = number * share + offset
                    what = rng.randrange(6)
                    if what < 3:
                        content[offset : offset + length] = data = rng.randbytes(length)
                        image.pwrite(place, data)
                    elif what == 3:
                        content[offset : offset + length] = bytes(length)
                        image.write_zeroes(place, length)
                    elif what == 4:
                        image.flush()
                    else:
                        assert image.pread(place, length) == content[offset : offset + length]
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
    (tmp_path / "plain").write_bytes(b"".join(contents))
    qemu("qemu-img", "check", path.name)
    qemu("qemu-img", "compare", "-f", "qcow2", "-F", "raw", path.name, "plain")


def test_large(tmp_path: Path) -> None:
    """A 10 TiB disk with a byte at its end opens at once."""
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", "10T") as image:
        image.pwrite((10 << 40) - 1, b"x")
    with Image.open(path) as image:
        extents = [extent for extent in image.map() if not extent.reads_zero]
        assert len(extents) == 1 and extents[0].end == 10 << 40
        assert image.pread((10 << 40) - 2, 2) == b"\0x"


def test_other_readers(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    """7-Zip reads our disk, libqcow our header."""
    content = random.Random(0).randbytes(700_000)
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", MIB) as image:
        image.pwrite(0, content)
        image.write_compressed(720_896, b"packed" * 10922 + b"....")
        whole = image.pread(0, MIB)
    seven = require_tool("7z")
    subprocess.run([seven, "x", "-y", path], cwd=tmp_path, check=True, capture_output=True)
    extracted = [item for item in tmp_path.iterdir() if item != path]
    assert [item.read_bytes() for item in extracted] == [whole]
    shown = subprocess.run(
        [require_tool("qcowinfo"), path], capture_output=True, text=True, check=True
    ).stdout
    assert "1.0 MiB" in shown and "Format version" in shown


def test_header_extensions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    with Image.create(path, "qcow2", MIB) as image:
        node_of(image).header.set_extension(0x12345678, b"somebody's")
        node_of(image).header.tail = b"newer fields...."
        node_of(image).begin_write()
        node_of(image).write_header()
    with Image.open(path, writable=True) as image:
        node_of(image).bitmaps.add("a")
        image.amend(refcount_bits=8)
        node_of(image).set_backing("elsewhere", "raw")
    with Image.open(path, backing=False) as image:
        assert node_of(image).header.extension(0x12345678) == b"somebody's"
        assert node_of(image).header.tail == b"newer fields...."
        assert image.info().backing_filename == "elsewhere"


def test_long_backing_name(tmp_path: Path, qemu: Callable[..., str]) -> None:
    """A header of more than a sector, laid out by QEMU, stays readable when we write it."""
    (tmp_path / "below").write_bytes(b"x" * MIB)
    name = "./" * 450 + "below"
    qemu("qemu-img", "create", "-f", "qcow2", "-b", name, "-F", "raw", "disk.qcow2")
    with Image.open(tmp_path / "disk.qcow2", writable=True) as image:
        image.pwrite(0, b"y")
        image.snapshots.create("kept")
        image.resize(2 * MIB)
        node_of(image).bitmaps.add("a")
    with Image.open(tmp_path / "disk.qcow2") as image:
        assert image.info().backing_filename == name
        assert image.pread(0, 2) == b"yx"
    assert name in qemu("qemu-img", "info", "disk.qcow2")
    qemu("qemu-img", "check", "disk.qcow2")


def test_growing_over_a_longer_backing_file(tmp_path: Path) -> None:
    """What a disk gains is zeroes, not the part of the backing file that it didn't show."""
    (tmp_path / "below").write_bytes(b"x" * (2 * MIB))
    for compat in ("0.10", "1.1"):
        path = tmp_path / f"{compat}.qcow2"
        options = {"backing_file": "below", "backing_fmt": "raw", "compat": compat}
        with Image.create(path, "qcow2", MIB + 512, **options) as image:
            image.resize(4 * MIB)
            assert image.pread(0, 4 * MIB) == b"x" * (MIB + 512) + bytes(3 * MIB - 512)
        with Image.open(path) as image:
            assert image.pread(MIB, 1024) == b"x" * 512 + bytes(512)
