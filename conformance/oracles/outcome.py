"""What became of an instruction, in terms that all machines share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["completed", "trap", "fault", "illegal", "other"]


@dataclass(frozen=True, slots=True)
class Ending:
    """completed; trap: `name`, `code` and `arguments`; fault: `arguments` are the first bad address and 0
    read, 1 write, 2 fetch; illegal: no such instruction; other: something that no instruction should do, told
    by `name`.
    """

    kind: Kind
    name: str = ""
    code: int = 0
    arguments: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.kind == "trap":
            values = ", ".join(hex(a) for a in self.arguments)
            return f"trap {self.name}({values}) code {self.code}" if self.name else f"trap code {self.code}"
        if self.kind == "fault":
            return f"{('read', 'write', 'fetch')[self.arguments[1]]} fault at {self.arguments[0]:#x}"
        return f"{self.kind} {self.name}".strip()


UNKNOWN = -1
"""The code of a trap that a peer doesn't tell."""
COMPLETED = Ending("completed")
