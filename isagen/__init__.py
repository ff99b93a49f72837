"""isagen: instruction sets written once, as readable specs, become complete, fast emulators.

Importing this package imports nothing heavy; the command line is `isagen.cli`.
"""

from __future__ import annotations

__version__ = "0.1.0"
