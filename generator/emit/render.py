"""Templates to text: the one jinja2 environment of all emitters."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


@cache
def environment() -> jinja2.Environment:
    """Blocks leave no blank lines, unknown names are errors, and HTML is escaped."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: name is not None and ".html" in name,
    )


def render(template: str, **values: object) -> str:
    """The text of `template` (a file in ``generator/templates``) with `values`."""
    return environment().get_template(template).render(**values)
