"""The way in: spec files on disk to the model of a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from generator.errors import Diagnostic, IsagenError, SpecErrors
from generator.ir.lower.report import Report
from generator.ir.lower.target import lower_target, target_names
from generator.ir.places import Places
from generator.language import syntax
from generator.language.parser import parse
from generator.language.source import Source
from generator.model.target import Target

SUFFIX = ".isa"


def families(spec_root: Path) -> list[str]:
    """The names of the families under `spec_root`: folders that hold spec files."""
    return sorted(p.name for p in spec_root.iterdir() if p.is_dir() and any(p.glob(f"*{SUFFIX}")))


def read_sources(spec_root: Path, family: str, extra: Sequence[Path] = ()) -> list[Source]:
    """The family's files by name, then `extra` ones. Raises IsagenError where there are none, or they are
    unreadable.
    """
    folder = spec_root / family
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise IsagenError(
            f"there is no family `{family}`", str(spec_root), "a family is a folder of .isa files"
        )
    sources = [_read(path, f"{spec_root.name}/{family}/{path.name}") for path in paths]
    return sources + [_read(path, str(path)) for path in extra]


def _read(path: Path, name: str) -> Source:
    try:
        return Source(name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise IsagenError(
            f"cannot read the spec: {error.strerror}", str(path), "name a readable .isa file"
        ) from None
    except UnicodeDecodeError:
        raise IsagenError("the spec is not UTF-8 text", str(path), "save it as UTF-8") from None


def _parse_all(
    sources: Sequence[Source], diagnostics: list[Diagnostic]
) -> list[tuple[Source, list[syntax.Item]]]:
    return [(source, parse(source, diagnostics)) for source in sources]


def family_targets(spec_root: Path, family: str) -> list[str]:
    """The names of a family's targets. Raises SpecErrors if its header cannot be understood, IsagenError as
    above.
    """
    report = Report()
    names = target_names(_parse_all(read_sources(spec_root, family), report.diagnostics), report)
    if not names and report.diagnostics:
        raise SpecErrors(report.diagnostics)
    return names


def load_sources(sources: Sequence[Source], target: str, places: Places | None = None) -> Target:
    """The model of `target` from spec texts. Raises SpecErrors with everything that is wrong with them.

    `places` gets the places of behaviours' statements.
    """
    report = Report(places)
    files = _parse_all(sources, report.diagnostics)
    model = lower_target(files, target, report)
    if report.diagnostics or model is None:
        raise SpecErrors(report.diagnostics)
    return model


def load_target(spec_root: Path, family: str, target: str, extra: Sequence[Path] = ()) -> Target:
    """The model of a family's target; `extra` are the user's own spec files, read after the family's.

    Raises SpecErrors (all mistakes found, with places) and IsagenError (no such family, unreadable files).
    """
    return load_sources(read_sources(spec_root, family, extra), target)
