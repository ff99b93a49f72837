"""Unicorn as the Linux layer's `Cpu` and `Memory`: a peer in speed and in tests. It counts no
instructions.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import unicorn
from unicorn import arm64_const, arm_const, ppc_const, riscv_const, sparc_const, x86_const

from runtime.linux.abi.base import Abi
from runtime.linux.ports import EXECUTE, READ, WRITE, AccessFault, Stop

_KINDS: dict[str, tuple[int, int, Any, str]] = {
    "riscv64": (unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64, riscv_const, "UC_RISCV_REG_"),
    "riscv32": (unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32, riscv_const, "UC_RISCV_REG_"),
    "aarch64": (unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM, arm64_const, "UC_ARM64_REG_"),
    "arm": (unicorn.UC_ARCH_ARM, unicorn.UC_MODE_ARM, arm_const, "UC_ARM_REG_"),
    "x86_64": (unicorn.UC_ARCH_X86, unicorn.UC_MODE_64, x86_const, "UC_X86_REG_"),
    "i386": (unicorn.UC_ARCH_X86, unicorn.UC_MODE_32, x86_const, "UC_X86_REG_"),
    "ppc": (
        unicorn.UC_ARCH_PPC,
        unicorn.UC_MODE_PPC32 | unicorn.UC_MODE_BIG_ENDIAN,
        ppc_const,
        "UC_PPC_REG_",
    ),
    "sparc": (
        unicorn.UC_ARCH_SPARC,
        unicorn.UC_MODE_SPARC32 | unicorn.UC_MODE_BIG_ENDIAN,
        sparc_const,
        "UC_SPARC_REG_",
    ),
}


class UnicornMemory:
    """The guest's pages, in a Unicorn instance."""

    def __init__(self, uc: Any) -> None:
        self.uc = uc
        self.stand_still: Callable[[], None] = lambda: None

    def _regions(self, start: int, size: int) -> list[tuple[int, int]]:
        return [
            (max(low, start), min(high + 1, start + size))
            for low, high, _ in self.uc.mem_regions()
            if low < start + size and start <= high
        ]

    def map(self, start: int, size: int, permissions: int, *, shared: bool = False) -> None:
        """What is shared is shared by threads only."""
        self.unmap(start, size)
        self.uc.mem_map(start, size, permissions)

    def map_file(
        self, start: int, size: int, permissions: int, descriptor: int, offset: int, writable: bool
    ) -> None:
        raise OSError(errno.ENODEV, "not by Unicorn")

    def move(self, old: int, new: int, size: int) -> None:
        """Page by page: their permissions may differ."""
        for at in range(0, size, 4096):
            permissions = next(p for low, high, p in self.uc.mem_regions() if low <= old + at <= high)
            data = bytes(self.uc.mem_read(old + at, 4096))
            self.map(new + at, 4096, permissions)
            self.uc.mem_write(new + at, data)
        self.unmap(old, size)

    def grown(self, address: int, permissions: int) -> bool:
        return False

    def mapped_file(self, address: int) -> int | None:
        return None

    def shrunk(self, descriptor: int, size: int) -> None:
        pass

    def clear_dirty(self) -> None:
        pass

    def dirty(self) -> Iterator[tuple[int, int]]:
        return iter(())

    def host_address(self, address: int) -> int:
        raise AccessFault(address, READ)

    def unmap(self, start: int, size: int) -> None:
        for low, high in self._regions(start, size):
            self.uc.mem_unmap(low, high - low)

    def protect(self, start: int, size: int, permissions: int) -> None:
        self.uc.mem_protect(start, size, permissions)

    def read(self, address: int, size: int) -> bytes:
        try:
            return bytes(self.uc.mem_read(address, size))
        except unicorn.UcError:
            raise AccessFault(address, READ) from None

    def write(self, address: int, data: bytes) -> None:
        try:
            self.uc.mem_write(address, data)
        except unicorn.UcError:
            raise AccessFault(address, WRITE) from None


