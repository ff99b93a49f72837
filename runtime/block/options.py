"""Base of the create options of all formats."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_SUFFIXES = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


def parse_size(value: Any) -> Any:
    """Bytes from "10G", "1.5M", "512", 512. Suffixes are powers of 1024. Raises ValueError."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower().removesuffix("ib").removesuffix("b")
    shift = 0
    if text and text[-1] in _SUFFIXES:
        shift = _SUFFIXES[text[-1]]
        text = text[:-1]
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()) or text.endswith("."):
        raise ValueError(f"{value!r} is no size: write a number with an optional suffix K, M, G, T, P or E")
    size = int(whole) << shift
    if fraction:
        size += (int(fraction) << shift) // 10 ** len(fraction)
    return size


def parse_switch(value: Any) -> Any:
    """True and False from "on" and "off" (and what pydantic takes itself)."""
    if isinstance(value, str) and value.lower() in ("on", "off"):
        return value.lower() == "on"
    return value


Size = Annotated[int, BeforeValidator(parse_size)]
Switch = Annotated[bool, BeforeValidator(parse_switch)]


class CreateOptions(BaseModel):
    """Options of `Image.create`. Names may be written with `-` or `_`."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
        frozen=True,
    )
