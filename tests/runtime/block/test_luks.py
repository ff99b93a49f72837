"""LUKS1: headers, key slots and sector ciphers, against cryptsetup and qemu-img."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from runtime.block.crypto import luks
from runtime.block.crypto.sectors import SECTOR, SectorCipher
from runtime.block.errors import ImageCorrupt, ImageError, ImageKeyError
from runtime.block.image import Image
from runtime.errors import IsagenError

QUICK = {"iter_time": 10}


@pytest.mark.parametrize("count", [1, 3, 40])
def test_xts_is_that_of_the_standard_library_of_ciphers(count: int) -> None:
    key, data = os.urandom(64), os.urandom(count * SECTOR)
    first = (1 << 40) + 5
    expected = b"".join(
        Cipher(algorithms.AES(key), modes.XTS((first + n).to_bytes(16, "little")))
        .encryptor()
        .update(data[n * SECTOR : (n + 1) * SECTOR])
        for n in range(count)
    )
    cipher = SectorCipher("aes", "xts-plain64", key)
    assert cipher.encrypt(first, data) == expected
    assert cipher.decrypt(first, expected) == data


@pytest.mark.parametrize("mode, size", [("cbc-plain", 16), ("cbc-plain64", 32), ("cbc-essiv:sha256", 24)])
def test_cbc_chains_within_a_sector(mode: str, size: int) -> None:
    key, data = os.urandom(size), os.urandom(7 * SECTOR)
    cipher = SectorCipher("aes", mode, key)
    secret = cipher.encrypt(3, data)
    assert cipher.decrypt(3, secret) == data
    assert cipher.decrypt(5, secret[2 * SECTOR :]) == data[2 * SECTOR :]
    if mode == "cbc-plain64":
        vector = (4).to_bytes(16, "little")
        peer = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
        assert secret[SECTOR : 2 * SECTOR] == peer.update(data[SECTOR : 2 * SECTOR])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cipher_alg": "aes-128", "hash_alg": "sha512"},
        {"cipher_mode": "cbc", "ivgen_alg": "essiv", "hash_alg": "sha1"},
        {"cipher_mode": "cbc", "ivgen_alg": "plain"},
    ],
)
def test_cryptsetup_and_qemu_open_what_we_create(
    options: dict[str, str], tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    path, key = tmp_path / "disk.luks", tmp_path / "key"
    key.write_text("pass phrase")
    content = random.Random(1).randbytes(300_000)
    with Image.create(path, "luks", 1 << 20, passphrase="pass phrase", **QUICK, **options) as image:
        image.pwrite(1000, content)
    cryptsetup = require_tool("cryptsetup")
    dump = subprocess.run([cryptsetup, "luksDump", path], capture_output=True, text=True, check=True).stdout
    assert "Key Slot 0: ENABLED" in dump
    subprocess.run([cryptsetup, "open", "--test-passphrase", "--key-file", key, path], check=True)
    subprocess.run(
        [
            *(require_tool("qemu-img"), "convert", "-O", "raw", "--object", f"secret,id=s,file={key}"),
            *("--image-opts", f"driver=luks,key-secret=s,file.filename={path}", tmp_path / "raw"),
        ],
        check=True,
    )
    with Image.open(path, passphrase=b"pass phrase") as image, (tmp_path / "raw").open("rb") as raw:
        assert image.pread(1000, len(content)) == content
        assert raw.read() == image.pread(0, image.size)


def test_we_open_what_qemu_creates(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    path = tmp_path / "disk.luks"
    qemu = require_tool("qemu-img")
    secret = ("--object", "secret,id=s,data=geheim")
    words = [qemu, "create", "-q", *secret, "-f", "luks", "-o", "key-secret=s,iter-time=10", path, "1M"]
    for _ in range(60):  # qemu gives up where it can't time its key derivation: on a busy machine
        done = subprocess.run(words, capture_output=True, text=True)
        if "accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    source = tmp_path / "source"
    source.write_bytes(random.Random(2).randbytes(1 << 20))
    target = f"driver=luks,key-secret=s,file.filename={path}"
    subprocess.run(
        [qemu, "convert", "-n", *secret, "--target-image-opts", "-f", "raw", source, target], check=True
    )
    with Image.open(path, passphrase="geheim") as image:
        assert image.format == "luks"
        assert image.pread(0, image.size) == source.read_bytes()


def test_wrong_and_missing_passphrases_are_told_apart_from_damage(tmp_path: Path) -> None:
    path = tmp_path / "disk.luks"
    Image.create(path, "luks", 1 << 16, passphrase="right", **QUICK).close()
    with pytest.raises(ImageKeyError):
        Image.open(path, passphrase="wrong")
    with Image.open(path) as image:
        assert image.info().encrypted
        with pytest.raises(ImageKeyError):
            image.pread(0, 1)
    with pytest.raises(ImageKeyError):
        Image.create(tmp_path / "other", "luks", 1 << 16)
    assert not (tmp_path / "other").exists()


def test_keys_are_added_and_removed_but_never_the_last(
    tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    path = tmp_path / "disk.luks"
    with Image.create(path, "luks", 1 << 16, passphrase="one", **QUICK) as image:
        image.pwrite(0, b"content")
        image.amend(state="active", new_secret="two", iter_time=10)
        image.amend(state="inactive", old_secret="one")
        with pytest.raises(IsagenError, match="last key"):
            image.amend(state="inactive", keyslot=1)
    with pytest.raises(ImageKeyError):
        Image.open(path, passphrase="one")
    with Image.open(path, passphrase="two") as image:
        assert image.pread(0, 7) == b"content"
        assert image.check().exit_code == 0
    (tmp_path / "two").write_text("two")
    subprocess.run(
        [require_tool("cryptsetup"), "open", "--test-passphrase", "--key-file", tmp_path / "two", path],
        check=True,
    )


def test_random_writes_and_resizes_read_back(tmp_path: Path) -> None:
    generator = random.Random(3)
    size = 100_352
    model = bytearray(size)
    with Image.create(tmp_path / "d", "luks", size - 100, passphrase="p", **QUICK) as image:
        assert image.size == size  # whole sectors
        image.write_zeroes(0, size)
        for _ in range(60):
            offset = generator.randrange(size)
            data = generator.randbytes(min(generator.choice((1, 100, 512, 5000)), size - offset))
            image.pwrite(offset, data)
            model[offset : offset + len(data)] = data
        image.resize(size + 10_000)
        model += bytes(10_240)
        assert image.pread(0, image.size) == model
    with Image.open(tmp_path / "d", passphrase="p") as image:
        assert image.pread(0, image.size) == model


def test_every_field_of_a_header_may_be_wild(tmp_path: Path) -> None:
    """No field value does more than raise an error of ours, quickly."""
    region, _ = luks.create(b"p", key_size=32, iteration_time=0.001)
    fields = [
        6,
        8,
        40,
        72,
        104,
        108,
        164,
        *(208 + 48 * slot + at for slot in (0, 7) for at in (0, 4, 40, 44)),
    ]
    for place in fields:
        for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            damaged = bytearray(region[: luks.HEADER_SIZE])
            damaged[place : place + 4] = value.to_bytes(4, "big")
            path = tmp_path / "d"
            path.write_bytes(bytes(damaged) + region[luks.HEADER_SIZE :] + bytes(4096))
            try:
                Image.open(path, "luks").close()
            except (ImageError, IsagenError):
                continue


def test_luks2_is_an_honest_not_yet() -> None:
    region, _ = luks.create(b"p", key_size=32, iteration_time=0.001)
    with pytest.raises(IsagenError, match="version 2"):
        luks.parse(region[:6] + b"\0\2" + region[8:])
    with pytest.raises(ImageCorrupt, match="version"):
        luks.parse(region[:6] + b"\0\3" + region[8:])
