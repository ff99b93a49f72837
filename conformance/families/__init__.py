"""What conformance knows of each family: which registers programs see, start states that make sense, and the
peer's names.
"""

from __future__ import annotations

import importlib

from conformance.families.base import Family, PeerRegister

__all__ = ["Family", "PeerRegister", "family_of"]


def family_of(family: str, target: str) -> Family:
    """The description of a target's family; a plain one where conformance has none."""
    try:
        module = importlib.import_module(f"conformance.families.{family}")
    except ModuleNotFoundError:
        return Family()
    described: Family = module.describe(target)
    return described
