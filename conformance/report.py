"""A campaign's report: JSON, and one HTML page that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.results import Row, Summary, summarise


def as_json(rows: Sequence[Row], seconds: float, command: str) -> dict[str, Any]:
    """The whole report as data. `seconds`: what the campaign took."""
    return {
        "command": command,
        "seconds": round(seconds, 1),
        "failed": sum(row.failed for row in rows),
        "summary": [
            {
                "suite": s.suite,
                "target": s.target,
                "items": s.items,
                "cases": s.cases,
                "failed": s.failed,
                "failed_items": s.failed_items,
                "counts": dict(s.counts),
            }
            for s in summarise(rows)
        ],
        "rows": [row.as_json() for row in rows],
    }


def write(folder: Path, rows: Sequence[Row], seconds: float, command: str) -> None:
    """Write ``report.json`` and ``report.html`` into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    data = as_json(rows, seconds, command)
    (folder / "report.json").write_text(json.dumps(data, indent=1) + "\n")
    (folder / "report.html").write_text(html(rows, data))


def html(rows: Sequence[Row], data: dict[str, Any]) -> str:
    """The HTML page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
    )
    failed = [row for row in rows if row.failed]
    return environment.get_template("report.html.j2").render(
        data=data, summaries=summarise(rows), failed=failed, rows=rows, counts=counts_text
    )


def counts_text(item: Summary | Row) -> str:
    """What was counted besides, as text."""
    return ", ".join(f"{name} {number:,}" for name, number in item.counts.items())
