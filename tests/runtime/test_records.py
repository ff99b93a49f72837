"""Records do what dataclasses do."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest

from runtime import records


def classes(maker: Any, item: Any) -> tuple[Any, Any]:
    """A class and one that is made of it, by either of the two."""

    @maker
    class Base:
        kind: ClassVar[str] = "base"
        size: int
        name: str = "none"
        parts: list[int] = item(default_factory=list)

    @maker(frozen=True)
    class Frozen:
        first: int
        second: tuple[int, ...] = ()
        hidden: int = item(default=7, repr=False, metadata={"exclude": True})

    return Base, Frozen


PAIRS = list(
    zip(
        classes(dataclasses.dataclass, dataclasses.field),
        classes(records.record, records.field),
        strict=True,
    )
)


@pytest.mark.parametrize(
    "words, named", [((1,), {}), ((1, "x"), {}), ((), {"size": 3, "parts": [4]}), ((1, "x", [2]), {})]
)
def test_the_same_values(words: tuple[Any, ...], named: dict[str, Any]) -> None:
    theirs, ours = (kind(*words, **named) for kind in PAIRS[0])
    assert records.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs)
    changed = records.replace(ours, name="y")
    assert records.asdict(changed) == dataclasses.asdict(dataclasses.replace(theirs, name="y"))
    assert changed != ours and ours == PAIRS[0][1](*words, **named)
    assert ours.kind == "base" and type(ours)(1).parts is not type(ours)(1).parts


@pytest.mark.parametrize("kind", PAIRS[0])
@pytest.mark.parametrize(
    "words, named",
    [((), {}), ((1, "x", [], 4), {}), ((1,), {"size": 2}), ((1,), {"other": 2}), ((), {"name": ""})],
)
def test_wrong_values(kind: Any, words: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        kind(*words, **named)


@pytest.mark.parametrize("kind", PAIRS[1])
def test_frozen(kind: Any) -> None:
    made = kind(1, (2,))
    assert hash(made) == hash(kind(1, (2,))) and {made: 1}[kind(1, (2,))] == 1
    with pytest.raises(AttributeError):
        made.first = 2
    with pytest.raises(AttributeError):
        del made.first
    assert "hidden" not in repr(made) and made.hidden == 7
    with pytest.raises(TypeError):
        hash(PAIRS[0][0](1))
    with pytest.raises(TypeError):
        hash(PAIRS[0][1](1))


def test_fields() -> None:
    for theirs, ours in PAIRS:
        expected = [(item.name, dict(item.metadata)) for item in dataclasses.fields(theirs)]
        assert [(item.name, dict(item.metadata)) for item in records.fields(ours)] == expected
        assert list(records.names_of(ours)) == [name for name, _ in expected]


def test_a_class_of_a_class() -> None:
    @records.record
    class Under(PAIRS[0][1]):  # type: ignore[misc]
        more: int = 5

    made = Under(1, "a", [], 6)
    assert records.asdict(made) == {"size": 1, "name": "a", "parts": [], "more": 6}
    assert made != PAIRS[0][1](1, "a", [])
