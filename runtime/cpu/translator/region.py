"""Regions: which decoded instructions become one function, and where it goes on from them.

A region is found by walking decoded records from a hot one along everything that is known before execution:
what lies behind an instruction, and where its jumps lead. Its *description* (`Region.description`) holds no
host address, so that equal code gives equal descriptions, in this process or another: the cache's key.

A *node* is an instruction's record; in targets with delay slots a pair of records, the instruction's and what
is next. An *edge* says where one of a node's ends leads:

* a number: that node;
* ``["after", distance]``: out of the region, to the record `distance` bytes behind this one;
* ``["slot", at]``: out, to the record in the target slot at byte `at`;
* ``["find"]``: to an address known in execution only: the region's dynamic targets, else the jump cache;
* delay slots: ``["next"]``, ``["skip"]``, ``["delayed", at]``: out, to the record that is next, the one
  behind
  it, the one that is next and then the one in the slot.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from runtime.cpu import block, cache
from runtime.cpu.translator.deferred import deferral_of
from runtime.cpu.translator.loops import innermost_loops, loop_heads
from runtime.cpu.translator.template import Template, Templates

MAXIMUM_NODES: Final = 400
"""Instructions in a region."""
PEELED: Final = 64
"""Most instructions of a loop that `peel` takes."""
MAXIMUM_ACCESSES: Final = 160
"""Accesses to guest memory in a region: each costs an exit."""
NEAR: Final = 4096
"""Targets of a computed jump that are at most so many bytes away are taken for its own."""
MAXIMUM_DYNAMIC: Final = 64
"""Targets of computed jumps in a region."""
STRAIGHT: Final = 24
"""How far straight code is followed to see whether it is executed."""
SHORT: Final = 64
"""Where the limits end a region so few instructions behind an entry, it is none: see `Region.whole`."""
BEGINNINGS: Final = 4
"""Places before a hot record that are tried as a region's beginning."""
MAXIMUM_LINKS: Final = 8
"""Links that are followed from one record on."""

Edge: TypeAlias = "int | list[Any]"
Key: TypeAlias = tuple[int, int]
"""Host address of a record, and in targets with delay slots of the one that is next, else 0."""

_FORMATS: Final = {"i16": "=h", "i32": "=i", "i64": "=q", "register": "=H", "wide": "=H"}


class Code(Protocol):
    """What a region's former sees of a CPU's decoded code."""

    base: int
    memory: Any
    """The record arena: the host address of its first byte, and its bytes."""
    across: bool
    """Whether code of one page may rely on that of another: in user mode."""

    def op_of(self, record: int) -> int:
        """A record's operation, as it was before it became a region's head."""
        ...

    def pc_of(self, record: int) -> int:
        """The guest address of a record's instruction."""
        ...


class Node(NamedTuple):
    """An instruction of a region."""

    op: int
    slots: tuple[int, ...]
    """Values of the template's slots, in their order."""
    edges: tuple[tuple[str, Edge], ...]
    """Where its ends (but "leave") lead."""


class Region:
    """A region, and where its records lie in this process."""

    def __init__(
        self, nodes: list[Node], entries: list[int], dynamic: list[tuple[int, int]], pages: list[int]
    ) -> None:
        self.nodes = nodes
        self.entries = entries
        """Nodes where it may be entered."""
        self.dynamic = dynamic
        """Targets of jumps to computed addresses: guest address, node."""
        self.pages = pages
        """Nodes, one for each page: if their records are stale, the page was dropped."""
        self.whole: set[int] = set()
        """Entries from which execution never comes to where the limits of its size ended the region. What
        begins at the others is better off with a region of its own.
        """
        self.records: list[Key] = []
        self.pcs: list[int] = []
        """Guest addresses of the nodes' instructions."""

    def description(self) -> str:
        """Everything that the region's code depends on but the target and mode: JSON."""
        nodes = [[node.op, node.slots, node.edges] for node in self.nodes]
        return json.dumps([nodes, self.entries, self.dynamic, self.pages], separators=(",", ":"))


