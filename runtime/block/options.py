"""Create options of image formats: declared once, checked when they are given.

A format's options are the `Option` attributes of a subclass of `CreateOptions`. They are plain Python, not
pydantic models: loading pydantic takes longer than creating an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from runtime.block.node import Preallocation

Value = TypeVar("Value")
_SUFFIXES = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_SWITCHES = {
    **dict.fromkeys(("on", "yes", "true", "y", "1"), True),
    **dict.fromkeys(("off", "no", "false", "n", "0"), False),
}


class OptionError(ValueError):
    """A value that isn't good; `option` is the option's name ("" if several don't go together)."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


def parse_size(value: Any) -> Any:
    """Bytes from "10G", "1.5M", "512", 512. Suffixes are powers of 1024. Raises ValueError."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower().removesuffix("ib").removesuffix("b")
    shift = 0
    if text and text[-1] in _SUFFIXES:
        shift = _SUFFIXES[text[-1]]
        text = text[:-1]
    whole, point, fraction = text.partition(".")
    if not _is_number(whole) or (point and not _is_number(fraction)):
        raise ValueError(f"{value!r} is no size: write a number with an optional suffix K, M, G, T, P or E")
    size = int(whole) << shift
    if fraction:
        size += (int(fraction) << shift) // 10 ** len(fraction)
    return size


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


class Option(Generic[Value]):
    """One option: an attribute whose value is the default unless another was given.

    `parse` makes a value of what the caller gave, or raises ValueError. `kind` describes the values to a
    user.
    """

    def __init__(self, default: Value, parse: Callable[[Any], Value], kind: str) -> None:
        self.default = default
        self.parse = parse
        self.kind = kind
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name.replace("_", "-")

    def __get__(self, instance: object, owner: type) -> Value:
        # Values that were given lie in the instance and come first: this is no data descriptor.
        return self.default


def size(default: int, check: Callable[[int], str | None] = lambda value: None) -> Option[int]:
    """Bytes. `check` gives what is wrong with a number, if anything."""

    def parse(value: Any) -> int:
        number = parse_size(value)
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"{value!r} is no size")
        wrong = check(number)
        if wrong:
            raise ValueError(wrong)
        return number

    return Option(default, parse, "size")


def power_of_two(low: int, high: int, what: str) -> Callable[[int], str | None]:
    """A check for `size`; `what` names the range."""

    def check(value: int) -> str | None:
        if low <= value <= high and not value & (value - 1):
            return None
        return f"{value} isn't {what}"

    return check


def number(
    default: int, among: tuple[int, ...] = (), *, low: int | None = None, high: int | None = None
) -> Option[int]:
    """A number, one `among` those given or between `low` and `high`."""

    def parse(value: Any) -> int:
        result = int(value) if isinstance(value, str) and _is_number(value) else value
        if not isinstance(result, int) or isinstance(result, bool):
            raise ValueError(f"{value!r} is no number")
        if among and result not in among:
            raise ValueError(f"{result} isn't one of {', '.join(map(str, among))}")
        if (low is not None and result < low) or (high is not None and result > high):
            raise ValueError(f"{result} isn't between {low} and {high}")
        return result

    return Option(default, parse, "|".join(map(str, among)) if among else "number")


def switch(default: bool = False) -> Option[bool]:
    """On or off."""

    def parse(value: Any) -> bool:
        found = value if isinstance(value, bool) else _SWITCHES.get(str(value).lower())
        if found is None:
            raise ValueError(f"{value!r} is neither on nor off")
        return found

    return Option(default, parse, "on|off")


def _chosen(value: Any, values: tuple[str, ...]) -> str:
    for known in values:
        if isinstance(value, str) and value.lower() == known.lower():
            return known
    raise ValueError(f"{value!r} isn't one of {', '.join(values)}")


def choice(default: str, *others: str) -> Option[str]:
    """One of some words, in upper or lower case."""
    values = (default, *others)
    return Option(default, lambda value: _chosen(value, values), "|".join(values))


def preallocation(*modes: Preallocation) -> Option[Preallocation]:
    """How much of the storage a new image gets at once: "off", or one of `modes`."""
    words = choice("off", *modes)
    return cast("Option[Preallocation]", words)


def optional_choice(*values: str) -> Option[str | None]:
    """One of some words, or nothing."""

    def parse(value: Any) -> str | None:
        return None if value is None else _chosen(value, values)

    return Option[str | None](None, parse, "|".join(values))


def text(check: Callable[[str], str | None] = lambda value: None) -> Option[str | None]:
    """Any text, or nothing. `check` gives what is wrong with a text, if anything."""

    def parse(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            value = str(value)
        wrong = check(value)
        if wrong:
            raise ValueError(wrong)
        found: str = value
        return found

    return Option[str | None](None, parse, "text")


class CreateOptions:
    """Options of `Image.create`. Names may be written with `-`, `_` or `.`, as qemu-img's are.

    Raises OptionError that names the option.
    """

    def __init__(self, given: Mapping[str, object] = {}) -> None:
        known = self.declared()
        for written, value in given.items():
            name = written.replace("_", "-").replace(".", "-")
            option = known.get(name)
            if option is None:
                raise OptionError("there is no such option", name)
            try:
                self.__dict__[name.replace("-", "_")] = option.parse(value)
            except ValueError as error:
                raise OptionError(str(error), name) from error
        self.check_together()

    @classmethod
    def declared(cls) -> dict[str, Option[Any]]:
        """The options by their names, in their order."""
        return {
            option.name: option
            for kind in reversed(cls.__mro__)
            for option in vars(kind).values()
            if isinstance(option, Option)
        }

    def check_together(self) -> None:
        """Raises OptionError for values that exclude each other."""
