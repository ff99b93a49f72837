"""Classes that only hold values: what `dataclasses` makes of annotations, without what that costs.

Importing `dataclasses` (it brings `inspect`, `ast`, `tokenize`, ...) and the code that it compiles for each
class took 18 of the 64 ms that converting a small disk image takes. Here all classes share their methods.
Names and meaning are those of `dataclasses`; type checkers know that by `dataclass_transform` (PEP 681).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, dataclass_transform, overload

Kind = TypeVar("Kind")
Made = TypeVar("Made")

_MISSING: Any = object()


class Field:
    """One value of a record. `metadata` is for whoever reads `fields`."""

    __slots__ = ("default", "default_factory", "metadata", "name", "repr")

    def __init__(self, default: Any, default_factory: Any, metadata: Mapping[str, Any], repr: bool) -> None:
        self.name = ""
        self.default = default
        self.default_factory = default_factory
        self.metadata = metadata
        self.repr = repr


def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] = _MISSING,
    metadata: Mapping[str, Any] | None = None,
    repr: bool = True,
) -> Any:
    """A field that needs more than a default. `repr`: show it."""
    return Field(default, default_factory, metadata or {}, repr)


@overload
def record(cls: type[Kind], /) -> type[Kind]: ...
@overload
def record(*, frozen: bool = False) -> Callable[[type[Kind]], type[Kind]]: ...
@dataclass_transform(field_specifiers=(field,))
def record(cls: type[Any] | None = None, /, *, frozen: bool = False) -> Any:
    """Make a class of the annotations in its body and in its bases': arguments in their order, comparable,
    printable. `frozen`: values can't be set afterwards, and it can be hashed.
    """
    if cls is None:
        return lambda cls: _made(cls, frozen)
    return _made(cls, frozen)


def _made(cls: type[Any], frozen: bool) -> type[Any]:
    found: dict[str, Field] = dict(getattr(cls, "__fields__", {}))
    for name, annotation in cls.__annotations__.items():
        if str(annotation).startswith("ClassVar"):
            continue
        value = cls.__dict__.get(name, _MISSING)
        if not isinstance(value, Field):
            value = field(default=value)
        elif value.default is _MISSING:
            delattr(cls, name)
        else:
            setattr(cls, name, value.default)
        value.name = name
        found[name] = value
    cls.__fields__ = found
    methods: list[Any] = [__init__, __repr__, __eq__]
    if frozen:
        methods += [__setattr__, __delattr__, __hash__]
    else:
        cls.__hash__ = None  # type: ignore[assignment]
    for method in methods:
        if method.__name__ not in cls.__dict__:
            setattr(cls, method.__name__, method)
    return cls


def __init__(self: Any, *values: Any, **named: Any) -> None:
    names = self.__fields__
    if len(values) > len(names):
        raise TypeError(f"{type(self).__name__}() takes {len(names)} values, not {len(values)}")
    have = self.__dict__
    have.update(zip(names, values, strict=False))
    for name, value in named.items():
        if name not in names or name in have:
            raise TypeError(f"{type(self).__name__}() got {name!r} twice, or has no such value")
        have[name] = value
    if len(have) < len(names):
        for name, item in names.items():
            if name not in have:
                have[name] = item.default if item.default_factory is _MISSING else item.default_factory()
                if have[name] is _MISSING:
                    raise TypeError(f"{type(self).__name__}() misses {name!r}")


def __repr__(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, item in self.__fields__.items() if item.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def __eq__(self: Any, other: object) -> bool:
    if type(other) is not type(self):
        return NotImplemented
    return bool(vars(self) == vars(other))


def __hash__(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self.__fields__))


def __setattr__(self: Any, name: str, value: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} can't be set")


def __delattr__(self: Any, name: str) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} can't be deleted")


def fields(made: Any) -> tuple[Field, ...]:
    """The fields of a record or its class, in their order."""
    return tuple(made.__fields__.values())


def names_of(made: Any) -> tuple[str, ...]:
    """The names of these fields."""
    return tuple(made.__fields__)


def replace(made: Made, **changes: Any) -> Made:
    """A record like this one but for some values."""
    return type(made)(**{name: getattr(made, name) for name in names_of(made)} | changes)


def asdict(made: Any) -> dict[str, Any]:
    """The values by name, those of records among them (and in lists) too."""
    return {name: _plain(getattr(made, name)) for name in names_of(made)}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return asdict(value) if hasattr(type(value), "__fields__") else value
