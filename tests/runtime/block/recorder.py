"""Image files in memory that remember every operation, that fail on command, and that crash.

`Files` stands in for the folder of an image: drivers open and create files in it. With it, tests

* replay what a host would have on disk after a crash at any moment (`Files.crashes`): everything up to the
last flush of a file, and any part, in any order, sector by sector, of what came after it; * let the n-th
operation fail (`Files.fail_at`): EIO, ENOSPC, or a write that is cut short.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageChainError, ImageExists, ImageIOError, ImageNotFound
from runtime.block.node import Buffer, Extent, FormatNode, Node, Preallocation, ProtocolNode
from runtime.block.protocol.memory import MemoryNode
from runtime.block.registry import find_format, probe

SECTOR = 512
Kind = Literal["eio", "enospc", "short"]


@dataclass(frozen=True)
class Operation:
    """One thing that happened to a file, or (`kind` "mark") to the guest."""

    kind: Literal["write", "zero", "punch", "resize", "flush", "create", "mark"]
    file: str = ""
    offset: int = 0
    length: int = 0
    data: bytes = b""
    mark: object = None


class RecordingNode(ProtocolNode):
    """A file of `files`. Closing it changes nothing: the content stays."""

    def __init__(self, files: Files, name: str, *, writable: bool) -> None:
        self.files = files
        self.name = name
        self.read_only = not writable
        self.content = files.contents[name]

    def length(self) -> int:
        return self.content.length()

    def allocated(self) -> int:
        return self.content.allocated()

    def pread(self, offset: int, length: int) -> bytes:
        self.files.step(self, "read")
        return self.content.pread(offset, length)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return self.content.extents(offset, length)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        raw = bytes(data)
        fault = self.files.step(self, "write")
        if fault == "short":
            raw = raw[: len(raw) // 2]
        self.content.pwrite(offset, raw)
        self.files.log.append(Operation("write", self.name, offset, len(raw), raw))
        if fault == "short":
            raise ImageIOError("can't write", errno=errno.EIO, where=self.name)

    def _whole_step(self) -> None:
        """A step that can't be done by halves."""
        if self.files.step(self, "write"):
            raise ImageIOError("can't write", errno=errno.EIO, where=self.name)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self._whole_step()
        self.content.write_zeroes(offset, length)
        self.files.log.append(Operation("zero", self.name, offset, length))

    def punch(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self._whole_step()
        self.content.punch(offset, length)
        self.files.log.append(Operation("punch", self.name, offset, length))

    def discard(self, offset: int, length: int) -> None:
        self.punch(offset, length)

    def flush(self) -> None:
        self.files.step(self, "flush")
        self.files.log.append(Operation("flush", self.name))

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self._whole_step()
        self.content.resize(length)
        self.files.log.append(Operation("resize", self.name, length=length))

    def close(self) -> None:
        pass


@dataclass
class Files:
    """A folder in memory. `log` holds what happened since `forget`."""

    contents: dict[str, MemoryNode] = field(default_factory=dict)
    log: list[Operation] = field(default_factory=list)
    fail_at: int = -1  # the number of the operation that fails; -1 for none
    fail_kind: Kind = "eio"
    fail_on: tuple[str, ...] = ("write", "flush")
    steps: int = 0
    fired: bool = False
    start: dict[str, bytes] = field(default_factory=dict)

    def step(self, node: ProtocolNode, what: str) -> Kind | None:
        """Count an operation; raise, or ask for a short write, if it is the one to fail."""
        if what not in self.fail_on:
            return None
        self.steps += 1
        if self.steps - 1 != self.fail_at:
            return None
        self.fired = True
        if self.fail_kind == "short" and what == "write":
            return "short"
        number = errno.ENOSPC if self.fail_kind == "enospc" and what == "write" else errno.EIO
        raise ImageIOError("made to fail", errno=number, where=node.name)

    def node(self, name: str, *, writable: bool = True) -> RecordingNode:
        return RecordingNode(self, name, writable=writable)

    def forget(self) -> None:
        """Everything so far is on disk; record from here."""
        self.log.clear()
        self.start = self.images()

    def images(self) -> dict[str, bytes]:
        return {name: node.pread(0, node.length()) for name, node in self.contents.items()}

    def mark(self, mark: object) -> None:
        self.log.append(Operation("mark", mark=mark))

    # --- driver.References ---

    def open_file(self, reference: str, kind: str, *, writable: bool) -> ProtocolNode:
        if reference not in self.contents:
            raise ImageNotFound(f"the {kind} doesn't exist", where=reference)
        return self.node(reference, writable=writable)

    def open_image(self, reference: str, kind: str, *, format: str | None) -> Node:
        if reference not in self.contents:
            raise ImageNotFound(f"the {kind} doesn't exist", where=reference)
        if reference == "disk":
            raise ImageChainError(f"the {kind} is the image itself", where=reference)
        return self.open(reference, format, writable=False)

    def create_file(self, reference: str, *, writable: bool = True) -> ProtocolNode:
        if reference in self.contents:
            raise ImageExists("the file exists already", where=reference)
        self.contents[reference] = MemoryNode(name=reference)
        self.log.append(Operation("create", reference))
        return self.node(reference, writable=writable)

    # --- images ---

    def context(self, name: str, *, writable: bool, check: bool = False) -> OpenContext:
        return OpenContext(self, Path(name), writable=writable, check=check)

    def open(
        self, name: str, format: str | None = None, *, writable: bool = True, check: bool = False
    ) -> FormatNode:
        node = self.node(name, writable=writable)
        row = find_format(format) if format else probe(node)
        return row.driver.open(node, self.context(name, writable=writable, check=check))

    def create(self, name: str, format: str, size: int, **options: object) -> None:
        from runtime.block.creation import checked_options

        driver = find_format(format).driver
        node = self.create_file(name)
        driver.create(node, size, checked_options(driver, dict(options)), self.context(name, writable=True))

    @classmethod
    def of(cls, images: dict[str, bytes]) -> Files:
        files = cls({name: MemoryNode(data, name=name) for name, data in images.items()})
        files.start = dict(images)
        return files

    # --- crashes ---

    def crashes(self, rng: random.Random, count: int, subsets: int) -> Iterator[tuple[int, dict[str, bytes]]]:
        """(how many operations had begun, the files after the crash), at `count` moments spread over the log.

        The first state of a moment has all operations, the `subsets` others lose some that weren't flushed.
        """
        total = len(self.log)
        moments = sorted(rng.sample(range(total + 1), min(count, total + 1)))
        durable = {name: bytearray(data) for name, data in self.start.items()}
        pending: dict[str, list[Operation]] = {}
        at = 0
        for moment in moments:
            for operation in self.log[at:moment]:
                if operation.kind == "flush":
                    for old in pending.pop(operation.file, []):
                        apply(durable, old)
                elif operation.kind == "create":
                    durable[operation.file] = bytearray()
                elif operation.kind != "mark":
                    pending.setdefault(operation.file, []).append(operation)
            at = moment
            for number in range(subsets + 1):
                state = {name: bytearray(data) for name, data in durable.items()}
                for operations in pending.values():
                    for operation in operations:
                        for piece in pieces(operation) if number else (operation,):
                            if not number or rng.random() < 0.5:
                                apply(state, piece)
                yield moment, {name: bytes(data) for name, data in state.items()}


def pieces(operation: Operation) -> Iterator[Operation]:
    """The parts of an operation that a disk may do one without the other."""
    if operation.kind != "write":
        yield operation
        return
    at = 0
    while at < operation.length:
        part = min(SECTOR - (operation.offset + at) % SECTOR, operation.length - at)
        yield Operation("write", operation.file, operation.offset + at, part, operation.data[at : at + part])
        at += part


def apply(state: dict[str, bytearray], operation: Operation) -> None:
    """Do one operation to the files."""
    data = state[operation.file]
    end = operation.offset + operation.length
    if operation.kind == "resize":
        if operation.length < len(data):
            del data[operation.length :]
        else:
            data.extend(bytes(operation.length - len(data)))
        return
    if operation.kind == "punch":
        end = min(end, len(data))
    if end > len(data):
        data.extend(bytes(end - len(data)))
    if end > operation.offset:
        body = operation.data if operation.kind == "write" else bytes(end - operation.offset)
        data[operation.offset : end] = body
