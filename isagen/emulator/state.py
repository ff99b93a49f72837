"""The state of an emulator: registers, memory, devices and symbols, and how far its run is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from isagen.emulator import errors
from isagen.emulator.errors import EmulatorError
from isagen.emulator.events import Device, Trap
from isagen.generated import folder_of
from runtime.cpu import symbols, tables
from runtime.cpu.engine import Cpu, load_target
from runtime.errors import IsagenError
from runtime.memory import regions
from runtime.memory.space import AddressError, AddressSpace
from runtime.registers import RegisterFile

if TYPE_CHECKING:
    from isagen.emulator.conventions import SystemCalls
    from runtime.cpu.package import TargetPackage

READ, WRITE, EXECUTE = regions.READ, regions.WRITE, regions.EXECUTE
PAGE_SIZE: Final = regions.PAGE_SIZE
LETTERS: Final = {"r": READ, "w": WRITE, "x": EXECUTE, "-": 0}
LONGEST_INSTRUCTION: Final = 16

_packages: dict[Path, TargetPackage] = {}


def permission_bits(permissions: str | int) -> int:
    """Bits (1 read, 2 write, 4 execute) from letters of ``rwx``, or bits."""
    if isinstance(permissions, int):
        bits = permissions
    elif set(permissions) <= LETTERS.keys():
        bits = sum({LETTERS[letter] for letter in permissions})
    else:
        bits = -1
    if not 0 <= bits <= 7:
        raise EmulatorError(f"{permissions!r} aren't permissions", remedy="take letters of rwx, or 0 to 7")
    return bits


class Instruction(NamedTuple):
    """A disassembled instruction: its address, its bytes, its text."""

    address: int
    data: bytes
    text: str

    @property
    def size(self) -> int:
        return len(self.data)


class MappedRegion(NamedTuple):
    """A part of the guest's address space. `permissions` as in ``rw-``; `device`: what answers there."""

    address: int
    size: int
    permissions: str
    device: Device | None


