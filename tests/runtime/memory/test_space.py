"""Address spaces: mapping, replacing, contents, and the table that native code reads."""

from __future__ import annotations

import ctypes
import struct
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.errors import IsagenError
from runtime.memory import regions
from runtime.memory.space import AddressError, AddressSpace, Ram

PAGE = 4096


class Listener:
    """Stands for a CPU that decoded code from all pages."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def forget_code(self, host: int, size: int) -> None:
        self.told.append((host, size))


def table(space: AddressSpace) -> list[tuple[int, int, int, int, int]]:
    """The entries: first and last address, host address, kind, host address of flags."""
    _, count, entries = struct.unpack("=QQQ", ctypes.string_at(space.table, 24))
    data = ctypes.string_at(entries, count * regions.ENTRY_SIZE)
    return [struct.unpack_from("=QQQQQ", data, n * regions.ENTRY_SIZE) for n in range(count)]


@pytest.mark.parametrize(
    ("start", "size"),
    [(1, PAGE), (0, 100), (0, 0), (-PAGE, PAGE), (1 << 64, PAGE), ((1 << 64) - PAGE, 2 * PAGE)],
)
def test_ranges_that_are_not_whole_pages_of_the_space(start: int, size: int) -> None:
    space = AddressSpace()
    for change in (space.map, space.unmap):
        with pytest.raises(AddressError):
            change(start, size)


def test_the_last_page_of_all_can_be_mapped() -> None:
    space = AddressSpace()
    last = (1 << 64) - PAGE
    space.map(last, PAGE)
    space.write(last + 4092, b"last")
    assert space.read(last + 4092, 4) == b"last"
    assert table(space)[0][:2] == (last, (1 << 64) - 1)


def test_more_memory_than_the_host_has_is_refused_with_an_error() -> None:
    with pytest.raises(IsagenError, match="the host has no"):
        AddressSpace().map(0, 1 << 62)


def test_a_write_with_a_hole_writes_nothing() -> None:
    space = AddressSpace()
    space.map(0, PAGE)
    space.map(2 * PAGE, PAGE)
    with pytest.raises(AddressError) as error:
        space.write(0, b"x" * (3 * PAGE))
    assert error.value.address == PAGE
    assert space.read(0, PAGE) == bytes(PAGE)


def test_the_same_ram_at_two_places() -> None:
    space = AddressSpace()
    ram = Ram(2 * PAGE, shared=True)
    space.map_ram(0, ram)
    space.map_ram(0x10000, ram, offset=PAGE, size=PAGE)
    space.write(PAGE, b"both")
    assert space.read(0x10000, 4) == b"both"
    first, second = table(space)
    assert second[4] == first[4] + 1  # one flag byte a page, the same for both places
    with pytest.raises(AddressError):
        space.map_ram(0, ram, offset=PAGE, size=2 * PAGE)


def test_devices_take_whole_pages_from_ram() -> None:
    space = AddressSpace()
    space.map(0, 4 * PAGE)
    with pytest.raises(AddressError):
        space.map_device(PAGE + 16, 16)
    space.map_device(PAGE, PAGE)
    assert [(r.start, r.size, r.ram is None) for r in space] == [
        (0, PAGE, False), (PAGE, PAGE, True), (2 * PAGE, 2 * PAGE, False),
    ]  # fmt: skip
    with pytest.raises(AddressError):
        space.read(PAGE, 1)


def test_cpus_are_told_of_changed_code() -> None:
    space, listener = AddressSpace(), Listener()
    space.map(0, 4 * PAGE)
    space.attach(listener)
    space.write(0, b"no code here")
    assert listener.told == []
    flags, host = table(space)[0][4], table(space)[0][2]
    ctypes.memset(flags + 2, regions.PAGE_CODE, 1)
    space.write(PAGE, bytes(PAGE))
    assert listener.told == []
    space.write(2 * PAGE + 8, b"code")
    assert listener.told.pop() == (host + 2 * PAGE + 8, 4)
    space.protect(2 * PAGE, PAGE, regions.READ)
    assert listener.told.pop() == (host + 2 * PAGE, PAGE)
    space.unmap(PAGE, 2 * PAGE)
    assert listener.told.pop() == (host + 2 * PAGE, PAGE)  # the page with code is a region of its own by now


def test_unmapped_memory_comes_back_as_zeros() -> None:
    space = AddressSpace()
    space.map(0, 4 * PAGE)
    space.write(0, b"a" * 4 * PAGE)
    space.unmap(PAGE, PAGE)
    space.map(PAGE, PAGE)
    assert space.read(0, 4 * PAGE) == b"a" * PAGE + bytes(PAGE) + b"a" * 2 * PAGE


PAGES = st.integers(0, 15)
LENGTHS = st.integers(1, 6)


class Model(RuleBasedStateMachine):
    """Random changes against a dictionary of pages: permissions and contents."""

    def __init__(self) -> None:
        super().__init__()
        self.space = AddressSpace()
        self.pages: dict[int, tuple[int, bytes]] = {}
        self.count = 0

    @rule(first=PAGES, length=LENGTHS, permissions=st.integers(0, 7))
    def map(self, first: int, length: int, permissions: int) -> None:
        self.space.map(first * PAGE, length * PAGE, permissions)
        self.pages.update({page: (permissions, bytes(4)) for page in range(first, first + length)})

    @rule(first=PAGES, length=LENGTHS)
    def unmap(self, first: int, length: int) -> None:
        self.space.unmap(first * PAGE, length * PAGE)
        for page in range(first, first + length):
            self.pages.pop(page, None)

    @rule(first=PAGES, length=LENGTHS, permissions=st.integers(0, 7))
    def protect(self, first: int, length: int, permissions: int) -> None:
        self.space.protect(first * PAGE, length * PAGE, permissions)
        for page in range(first, first + length):
            if page in self.pages:
                self.pages[page] = permissions, self.pages[page][1]

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(sorted(self.pages)))
        self.count += 1
        content = self.count.to_bytes(4, "little")
        self.space.write(page * PAGE + 100, content)
        self.pages[page] = self.pages[page][0], content

    @invariant()
    def same(self) -> None:
        found = {}
        entries = table(self.space)
        for first, last, host, kind, _ in entries:
            for page in range(first // PAGE, (last + 1) // PAGE):
                found[page] = kind, ctypes.string_at(host + page * PAGE - first + 100, 4)
        assert found == self.pages
        assert all(a[1] < b[0] for a, b in pairwise(entries))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
