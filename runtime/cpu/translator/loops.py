"""The loops of a region, as a graph: `followers` holds for each node the nodes that it leads to."""

from __future__ import annotations

from collections.abc import Sequence


def loop_heads(followers: Sequence[Sequence[int]]) -> list[int]:
    """Nodes that the edges of depth-first walks lead back to: each cycle has one."""
    heads: set[int] = set()
    state = [0] * len(followers)  # 1: on the path, 2: done
    for root in range(len(followers)):
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(followers[root]))]
        while stack:
            number, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[number] = 2
                stack.pop()
            elif state[following] == 0:
                state[following] = 1
                stack.append((following, iter(followers[following])))
            elif state[following] == 1:
                heads.add(following)
    return sorted(heads)


def innermost_loops(followers: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """(head, all nodes in order) of each loop without another one in it."""
    heads = loop_heads(followers)
    found: list[tuple[int, list[int]]] = []
    todo = [set(range(len(followers)))]
    while todo:
        for piece in _connected(followers, todo.pop()):
            head = next(number for number in heads if number in piece)
            rest = piece - {head}
            if any(True for _ in _connected(followers, rest)):
                todo.append(rest)
            else:
                found.append((head, sorted(piece)))
    return sorted(found)


def _connected(followers: Sequence[Sequence[int]], nodes: set[int]) -> list[set[int]]:
    """The pieces of a part of the graph whose nodes all lead to each other, by cycles (R. E. Tarjan,
    Depth-first search and linear graph algorithms, SIAM J. Comput. 1, 1972).
    """
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_nodes: list[int] = []
    on_stack: set[int] = set()
    pieces: list[set[int]] = []
    for root in sorted(nodes):
        if root in index:
            continue
        walk = [(root, iter(followers[root]))]
        index[root] = low[root] = len(index)
        open_nodes.append(root)
        on_stack.add(root)
        while walk:
            number, rest = walk[-1]
            following = next(rest, None)
            if following is None:
                walk.pop()
                if walk:
                    above = walk[-1][0]
                    low[above] = min(low[above], low[number])
                if low[number] == index[number]:
                    piece = set()
                    while number not in piece:
                        piece.add(open_nodes.pop())
                    on_stack -= piece
                    if len(piece) > 1 or number in followers[number]:
                        pieces.append(piece)
            elif following not in nodes:
                continue
            elif following not in index:
                walk.append((following, iter(followers[following])))
                index[following] = low[following] = len(index)
                open_nodes.append(following)
                on_stack.add(following)
            elif following in on_stack:
                low[number] = min(low[number], index[following])
    return pieces
