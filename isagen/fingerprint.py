"""What a build depends on, as one hash: specs, templates, the code that generates and compiles, and versions.

Only contents count, never times or paths of this machine. Imports nothing heavy: a build with nothing to do
is decided by this module alone.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from isagen import paths
from isagen.targets import TargetSource, spec_files

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
AT_RUN_TIME = tuple(f"runtime/cpu/{name}" for name in ("engine.py", "image.py", "objects.py", "translator/"))
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
    """A sum over the code that is compiled into targets or decides how: one that was built beside other code
    can't be used. Each run looks at it, so it is a quick one.
    """
    root = paths.ROOT / "runtime" / "cpu"
    total = 0
    for place in (*sorted(root.glob("*.py")), paths.ROOT / BUILT_FOR_IT):
        if not is_for_running(place):
            with open(place, "rb", buffering=0) as file:  # noqa: PTH123
                total = zlib.crc32(file.read(), zlib.crc32(place.name.encode(), total))
    return f"{total:08x}"


def specs_digest(family: str) -> str:
    """A sum over a family's specs, as quick as `engine_digest`: a target that was built before they were
    changed isn't what they say.
    """
    total = 0
    for file in spec_files(family):
        total = zlib.crc32(file.read_bytes(), zlib.crc32(file.name.encode(), total))
    return f"{total:08x}"


def compiler_digest() -> str:
    """The hash of what makes objects of generated modules: our code and the versions of all besides."""
    import hashlib  # not needed to run what is built

    files = [
        file
        for folder in ("cpu", "softfloat")
        for file in sorted((paths.ROOT / "runtime" / folder).rglob("*.py"))
        if not is_for_running(file)
    ]
    sums = digest_of((file.relative_to(paths.ROOT).as_posix(), file) for file in files)
    text = "\0".join((sums, repr(sorted(versions().items()))))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """The SHA-256 of names and contents."""
    import hashlib  # not needed to run what is built

    total = hashlib.sha256()
    for name, file in files:
        content = hashlib.sha256(file.read_bytes()).digest()
        total.update(name.encode() + b"\0" + content)
    return total.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python, of the libraries, and the machine that code is compiled for."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

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
        import hashlib

        specs = digest_of((file.name, file) for file in target.specs)
        return hashlib.sha256(
            f"{target.name}\0{target.base}\0{specs}\0{self._shared}\0{self._versions}".encode()
        ).hexdigest()
