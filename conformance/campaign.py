"""Runs tasks: in this process, in several, or on a Dask cluster; rows come as they are ready."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from typing import Final

from conformance.results import Failure, Row
from conformance.setup import Setup
from conformance.tasks import SUITES, Options, Task, command_for, run_task
from runtime.errors import IsagenError

TASKS_PER_SUITE: Final = 48
"""About as many tasks a target and suite are made, so that many machines have something to do."""


def plan(setups: Sequence[Setup], suites: Sequence[str], options: Options) -> list[Task]:
    """The tasks of a campaign. Raises `IsagenError` if no item fits `options.forms`."""
    tasks = []
    for setup in setups:
        for suite in suites:
            names = importlib.import_module(SUITES[suite]).items(setup, options)
            size = max(1, -(-len(names) // TASKS_PER_SUITE))
            tasks += [
                Task(suite, setup, options, tuple(names[i : i + size])) for i in range(0, len(names), size)
            ]
    if not tasks:
        targets = ", ".join(setup.name for setup in setups)
        raise IsagenError(
            f"nothing to run: no item fits {options.forms!r}", where=targets, remedy="see --forms and --suite"
        )
    return tasks


def guarded(task: Task) -> list[Row]:
    """Run a task. A mistake in the program becomes a failed row that names it, so that the campaign
    goes on.
    """
    try:
        return run_task(task)
    except Exception as error:
        if any(kind.__name__ == "IsagenError" for kind in type(error).__mro__):
            raise
        import traceback

        row = Row(task.suite, task.setup.name, ", ".join(task.items))
        lines = traceback.format_exc().splitlines()[-7:]
        row.fail(Failure("the test program itself", type(error).__name__, tuple(lines), ""))
        return [row]


Work = Callable[[Task], list[Row]]


def run_local(tasks: Sequence[Task], jobs: int, work: Work = guarded) -> Iterator[list[Row]]:
    """The tasks' rows, from `jobs` processes that aren't this one: a peer may crash its own."""
    left = list(tasks)
    while left:
        count = min(jobs, len(left))
        with (
            suppress(BrokenProcessPool),
            ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool,
        ):
            futures = {pool.submit(work, task): task for task in left}
            try:
                for future in as_completed(futures):
                    rows = future.result()
                    left.remove(futures[future])
                    yield rows
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        # What is left means that a process died. Tasks start in order: it ran one of the first.
        suspects, left = left[:count], left[count:]
        for task in suspects:
            yield run_alone(task, work)


def run_alone(task: Task, work: Work) -> list[Row]:
    """Run each item of a task in a process of its own; one that dies gives a failed row."""
    rows: list[Row] = []
    for item in task.items:
        single = replace(task, items=(item,))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                rows += pool.submit(work, single).result()
            except BrokenProcessPool:
                row = Row(task.suite, task.setup.name, item)
                row.fail(
                    Failure("the host", item, ("the process that ran it died",), command_for(task, item))
                )
                rows.append(row)
    return rows


def run_on_cluster(tasks: Sequence[Task], address: str) -> Iterator[list[Row]]:
    """The tasks' rows, from the Dask cluster at `address`, whose workers need this project and the same built
    targets.

    Raises `IsagenError` if Dask is absent, nothing answers, or the workers can't run the tasks.
    """
    try:
        from dask.distributed import Client
        from dask.distributed import as_completed as completed
    except ImportError:
        raise IsagenError("--scheduler needs Dask", remedy="pip install 'isagen[cluster]'") from None
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise IsagenError(f"no Dask scheduler answers ({error})", where=address) from None
    with client:
        futures = client.map(guarded, tasks, pure=False, retries=1)
        try:
            for future in completed(futures, loop=client.loop):
                yield future.result()
        finally:
            client.cancel(futures)
