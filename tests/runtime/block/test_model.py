"""Any sequence of requests gives what it gives on an array of bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from runtime.block.node import FormatNode
from tests.runtime.block.cases import CASES, Case, case_id
from tests.runtime.block.guest import Guest
from tests.runtime.block.recorder import Files
from tests.runtime.block.test_crash import prepare

SEEDS = st.integers(0, 2**32 - 1)


def machine(case: Case) -> type[RuleBasedStateMachine]:
    """The rules for one format."""

    class Machine(RuleBasedStateMachine):
        files: Files
        node: FormatNode
        guest: Guest

        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[str, bytes] = {}
            self.names = 0

        @initialize(seed=SEEDS)
        def start(self, seed: int) -> None:
            rng = random.Random(seed)
            self.files, content = prepare(case, rng)
            self.node = self.files.open("disk", case.format)
            self.guest = Guest(self.node, None, rng, content)

        @rule(times=st.integers(1, 6))
        def act(self, times: int) -> None:
            for _ in range(times):
                self.guest.act()

        @rule()
        def read(self) -> None:
            places = [self.guest.place() for _ in range(8)]
            assert self.node.pread_many(places) == [
                bytes(self.guest.content[offset : offset + length]) for offset, length in places
            ]

        @rule()
        def reopen(self) -> None:
            self.node.close()
            self.node = self.guest.node = self.files.open("disk", case.format)

        @precondition(lambda self: case.resizable)
        @rule(sectors=st.integers(1, 3 * case.size // 1024))
        def resize(self, sectors: int) -> None:
            size = sectors * 512
            self.node.resize(size, shrink=True)
            content = self.guest.content
            if size < len(content):
                del content[size:]
            else:
                content.extend(bytes(size - len(content)))
            assert self.node.length() == size

        @precondition(lambda self: case.snapshots and len(self.kept) < 4)
        @rule()
        def keep(self) -> None:
            self.names += 1
            self.node.snapshots.create(f"s{self.names}")
            self.kept[f"s{self.names}"] = bytes(self.guest.content)

        @precondition(lambda self: self.kept)
        @rule(data=st.data())
        def back(self, data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(sorted(self.kept)))
            self.node.snapshots.apply(name)
            self.guest.content[:] = self.kept[name]

        @precondition(lambda self: self.kept)
        @rule(data=st.data())
        def drop(self, data: st.DataObject) -> None:
            name = data.draw(st.sampled_from(sorted(self.kept)))
            self.node.snapshots.delete(name)
            del self.kept[name]

        @invariant()
        def holds(self) -> None:
            if not hasattr(self, "node"):
                return
            content = bytes(self.guest.content)
            assert self.node.pread(0, len(content)) == content

        def teardown(self) -> None:
            if not hasattr(self, "node"):
                return
            at = 0
            for extent in self.node.extents():
                assert extent.offset == at and extent.length > 0
                at = extent.end
                assert not extent.reads_zero or not any(self.guest.content[extent.offset : at])
            assert at == self.node.length()
            for name, content in self.kept.items():
                assert self.node.snapshots.open(name).pread(0, len(content)) == content
            self.node.close()
            with self.files.open("disk", case.format, writable=False) as disk:
                assert disk.pread(0, disk.length()) == bytes(self.guest.content)
                report = disk.check()
                assert report.exit_code == 0, report.problems[:3]

    return Machine


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_model(case: Case) -> None:
    run_state_machine_as_test(
        machine(case),
        settings=settings(
            max_examples=20,
            stateful_step_count=16,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
