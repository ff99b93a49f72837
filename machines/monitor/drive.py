"""A disk as monitors and saved states see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.block.node import FormatNode


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk: the device's name, the image's path, and the node that holds it."""

    name: str
    path: Path
    disk: Any
    snapshot: bool
    """Writes are forgotten at the end."""

    @property
    def node(self) -> FormatNode | None:
        """The image, where writes go to it."""
        return self.disk if isinstance(self.disk, FormatNode) else None
