"""How jobs tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""``progress(done, total)`` in bytes of the disk; may raise to stop the job."""


def silent(done: int, total: int) -> None:
    """Tells nobody."""
