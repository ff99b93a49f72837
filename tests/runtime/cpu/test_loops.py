"""Loops of graphs, and what `peel` makes of them."""

import random

from runtime.cpu.translator.loops import innermost_loops, loop_heads
from runtime.cpu.translator.region import Node, Region, peel


def test_loops_in_loops():
    #        0 -> 1 -> 2 -> 3 -> 4, 2 -> 2, 3 -> 1
    graph = [[1], [2], [2, 3], [1, 4], []]
    assert loop_heads(graph) == [1, 2]
    assert innermost_loops(graph) == [(2, [2])]


def test_loops_beside_each_other():
    graph = [[1, 3], [2], [1, 4], [4, 3], []]
    assert innermost_loops(graph) == [(1, [1, 2]), (3, [3])]


def test_no_loop():
    assert innermost_loops([[1, 2], [2], []]) == []


def turns(region: Region, choices: list[int]) -> list[int]:
    """The operations of a walk that takes an edge by each choice."""
    here, met = 0, []
    for choice in choices:
        met.append(region.nodes[here].op)
        edges = region.nodes[here].edges
        if not edges:
            break
        here = edges[choice % len(edges)][1]
    return met


def region_of(graph: list[list[int]]) -> Region:
    nodes = [Node(op, (), tuple((f"e{n}", to) for n, to in enumerate(out))) for op, out in enumerate(graph)]
    region = Region(nodes, [0], [], [])
    region.records = [(number, 0) for number in range(len(nodes))]
    region.pcs = list(range(len(nodes)))
    return region


def test_peeled_regions_do_the_same():
    choose = random.Random(5)
    copied = 0
    for _ in range(300):
        size = choose.randint(1, 9)
        graph = [[choose.randrange(size) for _ in range(choose.randint(0, 2))] for _ in range(size)]
        plain, peeled = region_of(graph), region_of(graph)
        peel(peeled, set(range(size)))
        copied += len(peeled.nodes) > size
        assert len(peeled.nodes) == len(peeled.records) == len(peeled.pcs)
        assert [node.op for node in peeled.nodes] == peeled.pcs
        for _ in range(10):
            choices = [choose.randrange(6) for _ in range(30)]
            assert turns(plain, choices) == turns(peeled, choices)
    assert copied > 100


def test_only_loops_that_gain_are_peeled():
    region = region_of([[1], [1, 2], [2]])
    peel(region, {2})
    assert [node.op for node in region.nodes] == [0, 1, 2, 2]
    assert region.nodes[2].edges == (("e0", 3),)
    assert region.nodes[3].edges == (("e0", 3),)
