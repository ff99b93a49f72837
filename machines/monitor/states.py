"""Named states of a whole machine, disks included: ``savevm`` and ``loadvm``.

A state is a snapshot of each disk that can be written, under one name, and the machine's own `Snapshot`,
which lies in the first of these images as its VM state; or, where there is no such disk, in a folder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from machines.machine import Machine
from machines.monitor.drive import Drive
from runtime.block.errors import ImageUnsupported
from runtime.errors import IsagenError
from runtime.state.snapshot import Snapshot

if TYPE_CHECKING:
    from runtime.block.node import FormatNode, Snapshots

SUFFIX: Final = ".state"
PROBE: Final = 1 << 20
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state as lists show it: name, bytes of the machine's part, when it was saved (ns since 1970),
    and the machine's clock then (ns).
    """

    name: str
    size: int
    date: int
    clock: int


class States:
    """The named states of a machine. `folder`: where they lie if no disk can keep them (None: nowhere)."""

    def __init__(self, machine: Machine, drives: Sequence[Drive], folder: Path | None = None) -> None:
        self._machine = machine
        self._drives = drives
        self._folder = folder

    # --- where ------------------------------------------------------------------------------------------

    def _nodes(self) -> list[FormatNode]:
        """The images of the disks that can be written. Raises IsagenError where one keeps no snapshots."""
        found: list[FormatNode] = []
        for drive in self._drives:
            node = drive.node
            if node is None or node.read_only:
                continue
            try:
                node.snapshots  # noqa: B018 - raises
            except ImageUnsupported as error:
                raise IsagenError(
                    f"{drive.name} can be written, and its image keeps no snapshots: {error}",
                    remedy="attach it with ro or snapshot",
                ) from error
            found.append(node)
        return found

    def _place(self, nodes: Sequence[FormatNode]) -> Snapshots | Path:
        if nodes:
            return nodes[0].snapshots
        if self._folder is None:
            raise IsagenError(
                "no disk can keep the machine's state",
                remedy="attach a writable disk, or name --states FOLDER",
            )
        return self._folder

    @staticmethod
    def _checked(name: str) -> str:
        if NAME.fullmatch(name) is None:
            raise IsagenError(
                f"{name!r} is no name of a state", remedy="take letters, digits, and one of _ . + - inside"
            )
        return name

    # --- what -------------------------------------------------------------------------------------------

    def list(self) -> list[SavedState]:
        """All states, in the order in which they were saved."""
        place = self._place(self._nodes())
        if isinstance(place, Path):
            files = sorted(place.glob("*" + SUFFIX), key=lambda file: file.stat().st_mtime_ns)
            return [
                SavedState(file.name.removesuffix(SUFFIX), file.stat().st_size, file.stat().st_mtime_ns, 0)
                for file in files
            ]
        return [
            SavedState(
                entry.name,
                entry.vm_state_size,
                entry.date_sec * NANOSECONDS + entry.date_nsec,
                entry.vm_clock_sec * NANOSECONDS + entry.vm_clock_nsec,
            )
            for entry in place.entries()
            if entry.vm_state_size
        ]

    def save(self, name: str = "") -> str:
        """Keep machine and disks as they are now; one of the same name is replaced. Its name (from the time
        if none is given). Raises IsagenError.
        """
        name = self._checked(name or time.strftime("vm-%Y%m%d%H%M%S"))
        nodes = self._nodes()
        place = self._place(nodes)
        snapshot = self._machine.snapshot()
        for node in nodes:
            node.flush()
            if any(entry.name == name for entry in node.snapshots.entries()):
                node.snapshots.delete(name)
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
            snapshot.save(place / (name + SUFFIX))
            return name
        size = snapshot.write(place.write_vm_state)
        clock = self._machine.clock.now()
        nodes[0].snapshots.create(name, vm_state_size=size, vm_clock_ns=clock)
        for node in nodes[1:]:
            node.snapshots.create(name, vm_clock_ns=clock)
        return name

    def load(self, name: str) -> None:
        """Go back to a state. Raises IsagenError; disks and machine are as they were, unless a disk fails in
        the middle.
        """
        self._checked(name)
        nodes = self._nodes()
        place = self._place(nodes)
        snapshot = self._read(place, name)
        for node in nodes[1:]:
            if all(entry.name != name for entry in node.snapshots.entries()):
                raise IsagenError(f"there is no state {name!r}", where=node.name)
        self._machine.check_fit(snapshot.state)
        for node in nodes:
            node.snapshots.apply(name)
        self._machine.restore(snapshot)

    def _read(self, place: Snapshots | Path, name: str) -> Snapshot:
        if isinstance(place, Path):
            file = place / (name + SUFFIX)
            if not file.is_file():
                raise IsagenError(f"there is no state {name!r}", where=str(place))
            return Snapshot.load(file)
        entry = next((entry for entry in place.entries() if entry.name == name), None)
        if entry is None or not entry.vm_state_size:
            raise IsagenError(f"there is no state {name!r}")
        size = entry.vm_state_size

        def get(offset: int, length: int) -> bytes:
            length = min(length, size - offset)
            return place.read_vm_state(offset, length, snapshot=entry.id) if length > 0 else b""

        return Snapshot.read(get, f"state {name}")

    def delete(self, name: str) -> None:
        """Forget a state. Raises IsagenError."""
        self._checked(name)
        nodes = self._nodes()
        place = self._place(nodes)
        if isinstance(place, Path):
            file = place / (name + SUFFIX)
            if not file.is_file():
                raise IsagenError(f"there is no state {name!r}", where=str(place))
            file.unlink()
            return
        found = [node for node in nodes if any(entry.name == name for entry in node.snapshots.entries())]
        if not found:
            raise IsagenError(f"there is no state {name!r}")
        for node in found:
            node.snapshots.delete(name)
