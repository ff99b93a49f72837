"""Measured ratios as a picture (SVG): for each program a bar with a fresh and one with a filled cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

ROW: Final = 30
LEFT: Final = 130
SCALE: Final = 520
"""Pixels between 0 and the largest ratio."""
HEAD: Final = 46
COLOURS: Final = {"cold": "#8fa8c8", "warm": "#27527f"}
FONT: Final = 'font-family="sans-serif" font-size="12"'


class Bars(NamedTuple):
    """A program's name, and its ratios by series."""

    name: str
    ratios: Mapping[str, float]


def as_svg(title: str, rows: Sequence[Bars]) -> str:
    """The picture: ratios of `rows`, with a line where both are equally fast."""
    largest = max([1.0, *(ratio for row in rows for ratio in row.ratios.values())]) * 1.08
    height = HEAD + ROW * len(rows) + 26
    step = next(size for size in (0.5, 1, 2, 5, 10, 50) if largest / size <= 12 or size == 50)

    def x(ratio: float) -> float:
        return round(LEFT + ratio * SCALE / largest, 1)

    width = LEFT + SCALE + 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" {FONT}>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="10" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, (series, colour) in enumerate(COLOURS.items()):
        place = LEFT + 110 * number
        out.append(f'<rect x="{place}" y="26" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{place + 15}" y="35">{series} cache</text>')
    bottom = HEAD + ROW * len(rows)
    for tick in range(int(largest / step) + 1):
        at = x(tick * step)
        out.append(f'<line x1="{at}" y1="{HEAD}" x2="{at}" y2="{bottom}" stroke="#dddddd"/>')
        out.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{tick * step:g}</text>')
    for number, row in enumerate(rows):
        top = HEAD + ROW * number
        out.append(f'<text x="{LEFT - 8}" y="{top + 19}" text-anchor="end">{escape(row.name)}</text>')
        for place, series in enumerate(series for series in COLOURS if series in row.ratios):
            ratio = row.ratios[series]
            y = top + 4 + 11 * place
            out.append(
                f'<rect x="{LEFT}" y="{y}" width="{round(x(ratio) - LEFT, 1)}" height="10"'
                f' fill="{COLOURS[series]}"/>'
            )
            out.append(f'<text x="{x(ratio) + 4}" y="{y + 9}" font-size="10">{ratio:.2f}</text>')
    out.append(f'<line x1="{x(1)}" y1="{HEAD}" x2="{x(1)}" y2="{bottom}" stroke="#c03030"/>')
    return "\n".join([*out, "</svg>", ""])