class Registers:
    """The registers as items and attributes: ``emu.registers["a0"]``, ``emu.registers.a0``."""

    _file: RegisterFile

    def __init__(self, file: RegisterFile) -> None:
        object.__setattr__(self, "_file", file)

    def __getitem__(self, name: str) -> int:
        return self._file.read(name)

    def __setitem__(self, name: str, value: int) -> None:
        self._file.write(name, value)

    def __getattr__(self, name: str) -> int:
        if name not in self._file:
            raise AttributeError(f"{self._file.cpu.package.name} has no register {name!r}")
        return self._file.read(name)

    def __setattr__(self, name: str, value: int) -> None:
        if name not in self._file:
            raise AttributeError(f"{self._file.cpu.package.name} has no register {name!r}")
        self._file.write(name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def __contains__(self, name: object) -> bool:
        return name in self._file

    def width(self, name: str) -> int:
        """Bits of a register."""
        return self._file.width(name)

    def as_dict(self) -> dict[str, int]:
        """All visible registers."""
        return self._file.as_dict()


class State:
    """A CPU of a built target, its registers, memory and devices: what an `Emulator` is made of."""

    def __init__(
        self, target: str, *, features: Iterable[str] | str | None = None, system: bool = False
    ) -> None:
        folder = folder_of(target)
        if folder not in _packages:
            _packages[folder] = load_target(folder)
        package = _packages[folder]
        if isinstance(features, str):
            from isagen import isa_string

            features = isa_string.features(features, package.name, package.features, package.default_features)
        space = AddressSpace()
        cpu = Cpu(package, space, system=system, features=features)
        self.__dict__.update(
            target=target,
            cpu=cpu,
            space=space,
            file=RegisterFile(cpu),
            symbols={},
            sizes={},
            highest=(1 << package.pc_width) - 1,
            _devices={},
            is_stopping=False,
            is_running=False,
            is_finishing=False,
            is_retrying=False,
        )
        self.target: str
        self.cpu: Cpu
        """The engine's CPU, for what isn't offered here."""
        self.space: AddressSpace
        self.file: RegisterFile
        self.symbols: dict[str, int]
        """Names of addresses: of what `load_elf` and `load_assembly` loaded, and your own."""
        self.sizes: dict[str, int]
        """Bytes of symbols, where they are known."""
        self.highest: int
        """The highest address."""
        self._devices: dict[int, tuple[int, Device]]
        self.is_stopping: bool
        """Whether `stop` was called in this run."""
        self.is_running: bool
        self.is_finishing: bool
        self.is_retrying: bool
        if not system:
            for name, value in self._initial_state().items():
                cpu.set(name, value)

    def _initial_state(self) -> dict[str, int]:
        """What a system sets before it runs a program (floating point on, for example)."""
        return dict(self.calls.abi.initial_state) if self.has_calls else {}

    # --- life -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap everything, and end what runs beside the CPU. The emulator can be used again."""
        self.cpu.close()
        for region in list(self.space):
            self.space.remove(region)
        self._devices.clear()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target} pc={self.cpu.pc:#x}>"

    # --- registers --------------------------------------------------------------------------------------

    @cached_property
    def registers(self) -> Registers:
        """All registers by name."""
        return Registers(self.file)

    @property
    def pc(self) -> int:
        """The address of the next instruction."""
        return self.cpu.pc

    @pc.setter
    def pc(self, value: int) -> None:
        self.cpu.pc = value

    def __getattr__(self, name: str) -> int:
        file = self.__dict__.get("file")
        if file is None or name not in file:
            raise AttributeError(f"{type(self).__name__} has no attribute or register {name!r}")
        return int(file.read(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__ or hasattr(type(self), name) or name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        file = self.__dict__.get("file")
        if file is None or name not in file:
            raise AttributeError(f"{type(self).__name__} has no attribute or register {name!r}")
        file.write(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self.file.names})

    # --- memory -----------------------------------------------------------------------------------------

    def map(self, address: int, size: int, permissions: str | int = "rwx") -> None:
        """Map fresh pages of zeros. `address` and `size` in bytes, multiples of 4096; `permissions`: letters
        of ``rwx``, or bits (1 read, 2 write, 4 execute). What was mapped there is replaced. Raises
        EmulatorError.
        """
        self.check_range(address, size)
        self.space.map(address, size, permission_bits(permissions))
        self.forget_devices()

    def unmap(self, address: int, size: int) -> None:
        """Remove what is mapped in the range of whole pages."""
        self.space.unmap(address, size)
        self.forget_devices()

    def protect(self, address: int, size: int, permissions: str | int) -> None:
        """Change what the pages of a range allow. Raises EmulatorError where nothing is mapped."""
        self._check_mapped(address, size)
        self.space.protect(address, size, permission_bits(permissions))

    def map_device(self, address: int, size: int, device: Device, *, hidden: bool = False) -> None:
        """Let `device` answer accesses to `size` bytes from `address` on. Its methods may raise: `run`
        raises the same. Pages of memory can't be divided: a device that lies on part of a page keeps it to
        itself. `hidden`: the address is behind those that programs have; only the target's spec uses it (for
        x86's ports).
        """
        if not hidden:
            self.check_range(address, size)
        self.space.map_device(address, size)
        self._devices[address] = (size, device)
        self.forget_devices()

    def forget_devices(self) -> None:
        mapped = {region.start for region in self.space if region.ram is None}
        for address in [address for address in self._devices if address not in mapped]:
            del self._devices[address]

    def share_devices(self, other: State) -> None:
        """Let the devices of `other`, which is mapped alike, answer here, too."""
        self._devices.update(other._devices)

    def check_range(self, address: int, size: int) -> None:
        if address < 0 or size <= 0 or address + size - 1 > self.highest:
            raise EmulatorError(
                f"{size} bytes don't fit the address space", where=f"guest address {address:#x}"
            )

    def _check_mapped(self, address: int, size: int) -> None:
        end = address + size
        at = address
        while at < end:
            region = self.space.find(at)
            if region is None:
                raise EmulatorError("nothing is mapped here", where=f"guest address {at:#x}")
            at = region.end

    @property
    def regions(self) -> tuple[MappedRegion, ...]:
        """What is mapped, in the order of addresses."""
        return tuple(
            MappedRegion(
                region.start,
                region.size,
                "".join(
                    letter if region.permissions & bit else "-" for letter, bit in list(LETTERS.items())[:3]
                ),
                self.device_at(region.start)[1] if region.ram is None else None,
            )
            for region in self.space
        )

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of memory, whatever its permissions. Raises UnmappedMemory where there is none."""
        try:
            return self.space.read(address, size)
        except AddressError as error:
            raise errors.UnmappedMemory(error.address, "read", self.cpu.pc) from None

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes to memory, whatever its permissions, or nothing where a part isn't mapped
        (UnmappedMemory).
        """
        try:
            self.space.write(address, data)
        except AddressError as error:
            raise errors.UnmappedMemory(error.address, "write", self.cpu.pc) from None

    def read_int(self, address: int, size: int, *, signed: bool = False) -> int:
        """The number of `size` bytes at `address`, in the guest's byte order."""
        return int.from_bytes(self.read(address, size), self.byte_order, signed=signed)

    def write_int(self, address: int, value: int, size: int) -> None:
        """Write `value`, cut to `size` bytes, in the guest's byte order."""
        self.write(address, (value & (1 << 8 * size) - 1).to_bytes(size, self.byte_order))

    def read_string(self, address: int, limit: int = 1 << 16) -> bytes:
        """The bytes from `address` to the first zero (not included), at most `limit`."""
        found = bytearray()
        while len(found) < limit:
            part = self.read(address, min(PAGE_SIZE - address % PAGE_SIZE, limit - len(found)))
            end = part.find(0)
            if end >= 0:
                return bytes(found + part[:end])
            found += part
            address += len(part)
        return bytes(found)

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """Of numbers in memory."""
        return "big" if self.cpu.package.big_endian else "little"

    def disassemble(
        self, address: int | str | None = None, count: int = 1, *, dialect: str = ""
    ) -> list[Instruction]:
        """`count` instructions from `address` on (`pc` if None); fewer where memory ends."""
        from isagen.generated import disassembler

        printer = disassembler(self.cpu.package.directory.name, dialect)
        at = self.cpu.pc if address is None else self.address_of(address)
        found: list[Instruction] = []
        while len(found) < count:
            data = self.peek(at, LONGEST_INSTRUCTION)
            if not data:
                break
            line = printer.line(data, at)
            found.append(Instruction(at, data[: line.length], line.text))
            at += max(line.length, 1)
        return found

    def peek(self, address: int, size: int) -> bytes:
        """Up to `size` bytes at `address`: as far as memory goes on."""
        region = self.space.find(address)
        data = b""
        while size > 0 and region is not None and region.ram is not None:
            part = self.space.read(address, min(size, region.end - address))
            data += part
            size -= len(part)
            address += len(part)
            region = self.space.find(address)
        return data

    def address_of(self, symbol: str | int) -> int:
        """The address of a symbol; numbers stay. Raises EmulatorError."""
        if isinstance(symbol, int):
            return symbol
        if symbol not in self.symbols:
            raise EmulatorError(f"there is no symbol {symbol!r}", remedy="load a program, or fill `symbols`")
        return self.symbols[symbol]

    def extent_of(self, symbol: str) -> tuple[int, int]:
        """First and last address of a symbol: by its size where that is known, else as far as the next
        symbol. Raises EmulatorError.
        """
        start = self.address_of(symbol)
        size = self.sizes.get(symbol, 0)
        if not size:
            size = min((value - start for value in self.symbols.values() if value > start), default=1)
        return start, start + size - 1

    # --- while it runs ----------------------------------------------------------------------------------

    def skip_instruction(self) -> None:
        """Go on behind the instruction at `pc`, which counts as executed: its work was done by somebody
        else.
        """
        cpu = self.cpu
        if cpu.package.delayed:
            cpu.retire(cpu.next_pc)
            return
        found = self.disassemble(cpu.pc)
        cpu.retire(cpu.pc + (found[0].size if found else cpu.package.unit))

    def retry_instruction(self) -> None:
        """In a trap hook that returns true: the instruction is tried again where `pc` hasn't changed."""
        self.is_retrying = True

    def finish_instruction(self) -> None:
        """In a memory hook that has called `stop`: let the instruction happen before the run ends."""
        self.is_finishing = True

    def is_undecodable(self, address: int) -> bool:
        """Whether the engine has no instruction for the bytes at an address."""
        return self.cpu.package.function(symbols.DECODE)(self.cpu.address, address) == 0

    def undecodable_size(self, address: int) -> int:
        """Bytes of what is no instruction, as far as the architecture says that of all bytes."""
        package = self.cpu.package
        if package.family == "riscv":  # Unprivileged manual, "Expanded Instruction-Length Encoding"
            return 4 if self.peek(address, 1)[:1] and self.peek(address, 1)[0] & 3 == 3 else 2
        return package.unit

    def is_illegal(self, trap: Trap) -> bool:
        """Whether a trap is what the target raises for bytes that are no instruction."""
        package = self.cpu.package
        return trap.name == package.traps[package.table_field(tables.H_ILLEGAL_TRAP)]

    def stop(self) -> None:
        """End the run in progress, from a hook (the hooked instruction is then not executed) or another
        thread.
        """
        self.is_stopping = True
        self.cpu.interrupt()

    def translate(self, *, background: bool = True) -> None:
        """From now on translate code that runs long to the host's, in a process beside this one
        (`background`) or in between. Hooked instructions are left as they are. Raises IsagenError where the
        target can't.
        """
        self.cpu.translate(background=background)

    @property
    def executed(self) -> int:
        """Instructions executed so far."""
        return self.cpu.executed

    # --- devices and system calls -----------------------------------------------------------------------

    @cached_property
    def has_calls(self) -> bool:
        """Whether the conventions of system calls are known for the target."""
        try:
            self.calls  # noqa: B018 - it raises
        except IsagenError:
            return False
        return True

    @cached_property
    def calls(self) -> SystemCalls:
        """The conventions of system calls. Raises IsagenError where none are known."""
        from isagen.emulator.conventions import SystemCalls

        return SystemCalls(self.cpu, self.file)

    def device_at(self, address: int) -> tuple[int, Device]:
        """A device and where it starts."""
        for start, (size, device) in self._devices.items():
            if start <= address < start + size:
                return start, device
        raise EmulatorError("no device is here", where=f"guest address {address:#x}")
