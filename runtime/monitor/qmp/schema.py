"""What ``query-qmp-schema`` returns: commands, events and their types (QEMU's QAPI schema, introspection)."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runtime.monitor.qmp.registry import Registry

BUILTIN: Final[dict[Any, tuple[str, str]]] = {
    bool: ("bool", "boolean"),
    int: ("int", "int"),
    float: ("number", "number"),
    str: ("str", "string"),
    Any: ("any", "value"),
    dict: ("any", "value"),
}
"""Python's type: QAPI's name, and JSON's type."""
EMPTY: Final = "q_empty"


class Describer:
    """Collects the schema's entities."""

    def __init__(self) -> None:
        self._entities: dict[str, dict[str, Any]] = {}

    def schema(self, registry: Registry) -> list[dict[str, Any]]:
        """All entities: commands and events first, then the types they use."""
        first: list[dict[str, Any]] = []
        self._object(EMPTY, {})
        for command in sorted(registry.commands.values(), key=lambda command: command.name):
            entity = {
                "name": command.name,
                "meta-type": "command",
                "arg-type": self._type(command.arguments),
                "ret-type": EMPTY if command.returns is None else self._type(command.returns),
            }
            first.append(entity)
        for name, data in sorted(registry.events.items()):
            first.append({"name": name, "meta-type": "event", "arg-type": self._type(data)})
        return [*first, *self._entities.values()]

    def _type(self, annotation: Any) -> str:
        """The name of a type, which is described if it wasn't yet."""
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            return self._type(typing.get_args(annotation)[0])
        if origin in (list, tuple):
            element = self._type(typing.get_args(annotation)[0])
            name = f"[{element}]"
            self._entities.setdefault(name, {"name": name, "meta-type": "array", "element-type": element})
            return name
        if origin is Literal:
            return self._enum("|".join(typing.get_args(annotation)), typing.get_args(annotation))
        if origin in (typing.Union, types.UnionType):
            rest = [item for item in typing.get_args(annotation) if item is not type(None)]
            return self._type(rest[0]) if len(rest) == 1 else self._builtin(Any)
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return self._enum(annotation.__name__, [member.value for member in annotation])
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            name = annotation.__name__ if annotation.model_fields else EMPTY
            if name not in self._entities:
                self._object(name, annotation.model_fields)
            return name
        return self._builtin(origin or annotation)

    def _builtin(self, kind: Any) -> str:
        name, json_type = BUILTIN.get(kind, BUILTIN[Any])
        self._entities.setdefault(name, {"name": name, "meta-type": "builtin", "json-type": json_type})
        return name

    def _enum(self, name: str, values: Any) -> str:
        entity = {"name": name, "meta-type": "enum", "members": [{"name": v} for v in values]}
        self._entities.setdefault(name, {**entity, "values": list(values)})
        return name

    def _object(self, name: str, fields: dict[str, FieldInfo]) -> None:
        members: list[dict[str, Any]] = []
        self._entities[name] = {"name": name, "meta-type": "object", "members": members}
        for field_name, field in fields.items():
            member: dict[str, Any] = {
                "name": field.alias or field_name,
                "type": self._type(field.annotation),
            }
            if not field.is_required():
                member["default"] = None
            members.append(member)
