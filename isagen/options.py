"""Kinds of values that options take, for `argparse`."""

from __future__ import annotations

import argparse


def number(text: str) -> int:
    """A number as options take it: decimal, or with 0x, 0b, 0o."""
    try:
        value = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text} is not an address")
    return value


def size(text: str) -> int:
    """A size in bytes, with K, M or G."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    unit = units.get(text[-1:].upper(), 1)
    try:
        value = int(text[:-1] if unit > 1 else text, 0) * unit
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size") from None
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a size")
    return value


def positive(text: str) -> int:
    """A number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def port(text: str) -> int:
    """A TCP port; 0 for any free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)
