"""What QMP's commands take and return; names and fields are those of QEMU's QAPI schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from runtime.monitor.qmp.registry import Arguments, Spelled, Value

RunStateName = Literal["running", "paused", "prelaunch", "debug", "shutdown"]
ShutdownCause = Literal[
    "none", "host-error", "host-qmp-quit", "host-qmp-system-reset", "host-signal", "host-ui",
    "guest-shutdown", "guest-reset", "guest-panic", "subsystem-reset", "snapshot-load",
]  # fmt: skip


# --- arguments ----------------------------------------------------------------------------------------------


class Capabilities(Arguments):
    enable: list[str] = Field(default_factory=list)


class MemorySave(Arguments):
    val: int
    size: int
    filename: str
    cpu_index: int | None = None


class PhysicalMemorySave(Arguments):
    val: int
    size: int
    filename: str


class KeyValue(Arguments):
    type: Literal["qcode", "number"]
    data: Any


class SendKey(Arguments):
    keys: list[KeyValue]
    hold_time: int = 100


class BalloonSize(Arguments):
    value: int


class HumanCommand(Arguments):
    command_line: str
    cpu_index: int | None = None


class StateJob(Arguments):
    job_id: str
    tag: str
    vmstate: str = ""
    devices: list[str] = Field(default_factory=list)


class StateDelete(Arguments):
    job_id: str
    tag: str
    devices: list[str] = Field(default_factory=list)


class JobName(Arguments):
    id: str


# --- events -------------------------------------------------------------------------------------------------


class NoData(Arguments):
    pass


class Cause(Arguments):
    guest: bool
    reason: ShutdownCause


class JobChange(Arguments):
    id: str
    status: str


# --- results ------------------------------------------------------------------------------------------------


class Triple(Value):
    major: int
    minor: int
    micro: int


class VersionInfo(Value):
    qemu: Triple
    package: str


class CommandInfo(Value):
    name: str


class StatusInfo(Value):
    running: bool
    singlestep: bool = False
    status: RunStateName


class CpuProperties(Value):
    core_id: int


class CpuInfoFast(Value):
    cpu_index: int
    qom_path: str
    thread_id: int
    props: CpuProperties
    target: str


class TargetInfo(Value):
    arch: str


class KvmInfo(Value):
    enabled: bool
    present: bool


class NameInfo(Value):
    name: str | None = None


class UuidInfo(Spelled):
    UUID: str


class MemorySizeInfo(Value):
    base_memory: int
    plugged_memory: int = 0


class BalloonInfo(Value):
    actual: int


class IoThreadInfo(Value):
    id: str


class CacheInfo(Value):
    writeback: bool = True
    direct: bool = False
    no_flush: bool = False


class BlockDeviceInfo(Spelled):
    file: str
    ro: bool
    drv: str
    backing_file_depth: int = 0
    encrypted: bool = False
    detect_zeroes: str = "off"
    bps: int = 0
    bps_rd: int = 0
    bps_wr: int = 0
    iops: int = 0
    iops_rd: int = 0
    iops_wr: int = 0
    write_threshold: int = 0
    cache: CacheInfo = CacheInfo()
    image: dict[str, Any]


class BlockInfo(Value):
    device: str
    qdev: str
    type: str = "unknown"
    removable: bool = False
    locked: bool = False
    io_status: str = "ok"
    inserted: BlockDeviceInfo | None = None


class JobInfo(Value):
    id: str
    type: str
    status: str
    current_progress: int = 1
    total_progress: int = 1
    error: str | None = None
