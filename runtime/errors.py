"""The runtime's errors. Each says what is wrong, where, and what to do about it."""

from __future__ import annotations


class IsagenError(Exception):
    """Root of the errors that the runtime raises for input it can't use.

    `what` is a sentence without a full stop; `where` names the file, offset, address or option; `remedy` says
    what to do.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{place}{self.what}{remedy}"


class NotYetError(IsagenError):
    """Something that is planned and isn't there yet."""
