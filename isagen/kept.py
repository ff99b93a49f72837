"""Compiled objects kept between builds, by what they were compiled from: a build compiles only what changed.

An object's key is the hash of its source, of the compiler's code and of the versions of all that compiles, so
that none is ever stale. They lie in ``.shared`` beside the built targets; those used longest ago go when
there are too many.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from isagen import paths
from isagen.fingerprint import compiler_digest

LIMIT: Final = 256 << 20
"""Bytes that kept objects may take."""
_HEAD: Final = struct.Struct("<32sQ")
"""SHA-256 of what follows it; bytes of the templates' JSON, behind which the code lies."""


class Kept(NamedTuple):
    """An object file's code, and the translator's templates that were made with it."""

    code: bytes
    templates: Mapping[str, Mapping[str, Any]]


@cache
def _compiler() -> bytes:
    return compiler_digest().encode()


def key_of(kind: str, source: str) -> str:
    """The key of what is compiled from `source`."""
    return hashlib.sha256(b"\0".join((_compiler(), kind.encode(), source.encode()))).hexdigest()


def folder() -> Path:
    return paths.generated_root() / ".shared"


def find(key: str) -> Kept | None:
    """What is kept under the key; None where nothing is, or what is there was damaged."""
    place = folder() / key
    try:
        data = place.read_bytes()
        os.utime(place)
    except OSError:
        return None
    if len(data) < _HEAD.size:
        return None
    digest, length = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if hashlib.sha256(data[32:]).digest() != digest or length > len(body):
        return None
    return Kept(body[length:], json.loads(body[:length]))


def keep(key: str, kept: Kept) -> None:
    """Keep an object under its key."""
    line = json.dumps(kept.templates, separators=(",", ":"), sort_keys=True).encode()
    rest = struct.pack("<Q", len(line)) + line + kept.code
    place = folder() / key
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{key}.{os.getpid()}")
    temporary.write_bytes(hashlib.sha256(rest).digest() + rest)
    temporary.rename(place)


def prune(limit: int = LIMIT) -> None:
    """Remove objects, those used longest ago first, until all take at most `limit` bytes."""
    files = [(file, file.stat()) for file in folder().glob("*") if file.is_file()]
    total = sum(status.st_size for _, status in files)
    for file, status in sorted(files, key=lambda pair: pair[1].st_mtime):
        if total <= limit:
            return
        file.unlink(missing_ok=True)
        total -= status.st_size
