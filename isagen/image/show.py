"""How image commands print sizes, options, progress and JSON."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from runtime.block.jobs.progress import Progress
    from runtime.block.options import CreateOptions

_PATIENCE = 0.4


def human_size(count: int) -> str:
    """The size with a unit, at most three digits, as qemu-img writes it."""
    value, unit = float(count), "B"
    for name in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1000:
            break
        value, unit = value / 1024, name
    return f"{value:.3g} {unit}"


def print_json(value: object) -> None:
    import json

    json.dump(value, sys.stdout, indent=4)
    sys.stdout.write("\n")


def print_options(format: str, options: type[CreateOptions]) -> None:
    """A driver's create options."""
    print(f"Supported {format} options:")
    for name, option in options.declared().items():
        default = "" if option.default is None else f" (default: {shown_default(option.default)})"
        print(f"  {name}=<{option.kind}>{default}")


def shown_default(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


class _Display:
    """A progress bar that appears only when the work takes a while; plain lines where there's no terminal."""

    def __init__(self, title: str, terminal: bool) -> None:
        self._title = title
        self._terminal = terminal
        self._start = time.monotonic()
        self._shown = self._start + _PATIENCE if terminal else 0.0
        self._finished = False
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        finished = done >= total and not self._finished and not self._terminal
        if now < self._shown and not finished:
            return
        if not self._terminal:
            self._finished = done >= total
            self._shown = now + 1.0
            percent = 100 * done / total if total else 100.0
            rate = done / max(now - self._start, 1e-9)
            left = (total - done) / rate if rate else 0.0
            sys.stderr.write(f"    ({percent:.2f}/100%)  {human_size(int(rate))}/s, {left:.0f} s left\n")
            return
        if self._bar is None:
            self._bar, self._task = self._open(total)
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total)
        self._shown = now + 0.1

    def _open(self, total: int) -> tuple[Bar, TaskID]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        bar.start()
        return bar, bar.add_task(self._title, total=total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress(arguments: argparse.Namespace, title: str) -> Iterator[Progress]:
    """A function that shows progress on standard error, if somebody looks or ``-p`` asks for it."""
    from runtime.block.jobs.progress import silent

    terminal = sys.stderr.isatty()
    if getattr(arguments, "quiet", False) or not (terminal or arguments.progress):
        yield silent
        return
    display = _Display(title, terminal)
    try:
        yield display
    finally:
        display.close()