def peel(region: Region, deferring: set[int]) -> None:
    """Give innermost loops their first turn apart, with a copy of the loop behind it, where nodes are in them
    whose registers may be made later (`runtime.cpu.translator.deferred`): in the loop it is then known which
    instruction wrote them last.
    """
    followers = [[edge for _, edge in node.edges if isinstance(edge, int)] for node in region.nodes]
    for head, body in innermost_loops(followers):
        if len(body) > PEELED or len(region.nodes) + len(body) > MAXIMUM_NODES or deferring.isdisjoint(body):
            continue
        copy = {number: len(region.nodes) + position for position, number in enumerate(body)}
        for number in body:
            node = region.nodes[number]
            turned = tuple((end, _mapped(edge, copy)) for end, edge in node.edges)
            again = tuple((end, _mapped(edge, {head: copy[head]})) for end, edge in node.edges)
            region.nodes.append(node._replace(edges=turned))
            region.nodes[number] = node._replace(edges=again)
            region.records.append(region.records[number])
            region.pcs.append(region.pcs[number])


def reachable(followers: Sequence[Sequence[int]], starts: Collection[int]) -> set[int]:
    """The nodes that edges lead to from `starts`, those included."""
    found = set(starts)
    todo = list(found)
    while todo:
        for there in followers[todo.pop()]:
            if there not in found:
                found.add(there)
                todo.append(there)
    return found


def _mapped(edge: Edge, names: Mapping[int, int]) -> Edge:
    return names.get(edge, edge) if isinstance(edge, int) else edge


def parsed(description: str) -> Region:
    """The region that `Region.description` wrote, without what belongs to a process."""
    rows, entries, dynamic, pages = json.loads(description)
    nodes = [Node(op, tuple(slots), tuple((end, edge) for end, edge in edges)) for op, slots, edges in rows]
    return Region(nodes, entries, [(pc, number) for pc, number in dynamic], pages)


