"""The stream: JSON values one behind the other, in any spelling that QEMU takes (strings in single quotes,
too). What comes from clients is hostile: a message has at most `LIMIT` bytes and is nested at most `DEPTH`
deep.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

LIMIT: Final = 1 << 20
"""Bytes of the longest message."""
DEPTH: Final = 128
RESET: Final = 0xFF
"""A byte that no JSON holds: forget what came before (QMP specification, 2.6)."""
_NEXT: Final = re.compile(rb"""[][{}"'\xff]""")
_STRING: Final = {
    0x22: re.compile(rb'(?:[^"\\\xff]|\\[^\xff])*'),
    0x27: re.compile(rb"(?:[^'\\\xff]|\\[^\xff])*"),
}
_SINGLE: Final = re.compile(r"""("(?:[^"\\]|\\.)*")|'((?:[^'\\]|\\.)*)'""", re.DOTALL)
_QUOTES: Final = re.compile(r"\\'|\\\\|\\\"|\"")
_QUOTE: Final = {"\\'": "'", "\\\\": "\\\\", '\\"': '\\"', '"': '\\"'}
_SPACE: Final = b" \t\r\n"
_LOOSE: Final = re.compile(rb"[^][{}\"'\s\xff]")


class BadMessage(Exception):
    """A message that is no JSON, or too much of it."""


class Splitter:
    """Cuts the bytes of a connection into messages."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._depth = 0
        self._quote = 0
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | BadMessage]:
        """The messages that are whole now: the text of an object, or what is wrong."""
        self._data += data
        found: list[bytes | BadMessage] = []
        while self._advance(found):
            pass
        if len(self._data) > LIMIT:
            if not self._skipping:
                found.append(BadMessage(f"a message of more than {LIMIT} bytes"))
            # Its rest comes, too: nothing is read until the stream is reset, or all brackets are closed.
            self._skipping = True
            del self._data[: self._at]
            self._at = 0
        return found

    def _advance(self, found: list[bytes | BadMessage]) -> bool:
        """Read on to the next bracket or quote. False: there is nothing more to read."""
        data = self._data
        if self._quote:
            match = _STRING[self._quote].match(data, self._at)
            end = match.end() if match else self._at
            self._at = end
            if end >= len(data) or (data[end] == 0x5C and end + 1 >= len(data)):
                return False
            if data[end] == self._quote:
                self._quote = 0
                self._at += 1
            else:
                self._forget(end + 1)  # `RESET`, perhaps behind a backslash
            return True
        match = _NEXT.search(data, self._at)
        if self._depth == 0:
            self._refuse_loose(found, match.start() if match else len(data))
            if match is None:
                return False
            match = _NEXT.search(data, self._at)
        if match is None:
            self._at = len(data)
            return False
        byte, self._at = data[match.start()], match.end()
        if byte == RESET:
            self._forget(self._at)
        elif byte in b"\"'":
            self._quote = byte
            if self._depth == 0:
                self._quote = 0
                found.append(BadMessage("not an object"))
                self._forget(self._at)
        elif byte in b"{[":
            self._depth += 1
            if self._depth == DEPTH + 1 and not self._skipping:
                found.append(BadMessage(f"nested more than {DEPTH} deep"))
                self._skipping = True
        else:
            self._depth -= 1
            if self._depth <= 0:
                if self._depth < 0:
                    found.append(BadMessage("a bracket that closes nothing"))
                elif not self._skipping:
                    found.append(bytes(data[: self._at]).strip(_SPACE))
                self._forget(self._at)
        return True

    def _refuse_loose(self, found: list[bytes | BadMessage], end: int) -> None:
        """Between messages there is white space only."""
        loose = _LOOSE.search(self._data, 0, end)
        if loose is not None:
            found.append(BadMessage("not an object"))
        del self._data[:end]
        self._at = 0

    def _forget(self, end: int) -> None:
        del self._data[:end]
        self._at = self._depth = self._quote = 0
        self._skipping = False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise BadMessage(f"the member {name!r} is there twice")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise BadMessage(f"{name} is no JSON")


def _as_double(match: re.Match[str]) -> str:
    """A string in double quotes for one in single quotes."""
    if match[1] is not None:
        return match[1]
    return '"' + _QUOTES.sub(lambda found: _QUOTE[found[0]], match[2]) + '"'


def decode(message: bytes) -> dict[str, Any]:
    """The object that a message is. Raises BadMessage."""
    try:
        text = message.decode("utf-8")
        if "'" in text:
            text = _SINGLE.sub(_as_double, text)
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage("not an object")
    return value


def encode(value: dict[str, Any]) -> bytes:
    """A message to a client, with the end of line that the specification asks for."""
    return json.dumps(value, separators=(", ", ": ")).encode() + b"\r\n"
