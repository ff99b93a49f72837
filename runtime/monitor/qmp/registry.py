"""Commands and events: names, what arguments they take, what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import IsagenError

ErrorClass = Literal["GenericError", "CommandNotFound", "DeviceNotFound", "DeviceNotActive"]


class QmpError(Exception):
    """A command that can't be done: what the client is told."""

    def __init__(self, what: str, kind: ErrorClass = "GenericError") -> None:
        super().__init__(what)
        self.kind = kind


def _hyphens(name: str) -> str:
    return name.replace("_", "-")


class Arguments(BaseModel):
    """A command's arguments, or an event's data. Their names on the wire have hyphens."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=_hyphens, populate_by_name=True)


class Value(BaseModel):
    """What a command returns. Fields that are None are left out."""

    model_config = ConfigDict(alias_generator=_hyphens, populate_by_name=True)


class Spelled(Value):
    """The same with the names' underscores."""

    model_config = ConfigDict(alias_generator=None)


class Nothing(Arguments):
    """No arguments."""


@dataclass(frozen=True, slots=True)
class Command:
    """`call` gets a validated `arguments` and returns what `returns` describes (None: an empty object)."""

    name: str
    call: Callable[[Any], Any]
    arguments: type[Arguments] = Nothing
    returns: Any = None


class Registry:
    """The commands and events of a server."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.events: dict[str, type[Arguments]] = {}

    def add(
        self,
        name: str,
        call: Callable[[Any], Any],
        arguments: type[Arguments] = Nothing,
        returns: Any = None,
    ) -> None:
        """Offer a command."""
        self.commands[name] = Command(name, call, arguments, returns)

    def execute(self, name: str, arguments: dict[str, Any]) -> Any:
        """The JSON value that a command returns. Raises QmpError."""
        command = self.commands.get(name)
        if command is None:
            raise QmpError(f"there is no command {name!r}", "CommandNotFound")
        try:
            checked = command.arguments.model_validate(arguments)
        except ValidationError as error:
            raise QmpError("; ".join(map(_complaint, error.errors()))) from None
        try:
            return plain(command.call(checked))
        except (IsagenError, OSError) as error:
            raise QmpError(str(error)) from error


def _complaint(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    kind = item["type"]
    if kind == "missing":
        return f"parameter '{name}' is missing"
    if kind == "extra_forbidden":
        return f"parameter '{name}' isn't expected"
    return f"parameter '{name}': {item['msg'][:1].lower()}{item['msg'][1:]}"


def plain(value: Any) -> Any:
    """A returned value as JSON's types."""
    if value is None:
        return {}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
