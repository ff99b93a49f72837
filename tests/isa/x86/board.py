"""A PC without devices but two ports, for images of our own: what tests the x86 system level beside QEMU.

Port 0xe9 takes text (QEMU: isa-debugcon), port 0xf4 ends the run (isa-debug-exit). The image is 64 KiB of ROM
at 0xf0000 and below 4 GiB; the rest is RAM.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from machines.x86 import PORTS, power_on
from runtime.cpu.engine import Cpu, TargetPackage
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace

IMAGES = Path(__file__).parent / "images"
ROM = 0x1_0000
RAM = 16 << 20
TEXT, END = 0xE9, 0xF4


def assemble(name: str, folder: Path) -> bytes:
    """An image of this folder: 64 KiB with the first instruction 16 bytes from its end."""
    object_, linked, image = (folder / f"{name}.{suffix}" for suffix in ("o", "elf", "bin"))
    subprocess.run(["as", "--64", "-I", IMAGES, IMAGES / f"{name}.S", "-o", object_], check=True)
    link = ["ld", "-m", "elf_x86_64", "-Ttext=0", "--section-start=.reset=0xfff0", "-e", "_start"]
    subprocess.run([*link, object_, "-o", linked], check=True)
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".text", "-j", ".reset", "--gap-fill=0", linked, image], check=True
    )
    return image.read_bytes().ljust(ROM, b"\xf4")


def run(package: TargetPackage, image: bytes, limit: int = 5_000_000) -> tuple[str, int | None]:
    """What the image prints, and the number that it ends with (None: it didn't)."""
    memory = AddressSpace()
    memory.map(0, RAM)
    memory.write(0xF_0000, image)
    memory.map(0xFFFF_0000, ROM)
    memory.write(0xFFFF_0000, image)
    memory.map_device(PORTS.start, len(PORTS))
    cpu = Cpu(package, memory, system=True)
    power_on(cpu)
    text = bytearray()
    while cpu.executed < limit:
        stop = cpu.run(limit)
        if stop.reason is not Reason.MMIO:
            text += f"\n{stop.reason.name} at {stop.pc:#x}".encode()
            break
        if stop.write and stop.address - PORTS.start == END:
            return text.decode(), stop.value & 0xFF
        if stop.write and stop.address - PORTS.start == TEXT:
            text.append(stop.value & 0xFF)
        cpu.answer((1 << 8 * stop.size) - 1)
    return text.decode(), None


def run_qemu(image: Path, folder: Path) -> tuple[str, int]:
    """The same under qemu-system-x86_64."""
    output = folder / "qemu.txt"
    command = ["qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-m", "16", "-display", "none"]
    command += ["-nodefaults", "-no-reboot"]
    command += ["-bios", str(image), "-chardev", f"file,id=text,path={output}"]
    command += ["-device", f"isa-debugcon,iobase={TEXT:#x},chardev=text"]
    command += ["-device", f"isa-debug-exit,iobase={END:#x},iosize=4"]
    status = subprocess.run(command, timeout=30, check=False).returncode
    return output.read_text(), status >> 1
