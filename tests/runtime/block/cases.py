"""The formats that the tests of properties, crashes, faults and malformed images run through."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A writable format with create options. `size` is the disk's, in bytes."""

    format: str
    options: dict[str, object] = field(default_factory=dict)
    size: int = MIB
    backing: bool = False  # over an image of half the size (or all of it, where that has to be)
    below: str = "raw"  # that image's format
    judge: str | None = None  # qemu-img's name of the format, where `qemu-img check` knows it
    resizable: bool = True
    snapshots: bool = False
    growable: bool = True  # qemu-img reads it with the same size

    @property
    def name(self) -> str:
        parts = [f"{key}={value}" for key, value in self.options.items()]
        return ",".join([self.format, *parts, *(["backing"] if self.backing else [])])


CASES: tuple[Case, ...] = (
    Case("raw"),
    Case("qcow2", judge="qcow2", snapshots=True),
    Case("qcow2", {"cluster_size": 512}, judge="qcow2", snapshots=True),
    Case("qcow2", {"cluster_size": 4096, "refcount_bits": 64}, judge="qcow2", snapshots=True),
    Case("qcow2", {"cluster_size": 4096, "refcount_bits": 1}, judge="qcow2"),
    Case("qcow2", {"compat": "0.10"}, judge="qcow2", backing=True),
    Case("qcow2", {"lazy_refcounts": True}, judge="qcow2"),
    Case("qcow2", {"extended_l2": True, "cluster_size": 16384}, judge="qcow2", backing=True, snapshots=True),
    Case("qcow2", {"compression_type": "zstd"}, judge="qcow2"),
    Case("qcow2", {"data_file": "data"}),
    Case("qcow2", {"data_file": "data", "data_file_raw": True}),
    Case("vdi", size=4 * MIB + 512),
    Case("vdi", {"static": True}, size=3 * MIB),
    Case("vdi", size=4 * MIB, backing=True, below="vdi"),
    Case("vhd", {"block_size": 65536}),
    Case("vhd", {"subformat": "fixed"}),
    Case("vhd", {"block_size": 65536}, backing=True, below="vhd"),
    Case("vhdx", {"block_size": MIB}, size=5 * MIB, judge="vhdx"),
    Case("vhdx", {"block_size": MIB}, size=4 * MIB, backing=True, below="vhdx"),
    Case("vmdk", judge="vmdk"),
    Case("vmdk", {"subformat": "monolithicFlat"}, judge="vmdk"),
    Case("vmdk", {"subformat": "twoGbMaxExtentSparse"}, judge="vmdk"),
    Case("vmdk", backing=True, below="vmdk", judge="vmdk"),
    Case("vmdk", {"zeroed_grain": True}, backing=True, below="vmdk", judge="vmdk"),
    Case("qed", {"cluster_size": 4096, "table_size": 2}, judge="qed"),
    Case("qed", {"cluster_size": 4096, "table_size": 2}, backing=True, judge="qed"),
    Case("parallels", {"cluster_size": 65536}, judge="parallels"),
)


def case_id(case: Case) -> str:
    return case.name
