"""An appliance's manifest: the digest of each of its files (DMTF DSP0243, section 5.1)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from machines.appliance.archive import Files
from machines.appliance.errors import ApplianceError, ManifestMismatch
from runtime.block.node import Node

MAXIMUM_SIZE = 1 << 20

_LINE = re.compile(r"^(SHA1|SHA256|SHA512)\s*\((.+)\)\s*=\s*([0-9a-fA-F]+)$")
_PIECE = 1 << 20


def parse(data: bytes, where: str) -> dict[str, tuple[str, str]]:
    """File name -> (hash, digest in lower-case hexadecimal). Raises `ApplianceError`."""
    result = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.match(line.strip())
        if match is None:
            raise ApplianceError(
                f"line {number} of the manifest isn't understood: {line[:100]!r}", where=where
            )
        result[match[2].strip()] = (match[1].lower(), match[3].lower())
    return result


def digest(node: Node, hash_name: str) -> str:
    """The digest of all of the node's bytes."""
    state = hashlib.new(hash_name)
    for at in range(0, node.length(), _PIECE):
        state.update(node.pread(at, min(_PIECE, node.length() - at)))
    return state.hexdigest()


def verify(files: Files, wanted: Iterable[str]) -> bool:
    """Check the files that the manifest names, and that it names all `wanted` ones.

    False if there is no manifest. Raises `ManifestMismatch`.
    """
    manifest_name = files.descriptor.rpartition(".")[0] + ".mf"
    if manifest_name not in files.names():
        return False
    entries = parse(files.read(manifest_name, MAXIMUM_SIZE), files.where)
    for name in [files.descriptor, *wanted]:
        if name not in entries:
            raise ManifestMismatch(f"the manifest doesn't name {name!r}", where=files.where)

    def check(name: str) -> tuple[str, bool]:
        hash_name, expected = entries[name]
        with files.open(name) as node:
            return name, digest(node, hash_name) == expected

    # Hashing and reading release the interpreter's lock.
    with ThreadPoolExecutor(2) as pool:
        for name, same in pool.map(check, entries):
            if not same:
                raise ManifestMismatch(
                    f"{name!r} isn't what the manifest says",
                    where=files.where,
                    remedy="get the appliance again; --no-manifest imports it anyway",
                )
    return True
