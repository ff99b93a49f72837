"""QMP's commands on a machine (QEMU's documentation, "QEMU QMP Reference Manual")."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

from machines.monitor import models as m
from machines.monitor.control import Control
from machines.monitor.drive import Drive
from machines.monitor.human import HumanMonitor
from runtime.errors import IsagenError
from runtime.monitor.qmp.registry import QmpError, Registry
from runtime.monitor.qmp.schema import Describer

Version = tuple[int, int, int, str]
"""(major, minor, micro, package)"""


def commands(control: Control, version: Version) -> Registry:
    """The commands and events of a machine."""
    return Commands(control, version).registry


class Commands:
    """Fills a registry."""

    def __init__(self, control: Control, version: Version) -> None:
        self._control = control
        self._version = version
        self._human = HumanMonitor(control)
        self._jobs: dict[str, m.JobInfo] = {}
        self.registry = registry = Registry()
        simple = {
            "stop": control.stop,
            "cont": control.go,
            "system_reset": control.reset,
            "system_powerdown": control.power_down,
            "quit": control.quit,
        }
        for name, call in simple.items():
            registry.add(name, _without_arguments(call))
        registry.add("qmp_capabilities", self._negotiate, m.Capabilities)
        registry.add("query-version", self._query_version, returns=m.VersionInfo)
        registry.add("query-commands", self._query_commands, returns=list[m.CommandInfo])
        registry.add("query-qmp-schema", lambda _: Describer().schema(registry), returns=list[dict[str, Any]])
        registry.add("query-status", self._query_status, returns=m.StatusInfo)
        registry.add("query-cpus-fast", self._query_cpus, returns=list[m.CpuInfoFast])
        registry.add("query-block", self._query_block, returns=list[m.BlockInfo])
        registry.add("query-target", lambda _: m.TargetInfo(arch=control.target), returns=m.TargetInfo)
        registry.add("query-kvm", lambda _: m.KvmInfo(enabled=False, present=False), returns=m.KvmInfo)
        registry.add("query-name", lambda _: m.NameInfo(name=control.name or None), returns=m.NameInfo)
        registry.add("query-uuid", lambda _: m.UuidInfo(UUID=str(uuid.UUID(int=0))), returns=m.UuidInfo)
        registry.add(
            "query-memory-size-summary",
            lambda _: m.MemorySizeInfo(base_memory=control.memory_size),
            returns=m.MemorySizeInfo,
        )
        registry.add("query-iothreads", lambda _: [], returns=list[m.IoThreadInfo])
        registry.add("memsave", self._memory_save, m.MemorySave)
        registry.add("pmemsave", self._physical_save, m.PhysicalMemorySave)
        registry.add("human-monitor-command", self._human_command, m.HumanCommand, str)
        registry.add("send-key", self._send_key, m.SendKey)
        registry.add("balloon", lambda arguments: control.set_balloon(arguments.value), m.BalloonSize)
        registry.add("query-balloon", self._query_balloon, returns=m.BalloonInfo)
        registry.add("snapshot-save", self._snapshot_save, m.StateJob)
        registry.add("snapshot-load", self._snapshot_load, m.StateJob)
        registry.add("snapshot-delete", self._snapshot_delete, m.StateDelete)
        registry.add("query-jobs", lambda _: list(self._jobs.values()), returns=list[m.JobInfo])
        registry.add("job-dismiss", self._dismiss, m.JobName)
        registry.events |= dict.fromkeys(("STOP", "RESUME", "POWERDOWN"), m.NoData)
        registry.events |= dict.fromkeys(("RESET", "SHUTDOWN"), m.Cause)
        registry.events["JOB_STATUS_CHANGE"] = m.JobChange

    @staticmethod
    def _negotiate(arguments: m.Capabilities) -> None:
        if arguments.enable:
            raise QmpError(f"there is no capability '{arguments.enable[0]}'")

    # --- queries ----------------------------------------------------------------------------------------

    def _query_version(self, _: object) -> m.VersionInfo:
        major, minor, micro, package = self._version
        return m.VersionInfo(qemu=m.Triple(major=major, minor=minor, micro=micro), package=package)

    def _query_commands(self, _: object) -> list[m.CommandInfo]:
        return [m.CommandInfo(name=name) for name in sorted(self.registry.commands)]

    def _query_status(self, _: object) -> m.StatusInfo:
        machine = self._control.machine
        return m.StatusInfo(running=not machine.paused, status=machine.state.value)

    def _query_cpus(self, _: object) -> list[m.CpuInfoFast]:
        return [
            m.CpuInfoFast(
                cpu_index=hart.number,
                qom_path=f"/machine/soc0/harts[{hart.number}]",
                thread_id=os.getpid(),
                props=m.CpuProperties(core_id=hart.number),
                target=self._control.target,
            )
            for hart in self._control.machine.harts
        ]

    def _query_block(self, _: object) -> list[m.BlockInfo]:
        return [block_info(drive) for drive in self._control.drives]

    # --- memory, people ---------------------------------------------------------------------------------

    def _memory_save(self, arguments: m.MemorySave) -> None:
        cpu = arguments.cpu_index or 0
        self._control.save_memory(arguments.val, arguments.size, arguments.filename, cpu)

    def _physical_save(self, arguments: m.PhysicalMemorySave) -> None:
        self._control.save_memory(arguments.val, arguments.size, arguments.filename, None)

    def _human_command(self, arguments: m.HumanCommand) -> str:
        return self._human.execute(arguments.command_line, arguments.cpu_index)

    # --- devices ----------------------------------------------------------------------------------------

    def _send_key(self, arguments: m.SendKey) -> None:
        names = [str(key.data) for key in arguments.keys]
        if any(key.type == "number" for key in arguments.keys):
            raise QmpError("keys are named here: take qcode")
        self._control.press_keys(*names)

    def _query_balloon(self, _: object) -> m.BalloonInfo:
        balloon = self._control.balloon
        if balloon is None:
            raise QmpError("the machine has no balloon", "DeviceNotActive")
        return m.BalloonInfo(actual=balloon.size)

    # --- states -----------------------------------------------------------------------------------------

    def _snapshot_save(self, arguments: m.StateJob) -> None:
        self._job(arguments.job_id, "snapshot-save", lambda: self._control.save_state(arguments.tag))

    def _snapshot_load(self, arguments: m.StateJob) -> None:
        self._job(arguments.job_id, "snapshot-load", lambda: self._control.load_state(arguments.tag))

    def _snapshot_delete(self, arguments: m.StateDelete) -> None:
        states = self._control.states
        self._job(arguments.job_id, "snapshot-delete", lambda: states.delete(arguments.tag))

    def _job(self, name: str, kind: str, work: Callable[[], object]) -> None:
        """Jobs end before their command returns; what became of them, ``query-jobs`` tells."""
        if name in self._jobs:
            raise QmpError(f"there is a job '{name}' already")
        announce = self._control.machine.announce
        for status in ("created", "running"):
            announce("JOB_STATUS_CHANGE", id=name, status=status)
        job = m.JobInfo(id=name, type=kind, status="concluded")
        try:
            work()
        except (IsagenError, OSError) as error:
            job.error = str(error)
            announce("JOB_STATUS_CHANGE", id=name, status="aborting")
        else:
            for status in ("waiting", "pending"):
                announce("JOB_STATUS_CHANGE", id=name, status=status)
        self._jobs[name] = job
        announce("JOB_STATUS_CHANGE", id=name, status="concluded")

    def _dismiss(self, arguments: m.JobName) -> None:
        if arguments.id not in self._jobs:
            raise QmpError(f"there is no job '{arguments.id}'")
        del self._jobs[arguments.id]
        self._control.machine.announce("JOB_STATUS_CHANGE", id=arguments.id, status="null")


def _without_arguments(call: Callable[[], None]) -> Callable[[object], None]:
    return lambda _: call()


def block_info(drive: Drive) -> m.BlockInfo:
    """A disk as ``query-block`` shows it."""
    node = drive.node
    image: dict[str, Any] = {"filename": str(drive.path), "virtual-size": drive.disk.length()}
    if node is not None:
        image |= node.info().as_json()
    return m.BlockInfo(
        device=drive.name,
        qdev=f"/machine/peripheral-anon/{drive.name}/virtio-backend",
        inserted=m.BlockDeviceInfo(
            file=str(drive.path),
            ro=bool(drive.disk.read_only),
            drv=str(image.get("format", "raw")),
            encrypted=bool(image.get("encrypted")),
            image={"format": "raw", **image},
        ),
    )
