"""Parses spec files: text to `syntax` trees, with many errors in one run.

The grammar is isa.lark; its tables are kept in the user's cache directory, as building them takes half a
second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.lark import PostLex

from generator.errors import Diagnostic
from generator.language import syntax
from generator.language.build_tree import TreeBuilder
from generator.language.source import Source

GRAMMAR = Path(__file__).with_name("isa.lark")
MAX_DEPTH = 200  # of brackets; beyond, Python's recursion in later passes would be at risk
MAX_SIZE = 4 << 20  # characters of one file

# Behind these a newline does not end a statement.
_CONTINUING = frozenset(
    [
        "COMMA",
        "EQUAL",
        "AUGMENT",
        "OROR",
        "ANDAND",
        "BAR",
        "CARET",
        "AMP",
        "AT",
        "PLUS",
        "MINUS",
        "STAR",
        "TILDE",
        "BANG",
        "CMP",
        "SHIFT",
        "DIVOP",
        "LBRACE",
        "ARROW",
        "QMARK",
        "COLON",
    ]
)
_OPENING = frozenset(("LPAR", "LSQB"))
_CLOSING = frozenset(("RPAR", "RSQB"))

_ITEM = re.compile(
    r"^(?=(?:isa|set|target|param|feature|cpu|needs|first|only|little|enum|trap|regs?|view|bank|context|prefix|operand|shared|fn|rows"
    r"|insn|alias|example|debug)[ \t])",
    re.M,
)


class _Newlines(PostLex):
    """Drops the newlines that end nothing: inside ( ) and [ ], and behind operators, commas and opening
    braces.
    """

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        stack: list[str] = []
        previous = ""
        pending = False
        for token in stream:
            kind = token.type
            if kind == "_NL":
                if (stack and stack[-1] != "{") or previous in _CONTINUING:
                    continue
                if pending:
                    continue
                pending = True
                yield token
                previous = kind
                continue
            pending = False
            if kind in _OPENING:
                stack.append(kind)
            elif kind == "LBRACE":
                stack.append("{")
            elif (kind in _CLOSING or kind == "RBRACE") and stack:
                stack.pop()
            yield token
            previous = kind


def cache_directory() -> Path | None:
    """Where isagen keeps derived data of this user; None if that place cannot be made."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        path = (Path(base) if base else Path.home() / ".cache") / "isagen"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # not writable; no home
        return None
    return path if os.access(path, os.W_OK) else None


@lru_cache(maxsize=1)
def _parser() -> tuple[Lark, TreeBuilder]:
    import hashlib

    import lark

    grammar = GRAMMAR.read_text(encoding="utf-8")
    builder = TreeBuilder()
    directory = cache_directory()
    options: dict[str, Any] = {}
    if directory is not None:
        digest = hashlib.sha256(f"{lark.__version__}\0{grammar}".encode()).hexdigest()[:16]
        options["cache"] = str(directory / f"grammar-{digest}.lark")
    parser = Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        maybe_placeholders=True,
        postlex=_Newlines(),
        transformer=builder,
        **options,
    )
    return parser, builder


def parse(source: Source, diagnostics: list[Diagnostic]) -> list[syntax.Item]:
    """The items of `source`. Mistakes are added to `diagnostics`: the first of each item."""
    if len(source.text) > MAX_SIZE:
        diagnostics.append(Diagnostic(source.location(0, 1), f"the file has more than {MAX_SIZE} characters"))
        return []
    if (deep := _too_deep(source)) is not None:
        diagnostics.append(
            Diagnostic(source.location(deep, deep + 1), f"brackets nest deeper than {MAX_DEPTH} levels")
        )
        return []
    parser, builder = _parser()
    builder.source = source
    try:
        return _parse_text(parser, source.text)
    except UnexpectedInput:
        pass
    items: list[syntax.Item] = []
    starts = [m.start() for m in _ITEM.finditer(source.text)]
    if not starts or source.text[: starts[0]].strip():
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts[1:], len(source.text)], strict=True):
        # Blank out what is in front, so that places stay right.
        text = re.sub(r"[^\r\n]", " ", source.text[:start]) + source.text[start:end]
        try:
            items.extend(_parse_text(parser, text))
        except UnexpectedInput as error:
            diagnostics.append(_explain(error, source, end))
    return items


def _parse_text(parser: Lark, text: str) -> list[syntax.Item]:
    result: Any = parser.parse(text)
    items: list[syntax.Item] = result
    return items


