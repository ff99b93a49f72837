"""Which other files an image may name: backing files, data files, extents, parents, manifests.

An image may come from anybody. By default it may only name regular files that lie in its own folder (where a
symbolic link leads counts, not where it lies). Everything else must be allowed by whoever opens the image.
Strings that select a protocol ("json:", "nbd:", "http:", ...) are never followed: no image needs them that
our users make, and they let an image open connections and devices (CVE-2024-4467, CVE-2024-32498,
CVE-2022-47951).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from runtime.block.errors import ImageNotFound, ReferenceDenied
from runtime.records import record

_PROTOCOL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")


@record(frozen=True)
class ReferencePolicy:
    """`allowed`: files, and folders with all that is in them, which images may name besides their
    neighbours.
    """

    allowed: tuple[Path, ...] = ()
    anything: bool = False
    neighbours: bool = True

    @classmethod
    def of(cls, allow: ReferencePolicy | Iterable[str | Path] | str | Path | None) -> ReferencePolicy:
        """A policy from what callers write: None (the default policy), one path, or several."""
        if isinstance(allow, ReferencePolicy):
            return allow
        if allow is None:
            return cls()
        paths = (allow,) if isinstance(allow, str | Path) else tuple(allow)
        return cls(tuple(Path(path).absolute() for path in paths))

    def resolve(self, reference: str, base: Path | None, kind: str) -> Path:
        """The file that `reference`, found in the image `base`, names.

        `kind` says what it is for ("backing file"). Raises ReferenceDenied, ImageNotFound.
        """
        where = str(base) if base is not None else "image"
        if not reference or "\0" in reference or len(os.fsencode(reference)) > 4095:
            raise ReferenceDenied(
                f"the name of the {kind} is not a file name: {reference[:80]!r}", where=where
            )
        if _PROTOCOL.match(reference):
            raise ReferenceDenied(
                f"the {kind} is named by a protocol string, which is never followed: {reference[:200]!r}",
                where=where,
                remedy="name it by a path, for instance with `isagen image rebase -u -b FILE`",
            )
        path = Path(reference)
        folder = Path() if base is None else base.parent
        full = folder / path
        real = Path(os.path.realpath(full))
        if not self._permits(real, folder):
            raise ReferenceDenied(
                f"the image names a {kind} that isn't a plain file beside it: {reference!r}",
                where=where,
                remedy=f"if you trust the image, allow it: allow={str(full)!r} or --allow {full}",
            )
        if not full.exists():
            raise ImageNotFound(f"the {kind} {str(full)!r} doesn't exist", where=where)
        return full

    def _permits(self, real: Path, folder: Path) -> bool:
        if self.anything:
            return True
        for allowed in self.allowed:
            target = Path(os.path.realpath(allowed))
            if real == target or (target in real.parents and target.is_dir()):
                return True
        if not (self.neighbours and real.parent == Path(os.path.realpath(folder))):
            return False
        try:
            return stat.S_ISREG(real.stat().st_mode)
        except FileNotFoundError:
            return True  # nothing there: "doesn't exist" is the better message
        except OSError:
            return False
