"""The filter over an image that keeps its snapshots whole: see `runtime.block.snapshots`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.block.errors import ImageCorrupt, ImageError, ImageExists, ImageNotFound, ImageUnsupported
from runtime.block.node import (
    Buffer,
    Compression,
    Extent,
    FormatNode,
    Node,
    Preallocation,
    Repair,
    Snapshots,
)
from runtime.block.protocol.file import FileNode
from runtime.block.report import CheckReport, ImageInfo, SnapshotInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.block.snapshots.manifest import Entry, Manifest
    from runtime.block.snapshots.stores import Stores

REGION = 256 << 10  # bytes that are kept together when one of them is written
SUFFIX = ".snapshots"
#: Requests that never change the disk. They go to the image without a detour.
_READS = ("length", "pread", "read_into", "pread_many", "extents")
#: Requests that change it. They go to the image without a detour as long as there are no snapshots.
_WRITES = ("pwrite", "pwrite_many", "pwrite_range", "write_zeroes", "discard")


class SnapshotNode(FormatNode):
    """`inner` with snapshots beside it in `folder`. Costs nothing until there is one."""

    def __init__(self, inner: FormatNode, image: Path, *, whole: bool, check: bool) -> None:
        self.inner = inner
        self.file = inner.file
        self.format = inner.format
        self.name = inner.name
        self.read_only = inner.read_only
        self.starts_zeroed = inner.starts_zeroed
        self.notes_content_below = inner.notes_content_below
        self.image = image
        self.folder = image.with_name(image.name + SUFFIX)
        self.lock = threading.RLock()
        self._whole = whole
        self._checking = check
        self._manifest: Manifest | None = None
        self._stores: Stores | None = None
        self._kept: NDArray[np.bool_] | None = None  # regions that the newest store holds
        self._limit = 0  # what lies behind this isn't in the newest snapshot
        self._pending_state: FileNode | None = None
        self._marked = False  # the manifest says that we write
        self._closed = False
        self._active = False  # there are snapshots
        for name in (*_READS, *_WRITES):
            setattr(self, name, getattr(inner, name))
        if (self.folder / "snapshots.json").exists():
            self._open_snapshots()

    def __getattr__(self, name: str) -> Any:
        """What the image's own node can do besides."""
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    # The snapshots

    @property
    def manifest(self) -> Manifest:
        """What the folder says; an empty manifest without it."""
        if self._manifest is None:
            from runtime.block.snapshots import manifest

            self._manifest = manifest.load(self.folder) or manifest.Manifest()
        return self._manifest

    @property
    def stores(self) -> Stores:
        """The open stores."""
        if self._stores is None:
            from runtime.block.snapshots.stores import Stores

            self._stores = Stores(self.folder, self.inner, self.image)
            try:
                self._stores.open(self.manifest.snapshots)
            except BaseException:
                self._stores = None
                raise
        return self._stores

    def _open_snapshots(self) -> None:
        """There are snapshots: see whether the image is what they belong to, and go on with what was begun.
        """
        manifest = self.manifest
        if not manifest.snapshots:
            return
        self.activate()
        if manifest.stamp is not None and manifest.stamp != self._stamp():
            manifest.foreign = True
        if manifest.applying is not None and not manifest.foreign and not self._checking:
            if self.read_only:
                self._read_from(self.view(str(manifest.applying)))
            else:
                self.finish_apply()

    def activate(self) -> None:
        """From now on writes make their detour."""
        if not self._active:
            self._active = True
            for name in _WRITES:
                delattr(self, name)

    def _read_from(self, view: Node) -> None:
        for name in _READS:
            setattr(self, name, getattr(view, name))

    def _stamp(self) -> list[tuple[int, int]]:
        """(size, time of change) of the image's files."""
        paths = [node.path for node in self.inner.files() if isinstance(node, FileNode)]
        states = [path.stat() for path in paths if path.exists()]
        return [(state.st_size, state.st_mtime_ns) for state in states]

    def save(self) -> None:
        """Write the manifest."""
        from runtime.block.snapshots import manifest

        self.folder.mkdir(exist_ok=True)
        manifest.save(self.folder, self.manifest)

    def reload(self) -> None:
        """The set of snapshots has changed: forget what was derived from it."""
        if self._stores is not None:
            self._stores.close()
        self._stores = None
        self._kept = None

    def entry(self, snapshot: str) -> Entry:
        """The snapshot of that id or name. Raises ImageNotFound."""
        for entry in self.manifest.snapshots:
            if str(entry.id) == snapshot:
                return entry
        for entry in self.manifest.snapshots:
            if entry.name == snapshot:
                return entry
        raise ImageNotFound(f"there is no snapshot {snapshot!r}", where=self.name)

    def trusted_or_raise(self) -> None:
        """ImageCorrupt if another program may have spoilt the snapshots."""
        if self.manifest.foreign:
            raise ImageCorrupt(
                "another program has written to the image since its snapshots were made, or it was copied",
                offset=None,
                field="stamp",
                where=self.name,
                remedy="if it was only copied, `isagen image check --repair all` accepts it",
            )

    def view(self, snapshot: str) -> SnapshotView:
        """The disk as it was."""
        self.trusted_or_raise()
        return SnapshotView(self, self.stores.node(self.entry(snapshot)))

    # Keeping what writes would destroy

    def _keep(self, offset: int, length: int) -> None:
        """Called before anything in the range changes."""
        if not self._active or not self.manifest.snapshots or length <= 0:
            return
        if not self._whole and self.inner.info().backing_filename is not None:
            raise ImageUnsupported(
                "the image has snapshots and can't be written without its backing file", where=self.name
            )
        with self.lock:
            if not self._marked:
                self.mark_writing()
            kept = self._regions()
            end = min(offset + length, self._limit)
            first, stop = offset // REGION, -(-end // REGION)
            if first >= stop or kept[first:stop].all():
                return
            import numpy as np

            from runtime.block.snapshots.stores import copy, missing

            store = self.stores.newest
            for region in (first + np.flatnonzero(~kept[first:stop])).tolist():
                start = region * REGION
                for gap in missing(store, start, min(REGION, self._limit - start)):
                    there = min(gap.end, self.inner.length())
                    if gap.offset < there:
                        copy(self.inner, store, gap.offset, there - gap.offset)
                    if gap.end > max(there, gap.offset):
                        begin = max(there, gap.offset)
                        store.write_zeroes(begin, gap.end - begin)
            store.flush()
            kept[first:stop] = True

    def _regions(self) -> NDArray[np.bool_]:
        if self._kept is None:
            import numpy as np

            from runtime.block.snapshots.stores import held

            store = self.stores.newest
            self._limit = store.length()
            count = -(-self._limit // REGION)
            bytes_kept = np.zeros(count, np.int64)
            for extent in held(store):
                first, last = extent.offset // REGION, (extent.end - 1) // REGION
                bytes_kept[first + 1 : last] = REGION
                for region in {first, last}:
                    low, high = max(extent.offset, region * REGION), min(extent.end, (region + 1) * REGION)
                    bytes_kept[region] += high - low
            whole = np.full(count, REGION, np.int64)
            if count:
                whole[-1] = self._limit - (count - 1) * REGION
            self._kept = bytes_kept >= whole
        return self._kept

    def mark_writing(self) -> None:
        """The manifest no longer says what the image's files are: they're about to change."""
        self._marked = True
        if self.manifest.snapshots and self.manifest.stamp is not None:
            self.manifest.stamp = None
            self.save()

    # Requests

    def length(self) -> int:
        return self.inner.length()

    def pread(self, offset: int, length: int) -> bytes:
        return self.inner.pread(offset, length)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        self._keep(offset, memoryview(data).nbytes)
        self.inner.pwrite(offset, data)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self._keep(offset, length)
        self.inner.write_zeroes(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self._keep(offset, length)
        self.inner.discard(offset, length)

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        self._keep(length, self.inner.length() - length)
        self.inner.resize(length, shrink=shrink, preallocation=preallocation)

    def flush(self) -> None:
        self.inner.flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._pending_state is not None:
                self._pending_state.close()
                self._pending_state.path.unlink(missing_ok=True)
            if self._stores is not None:
                self._stores.close()
        finally:
            self.inner.close()
        if self._active and self._marked and self.manifest.snapshots and self.manifest.stamp is None:
            self.manifest.stamp = self._stamp()
            self.save()

    # Everything else

    @property
    def snapshots(self) -> Snapshots:
        return SideSnapshots(self)

    @property
    def compression(self) -> Compression | None:
        return None if self._active else self.inner.compression

    @property
    def backing(self) -> Node | None:  # type: ignore[override]
        """The image's own backing node."""
        return self.inner.backing

    def set_backing(self, reference: str | None, format: str | None) -> None:
        if self._active and self.manifest.snapshots:
            raise ImageUnsupported(
                "the image has snapshots, which another backing file would change too",
                where=self.name,
                remedy="delete them first",
            )
        self.inner.set_backing(reference, format)

    def make_empty(self) -> None:
        self._keep(0, self.inner.length())
        self.inner.make_empty()

    def amend(self, options: dict[str, object]) -> None:
        self.inner.amend(options)

    def info(self) -> ImageInfo:
        info = self.inner.info()
        if self._active and self.manifest.snapshots:
            info.snapshots = self.snapshots.entries()
        return info

    def check(self, repair: Repair | None = None) -> CheckReport:
        if repair and self._active:
            self.mark_writing()
        report = self.inner.check(repair)
        if self.folder.is_dir():
            from runtime.block.snapshots.check import check_snapshots

            report.stops = False  # what is told of snapshots is little
            check_snapshots(self, report, repair)
        return report

    def finish_apply(self) -> None:
        """Turn the disk into the snapshot that the manifest says. Can be done again after a crash."""
        manifest = self.manifest
        assert manifest.applying is not None
        entry = self.entry(str(manifest.applying))
        self.mark_writing()
        if self.inner.length() != entry.size:
            self.resize(entry.size, shrink=True)
        view = self.stores.node(entry)
        for start, length in self._differing(entry):
            for extent in view.extents(start, length):
                if extent.reads_zero:
                    self.write_zeroes(extent.offset, extent.length)
                    continue
                for at in range(extent.offset, extent.end, 1 << 20):
                    self.pwrite(at, view.pread(at, min(1 << 20, extent.end - at)))
        self.inner.flush()
        manifest.applying = None
        self.save()

    def _differing(self, entry: Entry) -> Iterator[tuple[int, int]]:
        """Ranges that a store since the snapshot holds: only there can the disk differ from it."""
        from runtime.block.snapshots.stores import held

        ranges: list[tuple[int, int]] = []
        for store in self.stores.since(entry):
            for extent in held(store):
                low, high = extent.offset, min(extent.end, entry.size)
                if low < high:
                    ranges.append((low, high))
        end = 0
        for low, high in sorted(ranges):
            low = max(low, end)
            if low < high:
                yield low, high - low
                end = high

    # Machine state

    def state_file(self) -> FileNode:
        """Where the state that the next snapshot keeps is written."""
        if self._pending_state is None:
            self.folder.mkdir(exist_ok=True)
            self._pending_state = FileNode(
                self.folder / "pending.vmstate.new", writable=True, create=True, overwrite=True
            )
        return self._pending_state

    def take_state(self, entry: Entry) -> None:
        """The pending state becomes the snapshot's."""
        pending = self._pending_state
        if pending is None:
            return
        pending.resize(entry.vm_state_size, shrink=True)
        pending.flush()
        pending.close()
        self._pending_state = None
        pending.path.replace(self.folder / entry.vm_state)

    def drop_folder_if_empty(self) -> None:
        """Without snapshots there is no folder."""
        if not self.manifest.snapshots:
            import shutil

            shutil.rmtree(self.folder, ignore_errors=True)


class SnapshotView(Node):
    """The disk as it was. Waits while a region is being kept, so that it never sees half a change."""

    def __init__(self, owner: SnapshotNode, store: FormatNode) -> None:
        self._owner = owner
        self._store = store
        self.name = store.name
        self.read_only = True

    def length(self) -> int:
        return self._store.length()

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        with self._owner.lock:
            return self._store.pread(offset, length)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        with self._owner.lock:
            found = list(self._store.extents(offset, length))
        # Without the lock: other threads read while the caller looks at them.
        yield from found

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class SideSnapshots(Snapshots):
    """Snapshots beside the image."""

    def __init__(self, node: SnapshotNode) -> None:
        self._node = node

    def entries(self) -> list[SnapshotInfo]:
        if not self._node.folder.is_dir():
            return []
        return [_info(entry) for entry in self._node.manifest.snapshots]

    def create(self, name: str, *, vm_state_size: int = 0, vm_clock_ns: int = 0) -> SnapshotInfo:
        from runtime.block.snapshots.manifest import Entry
        from runtime.block.snapshots.stores import Stores

        node = self._node
        node.writable_or_raise()
        with node.lock:
            manifest = node.manifest
            if any(entry.name == name for entry in manifest.snapshots):
                raise ImageExists(f"there is a snapshot {name!r} already", where=node.name)
            node.trusted_or_raise()
            entry = Entry(
                id=manifest.next_id,
                name=name,
                size=node.inner.length(),
                date_ns=time.time_ns(),
                vm_state_size=vm_state_size,
                vm_clock_ns=vm_clock_ns,
            )
            node.inner.flush()
            node.reload()
            node.folder.mkdir(exist_ok=True)
            stores = Stores(node.folder, node.inner, node.image)
            stores.create(entry)
            node.take_state(entry)
            if manifest.snapshots:
                stores.repoint(manifest.snapshots[-1], entry)
            manifest.snapshots.append(entry)
            manifest.next_id += 1
            try:
                manifest.stamp = None
                node.save()
            except BaseException:
                manifest.snapshots.pop()
                raise
            node.activate()
            node.mark_writing()
            return _info(entry)

    def apply(self, snapshot: str) -> None:
        node = self._node
        node.writable_or_raise()
        with node.lock:
            node.trusted_or_raise()
            entry = node.entry(snapshot)
            node.mark_writing()
            node.manifest.applying = entry.id
            node.save()
            node.finish_apply()

    def delete(self, snapshot: str) -> None:
        node = self._node
        node.writable_or_raise()
        with node.lock:
            entry = node.entry(snapshot)
            manifest = node.manifest
            if manifest.applying == entry.id:
                raise ImageError("the snapshot is being applied", where=node.name)
            at = manifest.snapshots.index(entry)
            stores = node.stores
            stores.close()
            if at and not manifest.foreign:
                older = manifest.snapshots[at - 1]
                newer = manifest.snapshots[at + 1] if at + 1 < len(manifest.snapshots) else None
                # Until the list says otherwise, both chains read the same.
                stores.merge(entry, older)
                stores.repoint(older, newer)
            del manifest.snapshots[at]
            node.reload()
            if not manifest.snapshots:
                manifest.foreign = False
                manifest.stamp = None
            node.save()
            for name in (entry.store, entry.vm_state):
                (node.folder / name).unlink(missing_ok=True)
            node.drop_folder_if_empty()

    def open(self, snapshot: str) -> Node:
        return self._node.view(snapshot)

    def read_vm_state(self, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        node = self._node
        if snapshot is None:
            return node.state_file().pread(offset, length)
        entry = node.entry(snapshot)
        if offset < 0 or offset + length > entry.vm_state_size:
            raise ImageError(
                f"snapshot {entry.name!r} has {entry.vm_state_size} bytes of state", where=node.name
            )
        with FileNode(node.folder / entry.vm_state) as file:
            return file.pread(offset, length)

    def write_vm_state(self, offset: int, data: Buffer) -> None:
        self._node.writable_or_raise()
        self._node.state_file().pwrite(offset, data)


def _info(entry: Entry) -> SnapshotInfo:
    return SnapshotInfo(
        id=str(entry.id),
        name=entry.name,
        vm_state_size=entry.vm_state_size,
        date_sec=entry.date_ns // 1_000_000_000,
        date_nsec=entry.date_ns % 1_000_000_000,
        vm_clock_sec=entry.vm_clock_ns // 1_000_000_000,
        vm_clock_nsec=entry.vm_clock_ns % 1_000_000_000,
        disk_size=entry.size,
    )