def _too_deep(source: Source) -> int | None:
    """The offset where brackets, or chains of prefix operators and `?`, nest too deeply; None: nowhere."""
    depth = 0
    chain = 0
    for match in re.finditer(r"#[^\n]*|\"[^\"\n]*\"|[(\[{]|[)\]}]|[?~!-]|\belse\b|\n|[^\s?~!-]", source.text):
        text = match.group()
        if text in "([{":
            depth += 1
        elif text in ")]}":
            depth = max(0, depth - 1)
        elif text in "?~!-" or text == "else":
            chain += 1
        elif text == "\n":
            chain = 0
        if depth > MAX_DEPTH or (chain > MAX_DEPTH and "-" * MAX_DEPTH not in source.text):
            return match.start()
    return None


_NAMES = {
    "_NL": "a new line",
    "NAME": "a name",
    "INT": "a number",
    "HEX": "a number",
    "BIN": "a number",
    "STRING": "a text in quotes",
    "BITS": "bits",
    "HEXBYTE": "a byte",
    "DASH": "`-`",
    "EXAMPLEBYTES": "bytes in hexadecimal",
    "$END": "the end of the file",
    "CMP": "a comparison",
    "SHIFT": "a shift",
    "DIVOP": "`/u`",
}


def _describe(names: set[str], parser: Lark) -> str:
    """What could stand there, in words; operators are left out, as nearly every place allows them."""
    words: list[str] = []
    by_name = {t.name: t for t in parser.terminals}
    for name in sorted(names):
        if name in (
            "OROR",
            "ANDAND",
            "BAR",
            "CARET",
            "AMP",
            "AT",
            "STAR",
            "PLUS",
            "MINUS",
            "CMP",
            "SHIFT",
            "DIVOP",
            "QMARK",
            "DOT",
            "TILDE",
            "BANG",
            "MEM",
        ):
            continue
        terminal = by_name.get(name)
        word = _NAMES.get(name) or (f"`{terminal.pattern.value}`" if terminal is not None else name)
        if word not in words:
            words.append(word)
    if len(words) > 8:
        words = [*words[:8], "..."]
    return ", ".join(words)


def _explain(error: UnexpectedInput, source: Source, end: int) -> Diagnostic:
    parser = _parser()[0]
    if isinstance(error, UnexpectedToken):
        token = error.token
        expected = _describe(set(error.accepts or error.expected), parser)
        remedy = f"expected {expected}" if expected else ""
        if token.type == "$END":
            at = len(source.text[:end].rstrip()) - 1
            return Diagnostic(source.location(at, at + 1), "this item is not finished", remedy=remedy)
        start = token.start_pos or 0
        if "MORETHAN" in error.expected and " < " in source.text[:start].rpartition("\n")[2]:
            remedy = "compare with `<s` or `<u`; `name<w>` gives a width"
            return Diagnostic(
                source.location(start, start + len(token)), "a width is not closed", remedy=remedy
            )
        if token.type == "_NL":
            return Diagnostic(source.location(start, start + 1), "the line ends too early", remedy=remedy)
        allowed = set(error.accepts or error.expected)
        return Diagnostic(
            source.location(start, start + len(token)),
            f"unexpected `{token}`",
            remedy=_mistaken(str(token), source.text[start:end], allowed, parser) or remedy,
        )
    start = error.pos_in_stream or 0
    shown = source.text[start : start + 1]
    remedy = ""
    if isinstance(error, UnexpectedCharacters):
        expected = _describe(set(error.allowed or ()), parser)
        remedy = _mistaken(shown, source.text[start:end], set(), parser) or (
            f"expected {expected}" if expected else ""
        )
    if shown == '"':
        remedy = "a text ends on the line where it begins"
    printable = shown if shown.isprintable() else repr(shown)[1:-1]
    return Diagnostic(source.location(start, start + 1), f"unexpected `{printable}`", remedy=remedy)


_FROM_ELSEWHERE = (
    (re.compile(r"//|/\*"), "a comment begins with `#`"),
    (re.compile(r"(>>|[<>]=?|/|%)(?![su])"), "say whether numbers are signed: `{0}s` or `{0}u`"),
    (re.compile(r";"), "a statement ends with its line: leave the `;` out"),
    (re.compile(r"(\+\+|--)"), "write `x += 1` or `x -= 1`"),
)
"""What is written so in other languages, and how it is said here."""


def _mistaken(shown: str, rest: str, allowed: set[str], parser: Lark) -> str:
    """A remedy for a misspelt keyword, or for what other languages write; "" if it is neither."""
    for pattern, remedy in _FROM_ELSEWHERE:
        if (match := pattern.match(rest)) is not None:
            return remedy.format(match.group())
    words = [str(t.pattern.value) for t in parser.terminals if t.name in allowed and t.name not in _NAMES]
    near = get_close_matches(shown, [word for word in words if word.isalpha()], 1)
    return f"did you mean `{near[0]}`?" if near else ""
