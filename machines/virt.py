"""The boards `virt` (RV64) and `virt32` (RV32): the memory map and interrupts of QEMU's board of that name
(QEMU's documentation, "'virt' Generic Virtual Platform"), so that kernels and firmware built for it run.
"""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from machines import images
from machines.fdt import Node, TreeError, Value, cells, flatten, parse
from machines.hart import MACHINE_EXTERNAL, SOFTWARE, SUPERVISOR_EXTERNAL, TIMER, Hart
from machines.machine import Machine
from machines.peripherals import FlashBank, Peripherals
from machines.settings import Settings
from machines.timebase import TIMEBASE
from runtime.accel.contract import Accelerator
from runtime.accel.engine import EngineAccelerator
from runtime.clock import NANOSECONDS, Clock, CountedClock, HostClock
from runtime.cpu.engine import TargetPackage
from runtime.devices.aclint import Aclint
from runtime.devices.device import Line
from runtime.devices.flash import BUS, Flash
from runtime.devices.fw_cfg import FwCfg, standard_items
from runtime.devices.goldfish_rtc import GoldfishRtc
from runtime.devices.plic import Plic
from runtime.devices.sifive_test import SifiveTest
from runtime.devices.uart16550 import Uart16550
from runtime.devices.virtio.block import Block, Disk
from runtime.devices.virtio.device import VirtioDevice
from runtime.devices.virtio.entropy import Entropy
from runtime.devices.virtio.mmio import VirtioMmio
from runtime.errors import IsagenError
from runtime.memory.regions import DEVICE_WRITES, EXECUTE, PAGE_SIZE, READ
from runtime.memory.space import ALL, AddressSpace, Ram

ROM, ROM_SIZE = 0x1000, 0x1000
TEST: Final = 0x100000
RTC, RTC_SOURCE = 0x101000, 11
CLINT: Final = 0x2000000
PLIC, PLIC_SIZE, SOURCES = 0xC000000, 0x600000, 95
FW_CFG: Final = 0x10100000
FLASH, FLASH_SIZE, FLASH_BANKS = 0x20000000, 32 << 20, 2
UART, UART_SOURCE, UART_CLOCK = 0x10000000, 10, 3686400
VIRTIO, VIRTIO_STRIDE, VIRTIO_SOURCE, VIRTIO_SLOTS = 0x10001000, 0x1000, 1, 8
RAM: Final = 0x80000000

POWER_OFF, RESTART = 0x5555, 0x7777
TREE_ROOM: Final = 1 << 20
"""Kept free for the device tree at the end of memory; firmware adds to it in place."""
TREE_LIMIT: Final = 3 << 30
"""The device tree lies below this, where 32-bit firmware reaches it."""
FIRMWARE: Final = {
    64: (
        "/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin",
        "/usr/share/opensbi/lp64/generic/firmware/fw_dynamic.bin",
    ),
    32: (
        "/usr/lib/riscv32-linux-gnu/opensbi/generic/fw_dynamic.bin",
        "/usr/share/opensbi/ilp32/generic/firmware/fw_dynamic.bin",
    ),
}
"""Where distributions install OpenSBI."""
DYNAMIC_MAGIC, DYNAMIC_VERSION, SUPERVISOR = 0x4942534F, 2, 1
"""`struct fw_dynamic_info` (OpenSBI's documentation, "Firmware with Dynamic Information")."""
WIDTH: Final = {"virt": 64, "virt32": 32}
TARGET: Final = {"virt": "riscv64", "virt32": "riscv32"}
ELF_RISCV: Final = 243

SBI_SIZE: Final = 0x10000
"""Memory of the embedded SBI (`OWN` in its source)."""

PHANDLE_CPU, PHANDLE_PLIC, PHANDLE_TEST = 1, 100, 101
INTERRUPT_SUPERVISOR, INTERRUPT_MACHINE = 9, 11


def installed_firmware(width: int) -> Path | None:
    """OpenSBI, where it is installed."""
    return next((Path(name) for name in FIRMWARE[width] if Path(name).exists()), None)


