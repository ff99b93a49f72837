"""The memory balloon (virtio 1.2, section 5.5): the guest gives memory back, and takes it again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Final

from runtime.devices.virtio.device import VirtioDevice
from runtime.devices.virtio.memory import GuestMemory
from runtime.devices.virtio.queue import Chain

F_STATISTICS: Final = 1 << 1
F_DEFLATE_ON_OOM: Final = 1 << 2
F_REPORTING: Final = 1 << 5
INFLATE, DEFLATE, STATISTICS = 0, 1, 2
PAGE: Final = 4096
ACTUAL_PLACE: Final = 4
LARGEST: Final = 1 << 18
"""Most bytes of page numbers that are looked at in a request."""
STATISTIC: Final = struct.Struct("<HQ")
NAMES: Final = (
    *("swapped-in", "swapped-out", "major-faults", "minor-faults", "free-memory", "total-memory"),
    *("available-memory", "disk-caches", "hugetlb-allocations", "hugetlb-failures"),
)
"""Statistics by tag (5.5.6.3); memory in bytes."""


class Balloon(VirtioDevice):
    """`total`: bytes of the guest's memory. `on_change` is called when the guest gave or took some."""

    device_id: ClassVar = 5
    queue_count = 4
    largest_request: ClassVar = 1 << 48  # free memory is reported as buffers, which aren't read

    def __init__(self, memory: GuestMemory, total: int) -> None:
        super().__init__()
        self._memory = memory
        self._total = total
        self._wanted = 0
        self._given = 0
        self._held: int | None = None
        self._asked = False
        self.statistics: dict[str, int] = {}
        """What the guest said last, by `NAMES`."""
        self.on_change: Callable[[], None] = lambda: None

    @property
    def offered(self) -> int:
        return F_STATISTICS | F_DEFLATE_ON_OOM | F_REPORTING

    # --- the host's side --------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes that the guest has."""
        return max(0, self._total - self._given * PAGE)

    @property
    def target(self) -> int:
        """Bytes that it is asked to make do with."""
        return self._total - self._wanted * PAGE

    @target.setter
    def target(self, size: int) -> None:
        self._wanted = (self._total - max(0, min(size, self._total))) // PAGE
        self.config_changed()

    def ask(self) -> None:
        """Ask the guest for new statistics; they are there soon after it runs on."""
        self._asked = True
        self.kick(STATISTICS)

    # --- the guest's side -------------------------------------------------------------------------------

    def config(self) -> bytes:
        return struct.pack("<4I", self._wanted, self._given, 0, 0)

    def write_config(self, offset: int, data: bytes) -> None:
        if ACTUAL_PLACE <= offset < ACTUAL_PLACE + 4:
            given = bytearray(struct.pack("<I", self._given))
            given[offset - ACTUAL_PLACE : offset - ACTUAL_PLACE + len(data)] = data
            self._given = struct.unpack_from("<I", given)[0]
            self.on_change()

    def notify(self, queue: int) -> None:
        statistics = STATISTICS if self.features & F_STATISTICS else None
        if queue == statistics:
            self._take_statistics()
            return
        reporting = 3 if statistics is not None else 2
        for chain in self.queues[queue].requests():
            if queue == INFLATE:
                self._inflate(chain.read(LARGEST))
            elif queue == reporting and self.features & F_REPORTING:
                self._report(chain.writable)
            self.queues[queue].complete(chain)
        self.used(self.queues[queue])

    def _inflate(self, numbers: bytes) -> None:
        """Pages that the guest won't use (5.5.6)."""
        pages = struct.unpack(f"<{len(numbers) // 4}I", numbers[: len(numbers) // 4 * 4])
        for first, count in _ranges(sorted(set(pages))):
            self._memory.discard(first * PAGE, count * PAGE)

    def _report(self, places: Iterable[tuple[int, int]]) -> None:
        """Pages that are free at the moment: they may read as zeros from now on (5.5.6.7)."""
        for address, length in places:
            start, end = -(-address // PAGE) * PAGE, (address + length) // PAGE * PAGE
            if start < end:
                self._memory.discard(start, end - start)

    def _take_statistics(self) -> None:
        """The driver fills a buffer, which we keep until we want new ones (5.5.6.3)."""
        queue = self.queues[STATISTICS]
        if self._asked:
            self._asked = False
            self._give_back()
        while (chain := queue.next_request()) is not None:
            self._give_back()
            data = chain.read(STATISTIC.size * 64)
            for tag, value in STATISTIC.iter_unpack(data[: len(data) // STATISTIC.size * STATISTIC.size]):
                if tag < len(NAMES):
                    self.statistics[NAMES[tag]] = value
            self._held = chain.head

    def _give_back(self) -> None:
        if self._held is not None:
            head, self._held = self._held, None
            self.queues[STATISTICS].complete(Chain(head, self._memory))
            self.used(self.queues[STATISTICS])

    # --- state ------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._given, self._held = 0, None
        self.statistics = {}

    def save(self) -> dict[str, Any]:
        return {
            "wanted": self._wanted,
            "given": self._given,
            "held": self._held,
            "statistics": dict(self.statistics),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._wanted, self._given = int(state["wanted"]), int(state["given"])
        self._held = state["held"]
        self.statistics = dict(state["statistics"])


def _ranges(pages: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, count)."""
    start = 0
    for index in range(1, len(pages) + 1):
        if index == len(pages) or pages[index] != pages[index - 1] + 1:
            yield pages[start], index - start
            start = index
