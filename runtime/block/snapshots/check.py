"""The check of the snapshots beside an image."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from runtime.block.errors import ImageCorrupt, ImageError
from runtime.block.node import Repair
from runtime.block.report import CheckReport
from runtime.block.snapshots import manifest as manifests
from runtime.block.snapshots.manifest import Manifest
from runtime.block.snapshots.stores import Stores


class Kept(Protocol):
    """The snapshots that are checked: see `runtime.block.snapshots.node.SnapshotNode`."""

    folder: Path

    @property
    def manifest(self) -> Manifest: ...

    @property
    def stores(self) -> Stores: ...

    def save(self) -> None: ...

    def reload(self) -> None: ...

    def finish_apply(self) -> None: ...

    def drop_folder_if_empty(self) -> None: ...


def check_snapshots(node: Kept, report: CheckReport, repair: Repair | None) -> None:
    """Add what is wrong with the snapshots to the image's report."""
    manifest = node.manifest
    for path in manifests.orphans(node.folder, manifest):
        if repair:
            path.unlink(missing_ok=True)
        report.note("leak", f"{path.name} belongs to no snapshot", fixed=repair is not None)
    if manifest.foreign:
        fixed = repair == "all"
        if fixed:
            manifest.foreign = False
            manifest.stamp = None
            node.save()
        report.note(
            "corruption",
            "the image was changed by another program, or copied, since its snapshots were made"
            + (": taken as it is now" if fixed else ""),
            fixed=fixed,
        )
    _check_stores(node, report, repair)
    if manifest.applying is not None:
        fixed = repair == "all" and not manifest.foreign
        if fixed:
            node.finish_apply()
        report.note("corruption", "applying a snapshot was interrupted", fixed=fixed)


def _check_stores(node: Kept, report: CheckReport, repair: Repair | None) -> None:
    broken = []
    for entry in list(node.manifest.snapshots):
        path = node.folder / entry.store
        if not path.is_file():
            broken.append((entry, f"the data of snapshot {entry.name!r} is missing"))
    if not broken:
        try:
            for entry in node.manifest.snapshots:
                found = node.stores.node(entry).check(
                    repair if entry is node.manifest.snapshots[-1] else None
                )
                for problem in found.problems:
                    report.note(
                        problem.kind,
                        f"snapshot {entry.name!r}: {problem.text}",
                        offset=problem.offset,
                        fixed=problem.fixed,
                    )
        except ImageCorrupt as error:
            report.note("corruption", f"a snapshot can't be opened: {error}")
        except ImageError as error:
            report.note("error", f"a snapshot can't be opened: {error}")
        return
    # A missing store: it and all older snapshots, which read on in it, are lost.
    lost = node.manifest.snapshots.index(broken[-1][0])
    for _, text in broken:
        report.note("corruption", text, fixed=repair == "all")
    if repair == "all":
        gone = node.manifest.snapshots[: lost + 1]
        del node.manifest.snapshots[: lost + 1]
        if node.manifest.applying in {entry.id for entry in gone}:
            node.manifest.applying = None
        node.reload()
        node.save()
        for entry in gone:
            for name in (entry.store, entry.vm_state):
                (node.folder / name).unlink(missing_ok=True)
        node.drop_folder_if_empty()