class UnicornCpu:
    """The guest's CPU."""

    def __init__(self, abi: Abi) -> None:
        arch, mode, constants, prefix = _KINDS[abi.name]
        self.abi = abi
        self.uc = unicorn.Uc(arch, mode)
        if abi.name == "arm":
            self.uc.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_A15)
        self.constants, self.prefix = constants, prefix
        self.memory = UnicornMemory(self.uc)
        self.stop: Stop | None = None
        self.uc.hook_add(
            unicorn.UC_HOOK_MEM_INVALID,
            self._on_fault,
        )
        if abi.name == "x86_64":
            instruction = x86_const.UC_X86_INS_SYSCALL
            self.uc.hook_add(
                unicorn.UC_HOOK_INSN, lambda uc, _: self._trap("system_call", 0), None, 1, 0, instruction
            )
        self.uc.hook_add(unicorn.UC_HOOK_INTR, lambda uc, number, _: self._trap("", number))
        self.pc_name = {"x86_64": "rip", "i386": "eip"}.get(abi.name, "pc")
        self._enable_float(abi.name)

    def _enable_float(self, name: str) -> None:
        if name.startswith("riscv"):
            self.uc.reg_write(riscv_const.UC_RISCV_REG_MSTATUS, 3 << 13)
        elif name == "ppc":
            self.uc.reg_write(ppc_const.UC_PPC_REG_MSR, self.uc.reg_read(ppc_const.UC_PPC_REG_MSR) | 0x2000)
        elif name == "aarch64":
            self.uc.reg_write(arm64_const.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        elif name == "arm":
            self.uc.reg_write(arm_const.UC_ARM_REG_C1_C0_2, 0xF << 20)
            self.uc.reg_write(arm_const.UC_ARM_REG_FPEXC, 1 << 30)

    def _register(self, name: str) -> int:
        aliases = {"fs_base": "FS_BASE", "gs_base": "GS_BASE", "tpidruro": "C13_C0_3", "cpsr": "CPSR"}
        if self.abi.name == "ppc" and name[0] == "r" and name[1:].isdigit():
            name = name[1:]
        number = getattr(self.constants, self.prefix + aliases.get(name, name.upper()), None)
        if number is None:
            raise KeyError(name)
        return int(number)

    def get(self, register: str) -> int:
        return int(self.uc.reg_read(self._register(register)))

    def set(self, register: str, value: int) -> None:
        if register in self.abi.initial_state:
            return
        if register == "crb3":
            cr = self.uc.reg_read(ppc_const.UC_PPC_REG_CR0)
            self.uc.reg_write(ppc_const.UC_PPC_REG_CR0, cr & ~1 | value)
            return
        self.uc.reg_write(self._register(register), value)

    @property
    def pc(self) -> int:
        return int(self.uc.reg_read(self._register(self.pc_name)))

    @pc.setter
    def pc(self, value: int) -> None:
        if self.abi.name == "arm" and self.get("cpsr") & 0x20:
            value |= 1  # else Unicorn leaves Thumb
        self.uc.reg_write(self._register(self.pc_name), value)

    def _on_fault(self, uc: Any, kind: int, address: int, size: int, value: int, _: object) -> bool:
        access = {
            unicorn.UC_MEM_WRITE_UNMAPPED: WRITE,
            unicorn.UC_MEM_WRITE_PROT: WRITE,
            unicorn.UC_MEM_FETCH_UNMAPPED: EXECUTE,
            unicorn.UC_MEM_FETCH_PROT: EXECUTE,
        }.get(kind, READ)
        self.stop = Stop("fault", 0, 0, address=address, access=access)
        uc.emu_stop()
        return False

    def _trap(self, name: str, number: int) -> None:
        if self.abi.name in ("arm", "aarch64") and number == 2:
            name = "supervisor_call"
        if self.abi.name == "ppc" and number == 8:
            number = 0xC00
        self.stop = Stop("trap", 0, 0, name=name, code=number)
        self.uc.emu_stop()

    def run(self, budget: int) -> Stop:
        self.stop = None
        at = self.pc
        if self.abi.name == "arm" and self.uc.reg_read(arm_const.UC_ARM_REG_CPSR) & 0x20:
            at |= 1
        try:
            self.uc.emu_start(at, self.abi.mask & ~1, count=min(budget, 1 << 40))
        except unicorn.UcError as error:
            if self.stop is None:
                self.stop = Stop("trap", 0, 0, name=str(error), code=2)
        stop = self.stop or Stop("budget", 0, budget)
        pc = self.pc
        if stop.kind == "trap" and self.abi.is_system_call(stop):
            # Unicorn is past the instruction.
            thumb = self.abi.name == "arm" and self.get("cpsr") & 0x20
            pc -= 2 if thumb else self.abi.system_call_size
        stop.pc = pc
        return stop

    def retire(self, pc: int) -> None:
        self.pc = pc

    def save(self) -> object:
        return self.uc.context_save()

    def restore(self, saved: object) -> None:
        self.uc.context_restore(saved)

    def beside(self) -> UnicornCpu:
        """Threads take turns here."""
        raise NotImplementedError

    def interrupt(self) -> None:
        self.uc.emu_stop()

    def forked(self) -> None:
        pass

    def close(self) -> None:
        pass

    def changed_code(self, start: int, size: int) -> None:
        self.uc.ctl_remove_cache(start, start + size)
