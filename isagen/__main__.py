"""``python -m isagen``."""

from __future__ import annotations

import sys

from isagen.cli import program

if __name__ == "__main__":
    sys.exit(program())
