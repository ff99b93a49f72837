"""The descriptor of a VMDK: text with `key=value` lines and one line for each extent (VMware, Virtual Disk
Format 5.0).

Changes keep all other lines as they are: other programs leave their notes here.
"""

from __future__ import annotations

import re
import secrets

from runtime.block.errors import ImageCorrupt
from runtime.records import record

MAX_BYTES = 1 << 20
MAX_EXTENTS = 4096
NO_PARENT = 0xFFFFFFFF
SECTOR = 512

#: Extents with a header of their own, and extents that are plain bytes.
SPARSE_KINDS = ("SPARSE", "VMFSSPARSE", "SESPARSE")
FLAT_KINDS = ("FLAT", "VMFS")
RAW_DEVICE_KINDS = ("VMFSRDM", "VMFSRAW", "VMFSPASSTHROUGHRAWDEVICEMAP")

_VALUE = re.compile(r"^\s*([A-Za-z0-9_.]+)\s*=\s*(.*?)\s*$")
_EXTENT = re.compile(
    r'^\s*(RW|RDONLY|NOACCESS)\s+(\d{1,19})\s+([A-Za-z]+)(?:\s+"([^"]*)"(?:\s+(\d{1,19}))?)?(?:\s+.*)?$',
    re.IGNORECASE,
)


@record(frozen=True)
class ExtentLine:
    """One extent: `sectors` of the disk, in file `name`; flat ones from sector `offset` of it."""

    access: str  # RW, RDONLY or NOACCESS
    sectors: int
    kind: str  # SPARSE, FLAT, ZERO, ...
    name: str = ""
    offset: int = 0

    def render(self) -> str:
        """The line."""
        if self.kind == "ZERO":
            return f"{self.access} {self.sectors} ZERO"
        tail = f" {self.offset}" if self.kind == "FLAT" else ""
        return f'{self.access} {self.sectors} {self.kind} "{self.name}"{tail}'


class Descriptor:
    """A parsed descriptor. `where` is for messages; `base` is its offset in the file."""

    def __init__(self, text: str, *, where: str, base: int = 0) -> None:
        self.text = text
        self._where = where
        self._base = base
        self.values: dict[str, str] = {}
        self.extents: list[ExtentLine] = []
        for line in text.splitlines():
            self._read_line(line)
        if self.extents and sum(extent.sectors for extent in self.extents) > (1 << 63) // SECTOR - 1:
            raise self._wrong("the disk is too large", "extents")

    @classmethod
    def parse(cls, data: bytes, *, where: str, base: int = 0) -> Descriptor:
        """From the bytes of a file or of an embedded descriptor. Raises ImageCorrupt."""
        raw = data.split(b"\0", 1)[0]
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        found = cls(text, where=where, base=base)
        if "createtype" not in found.values and not found.extents:
            raise found._wrong("there is no VMDK descriptor", "createType")
        return found

    def _wrong(self, what: str, field: str, value: object = None) -> ImageCorrupt:
        return ImageCorrupt(
            what, offset=self._base, field=f"descriptor: {field}", value=value, where=self._where
        )

    def _read_line(self, line: str) -> None:
        if line.lstrip().startswith("#"):
            return
        extent = _EXTENT.match(line)
        if extent is not None:
            if len(self.extents) >= MAX_EXTENTS:
                raise self._wrong(f"there are more than {MAX_EXTENTS} extents", "extents")
            access, sectors, kind, name, offset = extent.groups()
            self.extents.append(
                ExtentLine(access.upper(), int(sectors), kind.upper(), name or "", int(offset or 0))
            )
            return
        value = _VALUE.match(line)
        if value is not None:
            self.values.setdefault(value[1].lower(), value[2].strip().strip('"'))

    @property
    def create_type(self) -> str:
        """As written: "monolithicSparse", ..."""
        return self.values.get("createtype", "")

    def content_id(self, key: str = "CID") -> int:
        """The 32-bit CID (or parentCID); NO_PARENT where there is none. Raises ImageCorrupt."""
        text = self.values.get(key.lower(), "ffffffff")
        try:
            value = int(text, 16)
        except ValueError:
            raise self._wrong(f"{key} is no hexadecimal number", key, text[:40]) from None
        if not 0 <= value <= 0xFFFFFFFF:
            raise self._wrong(f"{key} has more than 32 bits", key, text[:40])
        return value

    @property
    def parent(self) -> str | None:
        """The name of the parent's file, if this is a delta."""
        if self.content_id("parentCID") == NO_PARENT:
            return None
        return self.values.get("parentfilenamehint", "")

    def content_id_at(self) -> int | None:
        """Where in the text (in bytes, encoded) the eight digits of the CID are."""
        found = re.search(r"(?im)^\s*CID\s*=\s*([0-9a-f]{8})\s*$", self.text)
        return None if found is None else len(self.text[: found.start(1)].encode())

    def changed(self, **values: str | None) -> Descriptor:
        """With other values (quoted as they're given; None drops the line)."""
        lines = self.text.splitlines()
        for key, value in values.items():
            name = key.replace("__", ".")
            at = next(
                (
                    n
                    for n, line in enumerate(lines)
                    if (m := _VALUE.match(line)) and m[1].lower() == name.lower()
                ),
                None,
            )
            if value is None:
                if at is not None:
                    del lines[at]
            elif at is None:
                first = next((n for n, line in enumerate(lines) if _EXTENT.match(line)), len(lines))
                lines.insert(first, f"{name}={value}")
            else:
                lines[at] = f"{name}={value}"
        return Descriptor("\n".join(lines) + "\n", where=self._where, base=self._base)

    def with_extents(self, extents: list[ExtentLine]) -> Descriptor:
        """With other extent lines, in the place of the first one."""
        lines = self.text.splitlines()
        places = [n for n, line in enumerate(lines) if _EXTENT.match(line)]
        at = places[0] if places else len(lines)
        kept = [line for line in lines if not _EXTENT.match(line)]
        kept[at:at] = [extent.render() for extent in extents]
        return Descriptor("\n".join(kept) + "\n", where=self._where, base=self._base)


