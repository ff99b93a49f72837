"""Messages to the person who runs a program: straight to standard error, which may be closed."""

from __future__ import annotations

import contextlib
import os


def say(text: str) -> None:
    """Write `text` to standard error, if it takes it."""
    data = text.encode(errors="backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]
