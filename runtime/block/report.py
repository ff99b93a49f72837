"""What images tell about themselves: information and the results of checks. `--json` writes these models.

The JSON names are those of `qemu-img --output json`, so that scripts written for it read ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from runtime.records import field, fields, record

Check = TypeVar("Check", bound="Callable[..., CheckReport]")
MOST_CORRUPTIONS = 1 << 15
MOST_TOLD = 1000  # problems of which a report has the text
"""A check that mends nothing stops here: nobody reads on, and an image made to keep us busy has many more."""


class _Report:
    """Base of the reports. They are made of values that we checked ourselves, so plain records do:
    loading pydantic would take longer than most checks.
    """

    def as_json(self) -> dict[str, Any]:
        """JSON values under their JSON names; what isn't known is left out."""
        result = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and not item.metadata.get("exclude"):
                result[item.name.replace("_", "-")] = _plain(value)
        return result


def _plain(value: Any) -> Any:
    if isinstance(value, _Report):
        return value.as_json()
    return [_plain(item) for item in value] if isinstance(value, list) else value


@record
class SnapshotInfo(_Report):
    """An internal snapshot."""

    id: str
    name: str
    vm_state_size: int = 0  # bytes
    date_sec: int = 0  # seconds since 1970, UTC
    date_nsec: int = 0
    vm_clock_sec: int = 0  # guest time
    vm_clock_nsec: int = 0
    icount: int | None = None
    disk_size: int | None = field(default=None, metadata={"exclude": True})  # bytes


@record
class ImageInfo(_Report):
    """What `isagen image info` shows. Sizes are bytes."""

    filename: str
    format: str
    virtual_size: int
    actual_size: int
    cluster_size: int | None = None
    encrypted: bool | None = None
    compressed: bool | None = None
    dirty_flag: bool = False
    backing_filename: str | None = None  # as the image has it
    full_backing_filename: str | None = None
    backing_filename_format: str | None = None
    snapshots: list[SnapshotInfo] | None = None
    format_specific: dict[str, Any] | None = None


@record
class Problem(_Report):
    """One thing that a check found wrong."""

    kind: str  # "corruption", "leak" or "error"
    text: str
    offset: int | None = None  # of the field or cluster in the file, bytes
    fixed: bool = False


@record
class CheckReport(_Report):
    """The result of a check. Counters are what is left wrong after the repair, as qemu-img's are."""

    filename: str
    format: str
    check_errors: int = 0  # places that couldn't be checked
    corruptions: int = 0
    leaks: int = 0
    corruptions_fixed: int = 0
    leaks_fixed: int = 0
    image_end_offset: int | None = None
    total_clusters: int | None = None
    allocated_clusters: int | None = None
    fragmented_clusters: int | None = None
    compressed_clusters: int | None = None
    problems: list[Problem] = field(default_factory=list)  # the first thousand
    stops: bool = field(default=False, metadata={"exclude": True})  # at MOST_CORRUPTIONS, by CheckStopped

    def note(
        self, kind: str, text: str, *, offset: int | None = None, fixed: bool = False, count: int = 1
    ) -> None:
        """Count `count` problems and keep the text of the first thousand."""
        if kind == "leak":
            if fixed:
                self.leaks_fixed += count
            else:
                self.leaks += count
        elif kind == "corruption":
            if fixed:
                self.corruptions_fixed += count
            else:
                self.corruptions += count
        else:
            self.check_errors += count
        if len(self.problems) < MOST_TOLD:
            self.problems.append(Problem(kind=kind, text=text, offset=offset, fixed=fixed))
        if self.stops and self.corruptions >= MOST_CORRUPTIONS:
            self.problems.append(Problem("corruption", "there is so much wrong that the rest wasn't checked"))
            raise CheckStopped(self)

    @property
    def exit_code(self) -> int:
        """qemu-img check's: 0 clean, 1 the check itself failed, 2 corruptions left, 3 only leaks left."""
        if self.check_errors:
            return 1
        if self.corruptions:
            return 2
        return 3 if self.leaks else 0


class CheckStopped(Exception):
    """There is too much wrong to go on. `report` says what was found."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__(report.filename)
        self.report = report


def may_stop(check: Check) -> Check:
    """For the `check` of a node: it ends early where its report says so."""

    @wraps(check)
    def checked(*arguments: Any, **options: Any) -> CheckReport:
        try:
            return check(*arguments, **options)
        except CheckStopped as stop:
            return stop.report

    return cast(Check, checked)
