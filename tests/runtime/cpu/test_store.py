"""Compiled regions on disk: only what can be trusted is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.cpu.translator.store import MAGIC, Store, default_folder

KEY, OTHER = "ab" * 32, "cd" * 32
CODE = bytes(range(256)) * 3


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "regions")
    made.put(KEY, CODE)
    return made


def place(store: Store, key: str) -> Path:
    return store.folder / f"{key}.region"


def test_what_is_put_is_found(store: Store) -> None:
    assert store.get(KEY) == CODE
    assert store.get(OTHER) == b""
    assert (store.found, store.kept) == (1, 1)
    assert Store(store.folder).get(KEY) == CODE


@pytest.mark.parametrize("at", [0, len(MAGIC), len(MAGIC) + 31, len(MAGIC) + 32, -1])
def test_damage(store: Store, at: int) -> None:
    data = bytearray(place(store, KEY).read_bytes())
    data[at] ^= 1
    place(store, KEY).write_bytes(data)
    assert store.get(KEY) == b""


@pytest.mark.parametrize("size", [0, 5, len(MAGIC) + 32, 500])
def test_cut_short(store: Store, size: int) -> None:
    place(store, KEY).write_bytes(place(store, KEY).read_bytes()[:size])
    assert store.get(KEY) == b""


def test_another_regions_code(store: Store) -> None:
    place(store, OTHER).write_bytes(place(store, KEY).read_bytes())
    assert store.get(OTHER) == b""


def test_files_that_others_may_write(store: Store) -> None:
    place(store, KEY).chmod(0o666)
    assert store.get(KEY) == b""


def test_links_are_not_followed(store: Store) -> None:
    place(store, KEY).rename(store.folder / "elsewhere")
    place(store, KEY).symlink_to(store.folder / "elsewhere")
    assert store.get(KEY) == b""


def test_a_folder_that_others_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    store = Store(folder)
    store.put(KEY, CODE)
    assert store.get(KEY) == b""
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "regions")
    store.put(KEY, CODE)
    assert store.get(KEY) == b""


def test_it_stays_bounded(tmp_path: Path) -> None:
    store = Store(tmp_path / "regions", limit=100_000)
    for number in range(100):
        store.put(f"{number:064x}", bytes(5000))
        os.utime(place(store, f"{number:064x}"), (number, number))
    store.prune()
    left = sorted(file.name for file in store.folder.iterdir())
    assert sum(file.stat().st_size for file in store.folder.iterdir()) <= 100_000
    assert left[-1].startswith(f"{99:064x}")
    assert not any(name.startswith(f"{0:064x}") for name in left)


def test_where_it_is(tmp_path: Path) -> None:
    assert default_folder({"ISAGEN_CODE_CACHE": "off", "HOME": "/h"}) is None
    assert default_folder({"ISAGEN_CODE_CACHE": "/x"}) == Path("/x")
    assert default_folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/isagen/regions")
    assert default_folder({"XDG_CACHE_HOME": "relative", "HOME": "/h"}) == Path("/h/.cache/isagen/regions")
    assert default_folder({}) is None
