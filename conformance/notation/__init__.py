"""How the peers' notation differs from ours, by family, and which peers there are for a target.

A peer assembler reads our text after `outward`; a peer disassembler writes text that our assembler reads
after `inward`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from conformance.toolchains import Llvm, Objdump


def same(text: str, code: bytes) -> str:
    """A notation like ours."""
    return text


def as_printed(text: str, contexts: dict[str, int]) -> str:
    """Texts that name an instruction in one way only."""
    return text


def always(code: bytes) -> bool:
    """Any encoding."""
    return True


@dataclass(frozen=True)
class AssemblerPeer:
    """An independent assembler for encodings that `fits` takes; `outward(text, code)` turns our text into its
    own, or None where it can't say that. `contexts`: the decode contexts that it is for.
    """

    tool: Llvm
    outward: Callable[[str, bytes], str | None] = same
    fits: Callable[[bytes], bool] = always
    contexts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class DisassemblerPeer:
    """An independent disassembler for encodings that `fits` takes; `inward(text, code)` turns its text into
    ours. `contexts` as above.
    """

    tool: Llvm | Objdump
    inward: Callable[[str, bytes], str] = same
    fits: Callable[[bytes], bool] = always
    contexts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Notation:
    """The peers of a target, the dialect of ours that they share, and the decode contexts that they
    are for. `others`: the notations of its other dialects. `canonical(text, contexts)`: what texts of ours
    of the same instruction have in common, where a needless prefix or displacement shows in them.
    """

    assemblers: tuple[AssemblerPeer, ...] = ()
    disassemblers: tuple[DisassemblerPeer, ...] = ()
    dialect: str = ""
    contexts: tuple[tuple[str, int], ...] = ()
    others: tuple[Notation, ...] = ()
    canonical: Callable[[str, dict[str, int]], str] = as_printed


def notations_of(family: str, target: str) -> tuple[Notation, ...]:
    """The peers of a target, a notation for each dialect; one without peers where conformance knows none."""
    try:
        module = importlib.import_module(f"conformance.notation.{family}")
    except ModuleNotFoundError:
        return (Notation(),)
    notation: Notation = module.describe(target)
    return notation, *notation.others
