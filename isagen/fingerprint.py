"""What a build depends on, as one hash: specs, templates, the code that generates and compiles, and versions.

Only contents count, never times or paths of this machine. Imports nothing heavy: a build with nothing to do
is decided by this module alone.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from isagen import paths
from isagen.targets import TargetSource

CODE = (
    ("generator", ("*.py", "*.lark", "*.j2")),
    ("runtime/cpu", ("*.py",)),
    ("runtime/assembly", ("*.py",)),
    ("runtime/softfloat", ("*.py",)),
)
"""Folders whose files decide what is generated, and which of their files."""
OWN = ("isagen/build.py", "isagen/kept.py", "isagen/steps.py", "isagen/fingerprint.py", "runtime/errors.py")
DISTRIBUTIONS = ("lark", "jinja2", "pydantic", "numba", "llvmlite")
"""What generates and compiles, and isn't ours."""
AT_RUN_TIME = tuple(f"runtime/cpu/{name}" for name in ("cache.py", "engine.py", "package.py", "translator/"))
"""What works only when code runs: nothing that is built depends on it..."""
BUILT_FOR_IT = "runtime/cpu/translator/template.py"
"""... but on the format of what is built for the translator."""


def code_files() -> Iterator[Path]:
    """The generator's and the compiler's files, in a fixed order."""
    for folder, patterns in CODE:
        root = paths.ROOT / folder
        found = {file for pattern in patterns for file in root.rglob(pattern)}
        yield from (file for file in sorted(found) if not is_for_running(file))
    for name in OWN:
        yield paths.ROOT / name


def is_for_running(file: Path) -> bool:
    """Whether nothing that is built depends on the file, as it is only used while code runs."""
    place = file.relative_to(paths.ROOT).as_posix()
    return place.startswith(AT_RUN_TIME) and place != BUILT_FOR_IT


def engine_digest() -> str:
    """The hash of the code that is compiled into targets or decides how: one that was built beside other
    code can't be used.
    """
    root = paths.ROOT / "runtime" / "cpu"
    files = [file for file in sorted(root.rglob("*.py")) if not is_for_running(file)]
    return digest_of((file.relative_to(root).as_posix(), file) for file in files)


def compiler_digest() -> str:
    """The hash of what makes objects of generated modules: our code and the versions of all besides."""
    softfloat = paths.ROOT / "runtime" / "softfloat"
    library = digest_of((file.name, file) for file in sorted(softfloat.glob("*.py")))
    text = "\0".join((engine_digest(), library, repr(sorted(versions().items()))))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """The SHA-256 of names and contents."""
    total = hashlib.sha256()
    for name, file in files:
        content = hashlib.sha256(file.read_bytes()).digest()
        total.update(name.encode() + b"\0" + content)
    return total.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of the libraries, and the machine that code is compiled for."""
    from importlib.metadata import PackageNotFoundError, version  # not needed to run what is built

    found = {"python": platform.python_version(), "machine": platform.machine(), "platform": sys.platform}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


class Fingerprints:
    """Hashes of several targets' inputs; what they share is read once."""

    def __init__(self) -> None:
        root = paths.ROOT
        self._shared = digest_of((file.relative_to(root).as_posix(), file) for file in code_files())
        self._versions = repr(sorted(versions().items()))

    def of(self, target: TargetSource) -> str:
        """The hash of all that the target is built from."""
        specs = digest_of((file.name, file) for file in target.specs)
        return hashlib.sha256(
            f"{target.name}\0{target.base}\0{specs}\0{self._shared}\0{self._versions}".encode()
        ).hexdigest()
