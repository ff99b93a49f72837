"""What all tests of disks share: memory that goes back to the host after each.

They put hundreds of copies of small images beside each other. glibc keeps freed pieces of up to 32 MiB in
its heap (mallopt(3), M_MMAP_THRESHOLD), where small objects that live on hold them: up to 7 GB in all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""Of glibc alone."""


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    """The heap's free pages are the host's again when the test is over."""
    yield
    if _TRIM is not None:
        _TRIM(0)
