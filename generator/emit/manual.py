"""The manual of a family: one HTML page with encodings, syntax, operation and effects, and a search box."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from generator.ir.effects import Analysis, Effects, Jump
from generator.model.target import Form, Piece, Target, Text


@dataclass(frozen=True, slots=True)
class Cell:
    """A stretch of an encoding: `text` is its bits or the field's name; bit numbers of its ends."""

    text: str
    width: int
    kind: str
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """One form: its syntaxes by dialect, its picture in rows of at most 32 bits, and where it exists."""

    mnemonic: str
    syntaxes: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    needs: tuple[str, ...]
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One `insn` of the spec."""

    name: str
    anchor: str
    mnemonics: tuple[str, ...]
    doc: str
    encodings: tuple[Encoding, ...]
    operation: str
    effects: tuple[tuple[str, str], ...]
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Chapter:
    """The instructions of one spec file, in its order; `title` and `introduction` come from its first
    comment: its first
    sentence, and the rest."""

    file: str
    title: str
    introduction: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Manual:
    """What the page's template prints."""

    family: str
    targets: tuple[Target, ...]
    chapters: tuple[Chapter, ...]
    introduction: str


def manual(targets: Iterable[Target], spec_root: Path) -> Manual:
    """The manual of a family's `targets`. `spec_root` is the folder that spans' file names start from."""
    listed = tuple(targets)
    sources = _Sources(spec_root)
    analyses = {target.name: Analysis(target) for target in listed}
    found: dict[tuple[str, str], list[tuple[Target, Form]]] = {}
    for target in listed:
        for form in target.forms:
            found.setdefault((form.span.file, form.instruction), []).append((target, form))
    chapters: dict[str, list[Entry]] = {}
    for (file, name), forms in found.items():
        chapters.setdefault(file, []).append(_entry(name, forms, sources, analyses))
    return Manual(
        listed[0].family,
        listed,
        tuple(
            Chapter(file, *sources.title(file), tuple(sorted(entries, key=lambda e: e.line)))
            for file, entries in sorted(chapters.items())
        ),
        " ".join(sources.title(f"isa/{listed[0].family}/{listed[0].family}.isa")),
    )


class _Sources:
    """The texts of the spec files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lines: dict[str, list[str]] = {}

    def lines(self, file: str) -> list[str]:
        if file not in self._lines:
            path = next(
                (p for p in (self._root / file, self._root.parent / file, Path(file)) if p.is_file()), None
            )
            self._lines[file] = path.read_text(encoding="utf-8").split("\n") if path else []
        return self._lines[file]

    def title(self, file: str) -> tuple[str, str]:
        """The first sentence of the file's opening comment, and the rest of the comment."""
        out = []
        for line in self.lines(file):
            if not line.startswith("#"):
                break
            out.append(line.lstrip("# ").rstrip())
        title, stop, rest = " ".join(out).partition(". ")
        return title + stop.strip(), rest

    def block(self, file: str, name: str) -> tuple[int, str]:
        """The line of `insn name` and its text, up to the brace that closes it (its table included)."""
        lines = self.lines(file)
        opening = re.compile(rf'insn\s+(?:"{re.escape(name)}"|{re.escape(name)}(?![\w.]))')
        for at, line in enumerate(lines):
            if opening.match(line):
                end = next((i for i in range(at, len(lines)) if _closes(lines[i])), at)
                return at + 1, "\n".join(lines[at : end + 1])
        return 0, ""


def _closes(line: str) -> bool:
    """Whether an item that began at the left margin ends on `line`."""
    return line.startswith("}") and not line.rstrip().endswith("{")


