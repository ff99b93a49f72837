"""What comes to a machine from outside while it runs."""

from __future__ import annotations

from typing import Final, NamedTuple

PATIENCE: Final = 0.5
"""Longest wait for inputs, in seconds: signals are looked at in between."""
Fed = tuple[str, bytes]
"""What a character device is fed: its name, bytes."""


class Poll(NamedTuple):
    """A look at the inputs: whether there were any, and whether harts had to stand still behind it."""

    served: bool
    halted: bool
