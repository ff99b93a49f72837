"""Registers by the names that manuals and debuggers use: a spec's own, parts of them, and composed ones."""

from __future__ import annotations

from runtime.registers.file import RegisterFile

__all__ = ["RegisterFile"]
