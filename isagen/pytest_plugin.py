"""A plugin of pytest: the fixture `vm` is a machine that the test's marker describes.

    @pytest.mark.vm(kernel="Image", append="console=ttyS0", until="login:")
    def test_login(vm):
        vm.console.send("root\\n")
        vm.console.expect("#")

The marker takes what `isagen.Machine` takes; markers of the class and the module are laid under the test's.
With `until` (a regular expression) the machine is booted once in the session, until that appears; each test
with the same settings begins there, from a snapshot. Where a test fails, its report shows what came last from
the serial port.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from isagen.machine import Machine
    from runtime.state.snapshot import Snapshot

MARKER = "vm"
SHOWN = 4000
"""Characters of the serial port that a report shows."""
Key = str


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "vm(board='virt', until=None, **settings): the machine that the fixture vm is"
    )


def settings_of(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the markers say, the nearest one last."""
    found: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(MARKER))):
        if mark.args:
            found["board"] = mark.args[0]
        found |= mark.kwargs
    return found


class Booted:
    """Machines that tests share, and where they begin."""

    def __init__(self) -> None:
        self._machines: dict[Key, tuple[Machine, Snapshot]] = {}
        self._stack = ExitStack()

    def at(self, until: str, timeout: float, settings: dict[str, Any]) -> Machine:
        """A machine that has come so far."""
        from isagen.machine import Machine

        key = repr((until, sorted(settings.items(), key=lambda item: item[0])))
        if key not in self._machines:
            with ExitStack() as opened:
                machine = opened.enter_context(Machine(**settings))
                machine.console.expect(until, timeout=timeout)
                self._machines[key] = machine, machine.snapshot()
                self._stack.push(opened.pop_all())
        machine, snapshot = self._machines[key]
        machine.restore(snapshot)
        machine.console.clear()
        return machine

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def _booted_machines() -> Iterator[Booted]:
    booted = Booted()
    yield booted
    booted.close()


@pytest.fixture
def vm(request: pytest.FixtureRequest, _booted_machines: Booted) -> Iterator[Machine]:
    """The machine that the marker `vm` describes."""
    from isagen.machine import Machine

    settings = settings_of(request)
    until = settings.pop("until", None)
    timeout = settings.pop("timeout", 120.0)
    with ExitStack() as stack:
        if until is None:
            machine = stack.enter_context(Machine(**settings))
        else:
            drives = settings.get("drive", ())
            if any(not (drive.get("read_only") or drive.get("snapshot")) for drive in drives):
                pytest.fail("tests that share a boot (until=...) need drives with read_only or snapshot")
            machine = _booted_machines.at(until, timeout, settings)
        request.node.stash[CONSOLE] = machine
        yield machine


CONSOLE = pytest.StashKey[Any]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    machine = item.stash.get(CONSOLE, None)
    if call.when == "call" and report.failed and machine is not None:
        report.sections.append(("serial port of vm", machine.console.text[-SHOWN:]))
    return report