def _entry(
    name: str, forms: list[tuple[Target, Form]], sources: _Sources, analyses: dict[str, Analysis]
) -> Entry:
    first = forms[0][1]
    line, operation = sources.block(first.span.file, name)
    by_form: dict[str, list[tuple[Target, Form]]] = {}
    for target, form in forms:
        by_form.setdefault(form.name, []).append((target, form))
    effects = Effects()
    for target, form in forms:
        for variant in form.variants:
            effects |= analyses[target.name].body(variant.body)
    return Entry(
        name=name,
        anchor=re.sub(r"\W", "_", f"{first.span.file}_{name}"),
        mnemonics=tuple(dict.fromkeys(form.mnemonic for _, form in forms)),
        doc=first.doc,
        encodings=tuple(_encoding(group) for group in by_form.values()),
        operation=operation,
        effects=tuple(_effects(effects)),
        file=first.span.file,
        line=line or first.span.line,
    )


def _encoding(group: list[tuple[Target, Form]]) -> Encoding:
    target, form = group[0]
    unit = next(s for s in target.sets if s.name == form.set_name)
    prefixes = tuple(Piece(kind="fixed", width=8, value=byte) for byte in form.mandatory_prefixes)
    total = sum(piece.width for piece in form.picture)
    return Encoding(
        form.mnemonic,
        tuple((f"{text.use} {text.dialect}".strip(), plain_text(text)) for text in form.texts),
        _rows(prefixes + form.picture, total, target.msb0, unit.stream),
        form.needs,
        tuple(dict.fromkeys(t.name for t, _ in group)),
    )


def _rows(picture: tuple[Piece, ...], total: int, msb0: bool, stream: bool) -> tuple[tuple[Cell, ...], ...]:
    """Cells of at most 32 bits a row. In streams bits are numbered within their byte, as the manuals do."""
    rows: list[list[Cell]] = [[]]
    used = place = 0
    for piece in picture:
        width = min(piece.width, 32)
        if used + width > 32:
            rows.append([])
            used = 0
        if stream:
            left, right = 7 - place % 8, 7 - (place + piece.width - 1) % 8
        elif msb0:
            left, right = place, place + piece.width - 1
        else:
            left, right = total - 1 - place, total - place - piece.width
        rows[-1].append(Cell(_cell_text(piece), width, piece.kind, left, right))
        used += width
        place += piece.width
    return tuple(tuple(row) for row in rows if row)


def _cell_text(piece: Piece) -> str:
    if piece.kind == "fixed":
        return format(piece.value, f"0{piece.width}b")
    if piece.kind == "ignored":
        return f"({piece.value:0{piece.width}b})" if piece.value else "-" * min(piece.width, 8)
    whole = piece.low == 0
    bits = "" if whole and piece.high == piece.width - 1 else f"[{piece.high}:{piece.low}]"
    return piece.name + (bits if piece.width > 1 or not whole else "")


def plain_text(text: Text) -> str:
    """A syntax with its holes by name, in braces where they continue a word: ``add{rc} rt, ra, rb``."""
    out = ""
    for part in text.parts:
        if isinstance(part, str):
            out += part
        else:
            name = part.name.replace("@", "value")
            glued = (out[-1:].isalnum() or out[-1:] == "}") and not part.prefix
            out += f"{{{name}}}" if glued else f"{part.prefix}{name}{part.suffix}"
    return out


def _effects(effects: Effects) -> Iterable[tuple[str, str]]:
    if effects.reads:
        yield "reads", ", ".join(sorted(effects.reads))
    if effects.writes:
        yield "writes", ", ".join(sorted(effects.writes))
    memory = [word for word, holds in (("loads", effects.loads), ("stores", effects.stores)) if holds]
    if memory:
        yield "memory", " and ".join(memory)
    if effects.traps:
        yield "raises", ", ".join(sorted(effects.traps))
    jumps = effects.jumps - {Jump.NONE}
    if jumps:
        yield (
            "jumps",
            " or ".join(
                sorted("to a computed address" if j is Jump.DYNAMIC else "to a fixed target" for j in jumps)
            ),
        )
    if effects.calls:
        yield "uses", ", ".join(sorted(effects.calls))
