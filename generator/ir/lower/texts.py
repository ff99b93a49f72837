"""Assembler texts: `{name}`, `{@:hex}`, `{, @rm=dyn}` to literals and holes."""

from __future__ import annotations

import re

from generator.ir.lower.report import Mistake
from generator.language import syntax as s
from generator.language.source import Pos
from generator.model.target import Hole, Text

_HOLE = re.compile(r"\{\{|\{([^{}]*)\}|\}\}|[{}]")
_PLAIN = re.compile(r"(@|[A-Za-z_]\w*(?:\.\w+)*)(?::([A-Za-z_]\w*[*|]?|\+))?")
_DEFAULT = re.compile(r"([^@]*)@([A-Za-z_]\w*(?:\.\w+)*)(?::([A-Za-z_]\w*|\+))?=(-?\w+)(.*)")
_ARITHMETIC = re.compile(r"[\w\s+\-*/%()&|^~<>]+")


class TextParser:
    """Parses the texts of one instruction, operand case or alias.

    `substitutes`: names that stand for text of their own (mnemonic, string columns, axis values); `defaults`:
    numbers for
    names that may stand behind `=` (enum members).
    """

    def __init__(
        self, substitutes: dict[str, str], defaults: dict[str, int], arithmetic: bool = False
    ) -> None:
        self.substitutes = substitutes
        self.defaults = defaults
        self.arithmetic = arithmetic

    def parse(self, node: s.TextNode) -> Text:
        """Raises Mistake, with the place inside the text."""
        parts: list[str | Hole] = []
        self._parse(node.text, node, parts, 0)
        return Text(dialect=node.dialect, parts=tuple(parts), use=node.use)

    def _parse(self, text: str, node: s.TextNode, parts: list[str | Hole], depth: int) -> None:
        end = 0
        for match in _HOLE.finditer(text):
            self._literal(text[end : match.start()], parts)
            end = match.end()
            token = match.group()
            # Places are exact only in the text itself, not in what columns put into it.
            at = (
                Pos(node.at.source, node.at.start + 1 + match.start(), node.at.start + 1 + match.end())
                if not depth
                else (node.at)
            )
            if token in ("{{", "}}"):
                self._literal(token[0], parts)
            elif match.group(1) is None:
                raise Mistake(at, f"a single `{token}` in a text", f"write `{token}{token}` for a brace")
            else:
                self._hole(match.group(1), node, parts, at, depth)
        self._literal(text[end:], parts)

    @staticmethod
    def _literal(text: str, parts: list[str | Hole]) -> None:
        if not text:
            return
        if parts and isinstance(parts[-1], str):
            parts[-1] += text
        else:
            parts.append(text)

    def _hole(self, inner: str, node: s.TextNode, parts: list[str | Hole], at: Pos, depth: int) -> None:
        plain = _PLAIN.fullmatch(inner)
        if plain is not None:
            name, format_ = plain.group(1), plain.group(2) or ""
            if name in self.substitutes and not format_:
                if depth > 8:
                    raise Mistake(at, f"the text of `{name}` contains itself")
                self._parse(self.substitutes[name], node, parts, depth + 1)
                return
            parts.append(Hole(name=name, format=format_))
            return
        default = _DEFAULT.fullmatch(inner)
        if default is not None:
            prefix, name, format_, value, suffix = default.groups()
            parts.append(
                Hole(
                    name=name,
                    format=format_ or "",
                    default=self._default(value, at),
                    prefix=prefix,
                    suffix=suffix,
                )
            )
            return
        if self.arithmetic and _ARITHMETIC.fullmatch(inner):
            parts.append(Hole(name=inner))
            return
        raise Mistake(
            at, f"`{{{inner}}}` is no place for an operand", "{name}, {name:hex}, {@}, or {, @name=default}"
        )

    def _default(self, value: str, at: Pos) -> int:
        if value in self.defaults:
            return self.defaults[value]
        try:
            return int(value, 0)
        except ValueError:
            raise Mistake(at, f"`{value}` is neither a number nor an enum's member") from None


def holes(texts: list[Text]) -> list[Hole]:
    return [p for t in texts for p in t.parts if isinstance(p, Hole)]
