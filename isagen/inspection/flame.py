"""A flame graph as one HTML page that needs nothing else: boxes as wide as the instructions of a call
stack.
"""

from __future__ import annotations

import html
import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

ROW = 18
"""Pixels of a box's height."""


@dataclass(slots=True)
class Node:
    """A function as called by a chain of callers: instructions in it and in what it calls."""

    name: str
    total: int = 0
    own: int = 0
    callees: dict[str, Node] = field(default_factory=dict)


def tree(stacks: Mapping[tuple[str, ...], int]) -> Node:
    """Stacks (outermost first) put together from the outside."""
    root = Node("all")
    for stack, count in stacks.items():
        node = root
        node.total += count
        for name in stack:
            node = node.callees.setdefault(name, Node(name))
            node.total += count
        node.own += count
    return root


def depth(node: Node) -> int:
    return 1 + max((depth(callee) for callee in node.callees.values()), default=0)


def color(name: str) -> str:
    """A warm colour, always the same one for a name."""
    number = zlib.crc32(name.encode())
    return f"hsl({number % 55} {65 + number // 55 % 25}% {58 + number // 1375 % 14}%)"


def boxes(node: Node, left: float, level: int, scale: float, found: list[str]) -> None:
    width = node.total * scale
    if width < 0.02:  # per cent: less than a pixel
        return
    share = f"{node.name}: {node.total} instructions ({width:.2f} %), own {node.own}"
    found.append(
        f'<div class="b" style="left:{left:.4f}%;width:{width:.4f}%;top:{level * ROW}px;'
        f'background:{color(node.name)}" data-l="{left:.6f}" data-w="{width:.6f}"'
        f' title="{html.escape(share, quote=True)}">{html.escape(node.name)}</div>'
    )
    for callee in sorted(node.callees.values(), key=lambda callee: callee.name):
        boxes(callee, left, level + 1, scale, found)
        left += callee.total * scale


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%(title)s</title><style>
body { font: 14px system-ui, sans-serif; margin: 1em }
#g { position: relative; height: %(height)dpx; overflow: hidden }
.b { position: absolute; height: %(box)dpx; font-size: 11px; line-height: %(box)dpx; overflow: hidden;
  white-space: nowrap; padding-left: 2px; box-sizing: border-box; border-right: 1px solid #fff; cursor:
  pointer }
.b.found { background: #b5f !important }
</style></head><body>
<h1>%(title)s</h1>
<p>Each box is a function, under its caller, as wide as the share of %(total)d instructions executed in it
and in what it calls. Click a box to widen it, the top one to go back.
<label>Search <input id="q" type="search"></label> <span id="s"></span></p>
<div id="g">
%(boxes)s
</div>
<script>
const all = [...document.querySelectorAll(".b")];
function zoom(left, width) {
  for (const b of all) {
    b.style.left = (b.dataset.l - left) * 100 / width + "%%";
    b.style.width = b.dataset.w * 100 / width + "%%";
  }
}
for (const b of all) b.onclick = () => zoom(+b.dataset.l, +b.dataset.w);
document.getElementById("q").oninput = (event) => {
  const text = event.target.value.toLowerCase();
  let share = 0, end = -1;
  for (const b of all) {
    const hit = text !== "" && b.textContent.toLowerCase().includes(text);
    b.classList.toggle("found", hit);
    if (hit && +b.dataset.l >= end) { share += +b.dataset.w; end = +b.dataset.l + +b.dataset.w - 1e-6 }
  }
  document.getElementById("s").textContent = text ? share.toFixed(2) + " %%" : "";
};
</script>
<script type="application/json" id="stacks">%(data)s</script>
</body></html>
"""


def page(stacks: Counter[tuple[str, ...]], title: str) -> str:
    """The page for stacks, outermost first."""
    root = tree(stacks)
    found: list[str] = []
    if root.total:
        boxes(root, 0.0, 0, 100 / root.total, found)
    rows = [[";".join(stack), count] for stack, count in stacks.most_common()]
    return _PAGE % {
        "title": html.escape(title),
        "height": ROW * (depth(root) + 1),
        "box": ROW - 1,
        "total": root.total,
        "boxes": "\n".join(found),
        "data": json.dumps(rows).replace("<", "\\u003c"),
    }