class Virt:
    """The board: builds the machine from its settings and loads what it starts with."""

    def __init__(
        self,
        settings: Settings,
        package: TargetPackage,
        features: Iterable[str] | None,
        disks: tuple[Disk, ...] = (),
        embedded: Callable[[int, int], bytes] | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        if settings.memory % (1 << 20):
            raise IsagenError(f"memory of {settings.memory} bytes isn't whole MiB")
        self.settings = settings
        self.disks = disks
        self.package = package
        self.width = WIDTH[settings.board]
        given = package.default_features if features is None else tuple(features)
        self.features = package.closed(given)
        if self.width == 32 and settings.memory > 1 << 30:
            raise IsagenError("an RV32 board has at most 1 GiB of memory")
        clock: Clock = CountedClock() if settings.clock == "counted" else HostClock()
        memory = AddressSpace()
        self.machine = Machine(memory, clock)
        self.machine.load = self._load
        self._embedded = embedded
        self._accelerator = accelerator or EngineAccelerator()
        self.machine.random = random.Random(settings.seed) if settings.seed is not None else None
        try:
            self.peripherals = Peripherals(settings, memory, self.machine.exits)
            self.serial = self.peripherals.serial
            self._build(disks)
        except BaseException:
            self.machine.close()
            raise

    def _build(self, disks: tuple[Disk, ...]) -> None:
        settings, machine = self.settings, self.machine
        machine.add_ram("ram", RAM, Ram(settings.memory, shared=True))
        machine.add_ram("rom", ROM, Ram(ROM_SIZE), READ | EXECUTE)
        for number in range(settings.smp):
            machine.harts.append(Hart(self._accelerator, self.package, machine.memory, number, self.features))
        self.plic = Plic(SOURCES, [self._wire(*place) for place in self._contexts()])
        virtio = self.virtio = self._virtio(disks)
        machine.description = {
            "board": settings.board,
            "smp": settings.smp,
            "features": sorted(self.features),
            "virtio": [type(device).__name__.lower() for device in virtio],
        }
        self._place_devices(virtio)
        self._place_flash()
        if settings.threads == "host":
            machine.run_in_threads()
        machine.reset()
        self.peripherals.start(machine.selector)

    def wrap_disks(self, wrap: Callable[[Disk], Disk]) -> None:
        """Put something in front of each disk."""
        for device in self.virtio:
            if isinstance(device, Block):
                device.wrap(wrap)

    def unrecorded(self) -> list[str]:
        """What the machine has that learns of the outside, or changes it, past its journal."""
        settings = self.settings
        found = {
            "networks": settings.net,
            "shares": settings.share,
            "flash images": [bank for bank in settings.flash if not bank.read_only],
            "ports that lead somewhere": [port for port in settings.console if port.to != "none"],
        }
        return [name for name, parts in found.items() if parts]

    # --- parts ------------------------------------------------------------------------------------------

    def _wire(self, hart: int, bit: int) -> Line:
        return Line(lambda level: self.machine.harts[hart].drive(bit, level))

    def _contexts(self) -> list[tuple[int, int]]:
        """The PLIC's contexts: machine and supervisor mode of each hart."""
        bits = MACHINE_EXTERNAL, SUPERVISOR_EXTERNAL
        return [(hart, bit) for hart in range(self.settings.smp) for bit in bits]

    def _entropy(self, size: int) -> bytes:
        generator = self.machine.random
        if generator is not None:
            return generator.randbytes(size)
        return self.machine.outside("entropy", lambda: os.urandom(size))

    def _epoch(self) -> int:
        """Nanoseconds since 1970 when the machine starts."""
        if self.settings.epoch is not None:
            return self.settings.epoch * NANOSECONDS
        return 0 if self.settings.seed is not None else time.time_ns()

    def _virtio(self, disks: tuple[Disk, ...]) -> list[VirtioDevice]:
        found: list[VirtioDevice] = [
            Block(disk, serial=drive.serial, queues=drive.queues)
            for disk, drive in zip(disks, self.settings.drive, strict=True)
        ]
        found += [*self.peripherals.virtio, Entropy(self._entropy)]
        if len(found) > VIRTIO_SLOTS:
            raise IsagenError(
                f"{len(found)} virtio devices for the board's {VIRTIO_SLOTS} slots",
                remedy="leave some out; the entropy device takes a slot too",
            )
        return found

    def _place_devices(self, virtio: list[VirtioDevice]) -> None:
        machine, harts = self.machine, range(self.settings.smp)
        machine.add("uart0", UART, Uart16550(self.serial, self.plic.source(UART_SOURCE)))
        machine.add("rtc", RTC, GoldfishRtc(machine.clock, self._epoch(), self.plic.source(RTC_SOURCE)))
        machine.add("test", TEST, SifiveTest(machine.power_off, machine.restart))
        machine.add("fw_cfg", FW_CFG, self._fw_cfg())
        for slot in range(VIRTIO_SLOTS):
            device = virtio[slot] if slot < len(virtio) else None
            line = self.plic.source(VIRTIO_SOURCE + slot)
            transport = VirtioMmio(machine.memory, line, device)
            machine.add(f"virtio{slot}", VIRTIO + slot * VIRTIO_STRIDE, transport)
        software = [self._wire(hart, SOFTWARE) for hart in harts]
        timer = [self._wire(hart, TIMER) for hart in harts]
        machine.add("clint", CLINT, Aclint(machine.clock, machine.ticks, software, timer))
        machine.add("plic", PLIC, self.plic)

    def _place_flash(self) -> None:
        machine, images = self.machine, self.settings.flash
        for number in range(FLASH_BANKS):
            name, start = f"flash{number}", FLASH + number * FLASH_SIZE
            bank = FlashBank(machine, name)
            image = images[number] if number < len(images) else None
            machine.add(name, start, Flash(bank, FLASH_SIZE, read_only=image is not None and image.read_only))
            machine.add_ram(name, start, Ram(FLASH_SIZE, shared=True), ALL | DEVICE_WRITES)
            if image is not None:
                bank.load(image.path, read_only=image.read_only, exits=machine.exits)

    @property
    def _firmware_loads(self) -> bool:
        """Whether code in the flash memory starts, and finds the kernel by fw_cfg."""
        return bool(self.settings.flash)

    def _fw_cfg(self) -> FwCfg:
        settings = self.settings
        files = {
            item.name: item.file.read_bytes() if item.file is not None else (item.string or "").encode()
            for item in settings.fw_cfg
        }
        if len(files) != len(settings.fw_cfg):
            raise IsagenError("two files of fw_cfg have the same name")
        kernel, initrd = (
            path.read_bytes() if path is not None and self._firmware_loads else b""
            for path in (settings.kernel, settings.initrd)
        )
        items = standard_items(settings.smp, settings.memory, kernel, initrd, settings.append)
        return FwCfg(self.machine.memory, items, files)

    # --- starting ---------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Put firmware, kernel, initrd and device tree into memory, and the harts at the reset vector."""
        settings, memory = self.settings, self.machine.memory
        elf = ELF_RISCV, self.width
        alignment = 2 << 20 if self.width == 64 else 4 << 20
        start, kernel, top = RAM, RAM + alignment, self._top()
        if settings.bios != "none":
            bios = self._firmware()
            if bios is None:
                loaded = images.place(memory, self._own_firmware(), RAM, "the embedded SBI")
            else:
                loaded = images.load(memory, bios, RAM, elf)
            start = loaded.entry
            kernel = max(kernel, -(-loaded.end // alignment) * alignment)
        entry = 0
        if self._firmware_loads:
            entry = FLASH
            start = entry if settings.bios == "none" else start
        elif settings.kernel is not None:
            at = kernel if settings.bios != "none" else RAM
            loaded = images.load(memory, settings.kernel, at, elf)
            entry = loaded.entry
            start = entry if settings.bios == "none" else start
        tree_at = top - TREE_ROOM
        initrd = None
        if settings.initrd is not None and not self._firmware_loads:
            data = settings.initrd.read_bytes()
            at = (tree_at - len(data)) // PAGE_SIZE * PAGE_SIZE
            if at < RAM + (8 << 20):
                raise IsagenError("the initrd doesn't fit into memory", where=str(settings.initrd))
            images.place(memory, data, at, str(settings.initrd))
            initrd = at, at + len(data)
        tree = self.device_tree(initrd) if settings.dtb is None else self._given_tree(settings.dtb, initrd)
        images.place(memory, tree, tree_at, "device tree")
        memory.write(ROM, self._reset_vector(start, tree_at, entry))
        for hart in self.machine.harts:
            hart.reset(ROM)

    def _firmware(self) -> Path | None:
        """The firmware's file; None: the embedded SBI."""
        bios = self.settings.bios
        if bios == "default":
            return installed_firmware(self.width)
        return bios if isinstance(bios, Path) else None

    def _own_firmware(self) -> bytes:
        if self._embedded is None:
            raise IsagenError("this program has no embedded SBI", remedy="name a firmware")
        return self._embedded(self.width, self.settings.smp)

    def _top(self) -> int:
        """The end of the memory that everything reaches."""
        return min(RAM + self.settings.memory, RAM + TREE_LIMIT if self.width == 64 else 1 << 32)

    def _reset_vector(self, start: int, tree: int, entry: int) -> bytes:
        """What each hart executes first: a0 = its number, a1 = the tree, a2 = OpenSBI's information."""
        load = 0x3000 if self.width == 64 else 0x2000  # ld, lw
        code = [
            0x00000297,  # auipc t0, 0
            0x02828613,  # addi  a2, t0, 40
            0xF1402573,  # csrr  a0, mhartid
            0x02028583 | load & 0x3000 | 0x3,  # l{d,w} a1, 32(t0)
            0x01828283 | load & 0x3000 | 0x3,  # l{d,w} t0, 24(t0)
            0x00028067,  # jr    t0
        ]
        word = "Q" if self.width == 64 else "I"
        information = (DYNAMIC_MAGIC, DYNAMIC_VERSION, entry, SUPERVISOR, 0, 0)
        return struct.pack("<6I2Q", *code, start, tree) + struct.pack(f"<6{word}", *information)

    # --- the device tree --------------------------------------------------------------------------------

    def _given_tree(self, path: Path, initrd: tuple[int, int] | None) -> bytes:
        """A user's tree, with what only we know: command line, initrd, the size of memory."""
        try:
            tree = parse(path.read_bytes())
        except TreeError as error:
            raise TreeError(error.what, where=str(path)) from error
        self._choose(tree.root.child("chosen") or tree.root.add("chosen"), initrd)
        memory = tree.root.child(f"memory@{RAM:x}")
        if memory is not None:
            memory.properties["reg"] = cells(RAM) + cells(self.settings.memory)
        blob = flatten(tree.root, reserved=tree.reservations)
        if len(blob) > TREE_ROOM // 2:
            raise IsagenError(f"a device tree of {len(blob)} bytes", where=str(path))
        return blob

    def _choose(self, chosen: Node, initrd: tuple[int, int] | None) -> None:
        if self.settings.append:
            chosen.properties["bootargs"] = self.settings.append
        if initrd is not None:
            chosen.properties["linux,initrd-start"] = cells(initrd[0])
            chosen.properties["linux,initrd-end"] = cells(initrd[1])

    def device_tree(self, initrd: tuple[int, int] | None) -> bytes:
        """The board, described (Linux's bindings; RISC-V's: "riscv/cpus.yaml", "riscv/extensions.yaml")."""
        settings = self.settings
        root = Node("", {"#address-cells": 2, "#size-cells": 2})
        root.properties |= {"compatible": "riscv-virtio", "model": "riscv-virtio,isagen"}
        chosen = root.add("chosen", {"stdout-path": f"/soc/serial@{UART:x}"})
        chosen.properties["rng-seed"] = self._entropy(32)
        self._choose(chosen, initrd)
        memory: dict[str, Value] = {"device_type": "memory", "reg": cells(RAM) + cells(settings.memory)}
        root.add(f"memory@{RAM:x}", memory)
        if settings.bios != "none" and self._firmware() is None:
            reserved: dict[str, Value] = {"#address-cells": 2, "#size-cells": 2, "ranges": None}
            own: dict[str, Value] = {"reg": cells(RAM) + cells(SBI_SIZE), "no-map": None}
            root.add("reserved-memory", reserved).add(f"sbi@{RAM:x}", own)
        self._describe_cpus(root)
        self._describe_devices(root.add("soc", self._bus_properties()))
        for name, value in (("poweroff", POWER_OFF), ("reboot", RESTART)):
            what: dict[str, Value] = {"compatible": f"syscon-{name}", "regmap": PHANDLE_TEST}
            root.add(name, what | {"offset": 0, "value": value})
        return flatten(root)

    @staticmethod
    def _bus_properties() -> dict[str, Value]:
        return {"#address-cells": 2, "#size-cells": 2, "compatible": "simple-bus", "ranges": None}

    def _describe_cpus(self, root: Node) -> None:
        cpus = root.add("cpus", {"#address-cells": 1, "#size-cells": 0, "timebase-frequency": TIMEBASE})
        single, several = extension_names(self.features)
        base = f"rv{self.width}"
        string = base + "".join(single) + "".join(f"_{name}" for name in several)
        mode = next((name for name in ("Sv57", "Sv48", "Sv39", "Sv32") if name in self.features), "none")
        for number in range(self.settings.smp):
            properties: dict[str, Value] = {"device_type": "cpu", "reg": number, "status": "okay"}
            properties |= {"compatible": "riscv", "riscv,isa": string, "riscv,isa-base": base + "i"}
            properties |= {"riscv,isa-extensions": [*single, *several], "mmu-type": f"riscv,{mode.lower()}"}
            cpu = cpus.add(f"cpu@{number:x}", properties)
            controller: dict[str, Value] = {"#interrupt-cells": 1, "#address-cells": 0}
            controller["interrupt-controller"] = None
            controller |= {"compatible": "riscv,cpu-intc", "phandle": PHANDLE_CPU + number}
            cpu.add("interrupt-controller", controller)

    def _describe_devices(self, soc: Node) -> None:
        harts = range(self.settings.smp)

        def device(name: str, start: int, size: int, compatible: Value, source: int = 0) -> Node:
            node = soc.add(f"{name}@{start:x}", {"reg": cells(start) + cells(size), "compatible": compatible})
            if source:
                node.properties |= {"interrupts": source, "interrupt-parent": PHANDLE_PLIC}
            return node

        test = device("test", TEST, SifiveTest.size, ["sifive,test1", "sifive,test0", "syscon"])
        test.properties["phandle"] = PHANDLE_TEST
        device("rtc", RTC, GoldfishRtc.size, "google,goldfish-rtc", RTC_SOURCE)
        clint = device("clint", CLINT, Aclint.size, ["sifive,clint0", "riscv,clint0"])
        clint.properties["interrupts-extended"] = [
            item for n in harts for bit in (SOFTWARE, TIMER) for item in (PHANDLE_CPU + n, bit)
        ]
        plic = device("plic", PLIC, PLIC_SIZE, ["sifive,plic-1.0.0", "riscv,plic0"])
        plic.properties |= {"#interrupt-cells": 1, "#address-cells": 0, "interrupt-controller": None}
        plic.properties |= {"riscv,ndev": SOURCES, "phandle": PHANDLE_PLIC}
        plic.properties["interrupts-extended"] = [
            item for hart, bit in self._contexts() for item in (PHANDLE_CPU + hart, bit)
        ]
        serial = device("serial", UART, Uart16550.size, "ns16550a", UART_SOURCE)
        serial.properties["clock-frequency"] = UART_CLOCK
        device("fw-cfg", FW_CFG, FwCfg.size, "qemu,fw-cfg-mmio").properties["dma-coherent"] = None
        flash = device("flash", FLASH, FLASH_SIZE, "cfi-flash")
        banks = (FLASH + number * FLASH_SIZE for number in range(FLASH_BANKS))
        flash.properties["reg"] = [cell for start in banks for cell in cells(start) + cells(FLASH_SIZE)]
        flash.properties["bank-width"] = BUS
        for slot in range(VIRTIO_SLOTS):
            start = VIRTIO + slot * VIRTIO_STRIDE
            device("virtio_mmio", start, VirtioMmio.size, "virtio,mmio", VIRTIO_SOURCE + slot)


def extension_names(features: tuple[str, ...] | frozenset[str]) -> tuple[list[str], list[str]]:
    """The ISA's extensions as device trees name them: single letters in canonical order, then the others."""
    single = [letter for letter in "imafdqcbvh" if letter == "i" or letter.upper() in features]
    several = [name.lower() for name in sorted(features) if name.startswith("Z") and len(name) > 1]
    return single, several