class Former:
    """Forms regions of one CPU's code."""

    def __init__(self, templates: Templates, code: Code, pc_mask: int) -> None:
        self.templates = templates
        self.code = code
        self.pc_mask = pc_mask
        self.delay = templates.record_size

    # --- records ------------------------------------------------------------------------------------------

    def _read(self, form: str, address: int) -> int:
        value: int = struct.unpack_from(form, self.code.memory, address - self.code.base)[0]
        return value

    def key_of(self, record: int) -> Key:
        """The node of a record that is executed in sequence."""
        return record, record + self.delay if self.delay else 0

    def may_enter(self, key: Key) -> bool:
        """Whether jumps from outside may lead to the node."""
        flags = self._read("=B", key[0] + block.META_DISTANCE + 7)
        return key == self.key_of(key[0]) and not flags & (cache.META_FOLLOWS | cache.META_END)

    def page_of(self, record: int) -> int:
        """The number of the record's page entry."""
        return self._read("=I", record + block.META_DISTANCE) & cache.META_PAGE_MASK

    def follow(self, key: Key) -> Key:
        """What links lead to (`runtime.cpu.threading`)."""
        record, behind = key
        for _ in range(MAXIMUM_LINKS):
            if self._read("=H", record) != block.OP_LINK:
                break
            target = self._read("=q", record + block.LINK_RECORD)
            if self.delay and behind == record + self.delay:
                behind = target + self.delay
            record = target
        return record, behind

    def template_of(self, key: Key) -> Template | None:
        """The template for a node, or None where regions end."""
        record, behind = key
        template = self.templates.get(self.code.op_of(record))
        if (
            template is None
            or template.ends == ("leave",)
            or self._read("=I", record + block.META_DISTANCE) >> cache.META_STEP_SHIFT
        ):
            return None
        if self.delay and "skip" in template.ends and self.code.op_of(behind) <= block.OP_LINK:
            return None
        return template

    # --- edges --------------------------------------------------------------------------------------------

    def edges(self, key: Key, template: Template) -> list[tuple[str, Key | None, Edge]]:
        """(end, what it leads to, how it leaves if that isn't in the region)."""
        found: list[tuple[str, Key | None, Edge]] = []
        for end in template.ends:
            if end in ("jump", "jump_annulled"):
                found.append((end, None, ["find"]))
            elif end != "leave":
                leads, otherwise = (
                    self._delayed(end, key, template) if self.delay else self._plain(end, key[0], template)
                )
                found.append((end, self.follow(leads), otherwise))
        return found

    def _plain(self, end: str, record: int, template: Template) -> tuple[Key, Edge]:
        if end == "next":
            return (record + template.size, 0), ["after", template.size]
        if end == "skip":
            distance = template.size + self._read("=h", record + template.skip_slot)
            return (record + distance, 0), ["after", distance]
        at = template.targets[int(end.removeprefix("taken"))]
        return (self._read("=q", record + at), 0), ["slot", at]

    def _delayed(self, end: str, key: Key, template: Template) -> tuple[Key, Edge]:
        assert self.delay
        record, behind = key
        if end == "next":
            return (behind, behind + self.delay), ["next"]
        if end == "skip":
            there = behind + self.delay
            return (there, there + self.delay), ["skip"]
        annulled = end.startswith("taken_annulled")
        at = template.targets[int(end.removeprefix("taken_annulled" if annulled else "taken"))]
        target = self._read("=q", record + at)
        if annulled:
            return (target, target + self.delay), ["slot", at]
        return (behind, target), ["delayed", at]

    # --- forming ------------------------------------------------------------------------------------------

    def form(
        self,
        start: int,
        dynamic: Mapping[int, int],
        seen: Collection[int] = (),
        *,
        exact: bool = False,
    ) -> Region | None:
        """The region around the record `start`; None where none can be. `dynamic`: addresses that jumps which
        the engine doesn't patch were seen to lead to, with their records. `seen`: records that were met in
        samples; where there are some, code that leads to none of them is left out. `exact`: it begins there.
        """
        self._seen = seen
        self._known_lively: dict[Key, bool] = {}
        self._missing: set[Key] = set()
        first = self.follow(self.key_of(start))
        if self.template_of(first) is None or not self.may_enter(first):
            return None
        order = self._walk(first, dynamic) if exact or self.code.across else self._walk_around(first, dynamic)
        index = {key: number for number, key in enumerate(order)}
        region = Region([], [0], [], [])
        followers: list[list[int]] = []
        for key in order:
            template = self.template_of(key)
            assert template is not None
            slots = tuple(self._read(_FORMATS[kind], key[0] + at) for at, kind in template.slots)
            edges = [
                (end, index.get(leads, out) if leads else out)
                for end, leads, out in self.edges(key, template)
            ]
            region.nodes.append(Node(template.op, slots, tuple(edges)))
            followers.append([edge for _, edge in edges if isinstance(edge, int)])
        region.records = order
        region.pcs = [self.code.pc_of(record) for record, _ in order]
        self._choose_entries(region, index, loop_heads(followers), dynamic)
        self._leave_short_entries(region, followers, set(loop_heads(followers)))
        pages: set[int] = set()
        for number, (record, _) in enumerate(order):
            if self.page_of(record) not in pages:
                pages.add(self.page_of(record))
                region.pages.append(number)
        peel(region, {number for number, key in enumerate(order) if self._defers(key)})
        return region

    def _lively(self, key: Key) -> bool:
        """Whether samples met the straight code that begins at a node."""
        if not self._seen:
            return True
        if key in self._known_lively:
            return self._known_lively[key]
        passed: list[Key] = []
        here, found = key, False
        for _ in range(STRAIGHT):
            passed.append(here)
            template = self.template_of(here)
            if here[0] in self._seen:
                found = True
                break
            leads = [there for _, there, _ in self.edges(here, template)] if template is not None else []
            if len(leads) != 1 or leads[0] is None:
                break
            here = leads[0]
        for there in passed:
            self._known_lively[there] = found
        return found

    def _computed(self, key: Key, template: Template, dynamic: Mapping[int, int]) -> list[Key]:
        """What computed jumps may lead to from a node, or from what it calls: instructions that its slots
        name (where calls return to), and for computed jumps those near it.
        """
        if "next" in template.ends:
            return []
        record = key[0]
        # In an order that depends on nothing else: a region that is formed again has to become the same.
        pcs = [
            self._read(_FORMATS[kind], record + at) & self.pc_mask
            for at, kind in template.slots
            if kind in ("i32", "i64")
        ]
        if "jump" in template.ends or "jump_annulled" in template.ends:
            here = self.code.pc_of(record)
            near = (pc for pc in dynamic if abs(pc - here) < NEAR)
            pcs += sorted(near, key=lambda pc: (abs(pc - here), pc))
        return [self.follow(self.key_of(dynamic[pc])) for pc in dict.fromkeys(pcs) if pc in dynamic]

    def _walk_around(self, start: Key, dynamic: Mapping[int, int]) -> list[Key]:
        """Where regions end with their page: `_walk`, but code that doesn't turn inside the page begins where
        control comes into it, a little before `start`. Else a loop over two pages would be entered in its
        middle, where no region begins.
        """
        order = self._walk(start, dynamic)
        if len(order) == MAXIMUM_NODES or self._turns(order):
            return order
        page, here = self.page_of(start[0]), self.code.pc_of(start[0])
        near = sorted((pc for pc in dynamic if here - NEAR < pc < here), reverse=True)
        for pc in near[:BEGINNINGS]:
            key = self.follow(self.key_of(dynamic[pc]))
            if self.page_of(key[0]) != page or not self.may_enter(key) or self.template_of(key) is None:
                continue
            longer = self._walk(key, dynamic)
            if start in longer and len(longer) < MAXIMUM_NODES:
                return longer
        return order

    def _turns(self, order: Sequence[Key]) -> bool:
        """Whether the first of these nodes is reached from another one of them."""
        for key in order:
            template = self.template_of(key)
            if template is not None and any(there == order[0] for _, there, _ in self.edges(key, template)):
                return True
        return False

    def _walk(self, start: Key, dynamic: Mapping[int, int]) -> list[Key]:
        """The region's nodes, those first that are reached over few jumps; straight code in sequence."""
        seen = {start}
        order: list[Key] = []
        todo = deque([start])
        accesses = 0
        while todo:
            key: Key | None = todo.popleft()
            while key is not None and len(order) < MAXIMUM_NODES and accesses < MAXIMUM_ACCESSES:
                template = self.template_of(key)
                assert template is not None
                order.append(key)
                accesses += template.accesses
                following: Key | None = None
                for end, there, _ in self.edges(key, template):
                    if there is None or there in seen or self.template_of(there) is None:
                        continue
                    if len(template.ends) > 1 and not self._lively(there):
                        continue
                    seen.add(there)
                    if end == "next":
                        following = there
                    else:
                        todo.append(there)
                for there in self._computed(key, template, dynamic):
                    if there in seen or self.template_of(there) is None:
                        continue
                    if self.may_enter(there) and self._lively(there):
                        seen.add(there)
                        todo.append(there)
                key = following
        self._missing = seen.difference(order)
        return order

    def _leave_short_entries(self, region: Region, followers: list[list[int]], loops: set[int]) -> None:
        """Find out which entries are whole. Of the others those go behind which little is left, unless a loop
        begins there: a region that is entered only to be left at once keeps others from beginning there.
        """
        cut = {number for number, key in enumerate(region.records) if self._leads_to_missing(key)}
        before: list[list[int]] = [[] for _ in followers]
        for number, edges in enumerate(followers):
            for there in edges:
                before[there].append(number)
        cut = reachable(before, cut)
        region.whole = {number for number in region.entries if number not in cut}
        first = region.entries[0]
        region.entries = [
            number
            for number in region.entries
            if number == first
            or number in region.whole
            or number in loops
            or len(reachable(followers, {number})) >= SHORT
        ]

    def _leads_to_missing(self, key: Key) -> bool:
        """Whether something that was to follow on a node was left out for the region's size."""
        template = self.template_of(key)
        assert template is not None
        return any(there in self._missing for _, there, _ in self.edges(key, template))

    def _defers(self, key: Key) -> bool:
        template = self.template_of(key)
        return template is not None and deferral_of(template) is not None

    def _choose_entries(
        self,
        region: Region,
        index: Mapping[Key, int],
        loops: Sequence[int],
        dynamic: Mapping[int, int],
    ) -> None:
        page = self.page_of(region.records[0][0])
        for pc, record in sorted(dynamic.items()):
            key = self.follow(self.key_of(record))
            usable = key in index and self.may_enter(key) and len(region.dynamic) < MAXIMUM_DYNAMIC
            if usable and (self.code.across or self.page_of(key[0]) == page):
                region.dynamic.append((pc, index[key]))
        for number in [*loops, *(number for _, number in region.dynamic)]:
            if number not in region.entries and self.may_enter(region.records[number]):
                region.entries.append(number)
