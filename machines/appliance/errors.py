"""What can be wrong with a machine's files."""

from __future__ import annotations

from runtime.errors import IsagenError


class ApplianceError(IsagenError):
    """A machine's file that can't be read, or that asks for what isn't allowed."""


class ManifestMismatch(ApplianceError):
    """A file isn't what the manifest says."""