def geometry_of(sectors: int, adapter: str) -> tuple[int, int, int]:
    """Cylinders, heads, sectors as VMware gives them to disks of that adapter."""
    if adapter == "ide":
        heads, per_track = 16, 63
    elif sectors < 2 * 1024 * 1024:
        heads, per_track = 64, 32
    elif sectors < 4 * 1024 * 1024:
        heads, per_track = 128, 32
    else:
        heads, per_track = 255, 63
    limit = 16383 if adapter == "ide" else 65535
    return min(sectors // (heads * per_track), limit), heads, per_track


def new_content_id() -> int:
    """A random CID that means no absence."""
    return secrets.randbelow(0xFFFFFFFE)


def render(
    create_type: str,
    extents: list[ExtentLine],
    *,
    parent: tuple[str, int] | None,
    adapter: str,
    hardware: str,
    tools: str,
) -> str:
    """The text of a new descriptor. `parent` is its file's name and CID."""
    sectors = sum(extent.sectors for extent in extents)
    cylinders, heads, per_track = geometry_of(sectors, adapter)
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        'encoding="UTF-8"',
        f"CID={new_content_id():08x}",
        f"parentCID={NO_PARENT if parent is None else parent[1]:08x}",
        f'createType="{create_type}"',
    ]
    if parent is not None:
        lines.append(f'parentFileNameHint="{parent[0]}"')
    lines += ["", "# Extent description", *(extent.render() for extent in extents), ""]
    lines += [
        "# The Disk Data Base",
        "#DDB",
        "",
        f'ddb.virtualHWVersion = "{hardware}"',
        f'ddb.geometry.cylinders = "{cylinders}"',
        f'ddb.geometry.heads = "{heads}"',
        f'ddb.geometry.sectors = "{per_track}"',
        f'ddb.adapterType = "{adapter}"',
        f'ddb.toolsVersion = "{tools}"',
        f'ddb.uuid = "{_ddb_uuid()}"',
    ]
    return "\n".join(lines) + "\n"


def _ddb_uuid() -> str:
    digits = [f"{byte:02x}" for byte in secrets.token_bytes(16)]
    return " ".join(digits[:8]) + "-" + " ".join(digits[8:])
