"""What a board's devices lead to on the host, opened as the settings say; and the virtio devices on top."""

from __future__ import annotations

import os
import selectors
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from machines.settings import TERMINAL, Net, Settings
from runtime.devices.backends.serial import Connector, connector
from runtime.devices.character import Character
from runtime.errors import IsagenError
from runtime.memory.regions import DEVICE_WRITES
from runtime.memory.space import ALL

if TYPE_CHECKING:
    from machines.machine import Machine
    from runtime.devices.backends.network import Loopback, StreamWire
    from runtime.devices.virtio.balloon import Balloon
    from runtime.devices.virtio.device import VirtioDevice
    from runtime.devices.virtio.input import Keyboard, Tablet
    from runtime.devices.virtio.memory import GuestMemory

FIRST_MAC: Final = 0x525400123456
"""Of the first card that has no address of its own; the others count on."""
STEP: Final = 1 << 20


class Peripherals:
    """Everything that isn't the board's own, but for disks. `exits` closes what is opened here. Raises
    IsagenError where something can't be used.
    """

    def __init__(self, settings: Settings, memory: GuestMemory, exits: ExitStack) -> None:
        self.serial = Character()
        """The serial port."""
        self.ports: dict[str, Character] = {}
        """The virtio console's, by name; a console without a name is ``hvc0``, the next ``hvc1``."""
        self.keyboard: Keyboard | None = None
        self.tablet: Tablet | None = None
        self.balloon: Balloon | None = None
        self.virtio: list[VirtioDevice] = []
        self.notes: list[str] = []
        """What the user should know: which terminal or port something is at."""
        self._exits = exits
        self._connectors: list[tuple[Connector, Character]] = []
        self._wires: list[Loopback | StreamWire] = []
        if settings.serial not in TERMINAL:
            self._connect(settings.serial, self.serial, "serial port")
        for number, net in enumerate(settings.net):
            self._add_network(number, net)
        self._add_shares(settings)
        self._add_ports(settings)
        for name in settings.device:
            self._add_device(name, memory, settings.memory)

    def _connect(self, place: str, character: Character, what: str) -> None:
        try:
            made = connector(place)
        except ValueError as error:
            raise IsagenError(str(error)) from error
        self._exits.callback(made.close)
        self._connectors.append((made, character))
        self._note(what, made.description)

    def _note(self, what: str, description: str) -> None:
        if description:
            self.notes.append(f"{what} {description}")

    def _add_network(self, number: int, net: Net) -> None:
        from runtime.devices.backends.address import Address
        from runtime.devices.backends.network import Loopback, StreamWire
        from runtime.devices.virtio.network import Network

        place = net.listen or net.connect
        wire: Loopback | StreamWire
        if place is None:
            wire = Loopback()
        else:
            wire = StreamWire(Address.parse(place), listen=net.listen is not None)
        self._exits.callback(wire.close)
        self._wires.append(wire)
        self._note(f"network card {number}", wire.description)
        own = (FIRST_MAC + number).to_bytes(6, "big")
        mac = own if net.mac is None else bytes.fromhex(net.mac.replace(":", ""))
        self.virtio.append(Network(wire, mac, net.mtu))

    def _add_shares(self, settings: Settings) -> None:
        from runtime.devices.ninep.folder import Folder
        from runtime.devices.virtio.filesystem import FileSystem

        for share in settings.share:
            folder = Folder(share.path, read_only=share.read_only)
            self._exits.callback(folder.close)
            device = FileSystem(folder, share.tag)
            self._exits.callback(device.reset)  # before the folder: its open files
            self.virtio.append(device)

    def _add_ports(self, settings: Settings) -> None:
        from runtime.devices.virtio.console import Console, Port

        ports: list[Port] = []
        for port in settings.console:
            name = port.name or f"hvc{sum(not made.name for made in ports)}"
            if name in self.ports:
                raise IsagenError(f"two ports are named {name!r}", remedy="give each port its own name")
            character = self.ports[name] = Character()
            ports.append(Port(character, port.name))
            if port.to != "none":
                self._connect(port.to, character, f"port {name}")
        if ports:
            self.virtio.append(Console(ports))

    def _add_device(self, name: str, memory: GuestMemory, size: int) -> None:
        device: VirtioDevice
        if name == "balloon":
            from runtime.devices.virtio.balloon import Balloon

            device = self.balloon = Balloon(memory, size)
        else:
            from runtime.devices.virtio.input import Keyboard, Tablet

            if name == "keyboard":
                device = self.keyboard = Keyboard()
            else:
                device = self.tablet = Tablet()
        self.virtio.append(device)

    def start(self, selector: selectors.BaseSelector) -> None:
        """Serve the host's side by this loop from now on."""
        for made, character in self._connectors:
            made.start(character, selector)
        for wire in self._wires:
            wire.start(selector)


class FlashBank:
    """A bank of flash memory in RAM of the machine, and in its image's file, if it has one. See
    `runtime.devices.flash.Contents`.
    """

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name
        self._image: int | None = None

    def load(self, path: str | os.PathLike[str], *, read_only: bool, exits: ExitStack) -> None:
        """Take an image over, and keep what is written in it. Raises IsagenError for one that doesn't fit."""
        ram = self._machine.rams[self._name].ram
        try:
            image = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            exits.callback(os.close, image)
            size = os.fstat(image).st_size
            if size > ram.size or (size < ram.size and not read_only):
                raise IsagenError(
                    f"an image of {size} bytes for a flash memory of {ram.size}",
                    where=os.fspath(path),
                    remedy=f"make it {ram.size} bytes long" + (", or read-only" if size < ram.size else ""),
                )
            for at in range(0, size, STEP):
                data = os.pread(image, STEP, at)
                if data.count(0) != len(data):  # holes stay holes
                    ram.memory[at : at + len(data)] = data
        except OSError as error:
            what = f"no image of a flash memory: {(error.strerror or str(error)).lower()}"
            raise IsagenError(what, where=os.fspath(path)) from error
        self._image = None if read_only else image

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the bank."""
        return bytes(self._machine.rams[self._name].ram.memory[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes. Raises OSError where the image can't take them."""
        if self._image is not None:
            done = 0
            while done < len(data):
                done += os.pwrite(self._image, data[done:], offset + done)
        self._machine.memory.write_ram(self._machine.rams[self._name].ram, offset, data)

    def show(self, visible: bool) -> None:
        """Map the bytes for the guest, or the device in their place."""
        mapping = self._machine.rams[self._name]
        if visible:
            permissions = ALL | DEVICE_WRITES
            self._machine.memory.map_ram(mapping.start, mapping.ram, permissions=permissions)
        else:
            self._machine.memory.map_device(mapping.start, mapping.ram.size)
