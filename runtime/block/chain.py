"""Opens images with the files that they name: policy, depth, loops, formats."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageChainError, ImageError
from runtime.block.node import FormatNode, Node, ProtocolNode
from runtime.block.policy import ReferencePolicy
from runtime.block.protocol.file import FileNode
from runtime.block.registry import find_format, probe
from runtime.records import field, record

MAX_DEPTH = 64


@record
class Chain:
    """The images below one that is being opened. `driver.References` for its drivers."""

    path: Path | None
    policy: ReferencePolicy = field(default_factory=ReferencePolicy)
    passphrase: Callable[[], bytes] | None = None
    lock: bool = True
    depth: int = 0
    seen: frozenset[tuple[int, int]] = frozenset()
    created: list[Path] = field(default_factory=list)
    overwrite: bool = False

    def open_file(self, reference: str, kind: str, *, writable: bool) -> ProtocolNode:
        path = self.policy.resolve(reference, self.path, kind)
        return self._claim(FileNode(path, writable=writable, lock=self.lock), kind)

    def open_image(self, reference: str, kind: str, *, format: str | None) -> Node:
        path = self.policy.resolve(reference, self.path, kind)
        if self.depth + 1 >= MAX_DEPTH:
            raise ImageChainError(
                f"the backing chain is deeper than {MAX_DEPTH} images",
                where=str(path),
                remedy="shorten it with `isagen image commit` or `convert`",
            )
        file = self._claim(FileNode(path, lock=self.lock), kind)
        try:
            row = find_format(format) if format else probe(file)
            policy = self.policy
            if not format and policy.neighbours:
                # A guest may have written this "format" into its raw disk: it names nothing unless allowed.
                policy = ReferencePolicy(policy.allowed, policy.anything, neighbours=False)
            below = Chain(path, policy, self.passphrase, self.lock, self.depth + 1, self._with(file))
            context = OpenContext(below, path, passphrase=self.passphrase, probed=not format)
            return row.driver.open(file, context)
        except BaseException:
            file.close()
            raise

    def create_file(self, reference: str, *, writable: bool = True) -> ProtocolNode:
        base = Path() if self.path is None else self.path.parent
        node = FileNode(base / reference, writable=writable, create=True, overwrite=self.overwrite)
        self.created.append(node.path)
        return node

    def _with(self, file: ProtocolNode) -> frozenset[tuple[int, int]]:
        return self.seen | {file.identity} if isinstance(file, FileNode) else self.seen

    def _claim(self, file: FileNode, kind: str) -> FileNode:
        if file.identity in self.seen:
            file.close()
            raise ImageChainError(f"the {kind} is the image itself, or one above it", where=file.name)
        return file


def open_format(
    file: ProtocolNode,
    format: str | None = None,
    *,
    writable: bool = False,
    policy: ReferencePolicy | None = None,
    backing: bool = True,
    passphrase: Callable[[], bytes] | None = None,
    check: bool = False,
    lock: bool = True,
    path: Path | None = None,
    options: dict[str, object] | None = None,
) -> FormatNode:
    """The disk in `file`, with the images below it, but without snapshots beside it
    (`runtime.block.snapshots.attach`). Takes the file: it's closed when this raises.

    Raises what `Image.open` raises.
    """
    try:
        row = find_format(format) if format else probe(file)
        if path is None and isinstance(file, FileNode):
            path = file.path
        seen = frozenset({file.identity}) if isinstance(file, FileNode) else frozenset()
        chain = Chain(path, policy or ReferencePolicy(), passphrase, lock, 0, seen)
        context = OpenContext(
            chain,
            path,
            writable=writable,
            backing=backing,
            passphrase=passphrase,
            check=check,
            probed=not format,
            options=options or {},
        )
        return row.driver.open(file, context)
    except BaseException:
        with contextlib.suppress(ImageError):
            file.close()
        raise
