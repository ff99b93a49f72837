"""``Uc``: Unicorn's engine object over `Emulator`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Final

from isagen.compat.unicorn import unicorn_const as uc
from isagen.compat.unicorn import x86
from isagen.compat.unicorn.architectures import architecture, target_of
from isagen.compat.unicorn.context import UcContext
from isagen.compat.unicorn.errors import UcError, error_of
from isagen.compat.unicorn.x86_const import (
    UC_X86_INS_CPUID,
    UC_X86_INS_IN,
    UC_X86_INS_OUT,
    UC_X86_INS_SYSCALL,
    UC_X86_INS_SYSENTER,
    UC_X86_REG_MSR,
)
from isagen.emulator.core import Emulator
from isagen.emulator.errors import EmulatorError, GuestError, GuestTrap, IllegalInstruction
from isagen.emulator.events import Fault, MemoryAccess, StopReason, Trap
from isagen.emulator.hooks import LAST, Hook
from runtime.errors import IsagenError
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import ForeignRam

Callback = Callable[..., Any]

_CODE: Final = uc.UC_HOOK_CODE | uc.UC_HOOK_BLOCK
CPUID: Final = b"\x0f\xa2"
_INVALID: Final = {
    ("read", False): (uc.UC_HOOK_MEM_READ_UNMAPPED, uc.UC_MEM_READ_UNMAPPED),
    ("write", False): (uc.UC_HOOK_MEM_WRITE_UNMAPPED, uc.UC_MEM_WRITE_UNMAPPED),
    ("fetch", False): (uc.UC_HOOK_MEM_FETCH_UNMAPPED, uc.UC_MEM_FETCH_UNMAPPED),
    ("read", True): (uc.UC_HOOK_MEM_READ_PROT, uc.UC_MEM_READ_PROT),
    ("write", True): (uc.UC_HOOK_MEM_WRITE_PROT, uc.UC_MEM_WRITE_PROT),
    ("fetch", True): (uc.UC_HOOK_MEM_FETCH_PROT, uc.UC_MEM_FETCH_PROT),
}
_FAMILIES: Final = (
    _CODE,
    uc.UC_HOOK_MEM_INVALID,
    uc.UC_HOOK_MEM_VALID | uc.UC_HOOK_MEM_READ_AFTER,
    uc.UC_HOOK_INTR,
    uc.UC_HOOK_INSN,
    uc.UC_HOOK_INSN_INVALID,
)
"""Kinds of hooks whose functions take the same arguments; a hook is of one of these."""


def uc_version() -> tuple[int, int, int]:
    """Major, minor and combined number of the interface that is followed."""
    combined = uc.UC_API_MAJOR << 24 | uc.UC_API_MINOR << 16 | uc.UC_API_PATCH << 8 | uc.UC_API_EXTRA
    return uc.UC_API_MAJOR, uc.UC_API_MINOR, combined


version_bind = uc_version


def uc_arch_supported(arch: int) -> bool:
    """Whether there are targets of an architecture."""
    return arch in (
        *(uc.UC_ARCH_ARM, uc.UC_ARCH_ARM64, uc.UC_ARCH_X86),
        *(uc.UC_ARCH_PPC, uc.UC_ARCH_SPARC, uc.UC_ARCH_RISCV),
    )


class _Callbacks:
    """A device made of two functions, as ``mmio_map`` takes them."""

    def __init__(self, owner: Uc, read: Callback | None, reading: Any, write: Callback | None, writing: Any):
        self.owner = owner
        self.functions = read, write
        self.data = reading, writing

    def read(self, offset: int, size: int) -> int:
        function = self.functions[0]
        return int(function(self.owner, offset, size, self.data[0])) if function else 0

    def write(self, offset: int, size: int, value: int) -> None:
        function = self.functions[1]
        if function:
            function(self.owner, offset, size, value, self.data[1])


class Uc:
    """An engine for an architecture and mode (``UC_ARCH_...``, ``UC_MODE_...``). Raises UcError.

    `emulator` is what does the work.
    """

    def __init__(self, arch: int, mode: int, cpu: int | None = None) -> None:
        self._arch = arch
        self._mode = mode
        target = target_of(arch, mode)
        self._look = architecture(arch)
        self.emulator = Emulator(target)
        self._handles: dict[int, list[Hook]] = {}
        self._port_handles: dict[int, Callable[[], None]] = {}
        """What removes hooks of ports."""
        self._next_handle = 1
        self._timed_out = False
        self._ignore: Hook | None = None
        self._inner: tuple[int, int] | None = None
        """A run inside a hook: where it ended, and where the outer one goes on."""
        self._exits: frozenset[int] | None = None
        """Where runs end instead of at `until`, where scripts have chosen so."""
        self._timeout = 0
        self._ports = x86.Ports()
        self._cpu_model = cpu or 0
        self._resume_at: int | None = None
        for name, value in self._look.initial.items():
            if name in self.emulator.file:
                self.emulator.file.write(name, value)
        if self._look.ignored:
            self._ignore = Hook("trap", lambda *_: True, names=self._look.ignored)
            self.emulator.hooks.add(self._ignore)
        if arch == uc.UC_ARCH_X86:
            self.emulator.map_device(x86.PORTS, x86.PORT_COUNT, self._ports, hidden=True)
        if arch == uc.UC_ARCH_ARM and mode & uc.UC_MODE_THUMB:
            self.emulator.file.write("t", 1)

    @property
    def errno(self) -> int:
        return uc.UC_ERR_OK

    # --- running ----------------------------------------------------------------------------------------

    def emu_start(self, begin: int, until: int, timeout: int = 0, count: int = 0) -> None:
        """Run from `begin` to `until`; at most `timeout` microseconds and `count` instructions (0: no
        limit).
        """
        if self._arch == uc.UC_ARCH_ARM:
            self.emulator.file.write("t", begin & 1)
            begin, until = begin & ~1, until & ~1
        self._timed_out = False
        self._timeout = timeout
        self._resume_at = None
        emulator = self.emulator
        outer = emulator.cpu.pc
        nested = emulator.is_running
        with emulator.nested() if nested else nullcontext():
            try:
                ends = (until,) if self._exits is None else self._exits
                end = emulator.run(begin, ends, count or None, timeout / 1_000_000 if timeout else None)
            except GuestError as error:
                raise self._failure(error) from error
            except EmulatorError as error:
                raise UcError(uc.UC_ERR_ARG) from error
        if nested:  # until the hook returns, the program counter is where the inner run ended
            emulator.cpu.pc = end.pc
            self._inner = (end.pc, outer)
        if self._resume_at is not None:
            emulator.cpu.pc = self._resume_at
        self._timed_out = end.reason is StopReason.TIMEOUT

    def _failure(self, error: GuestError) -> UcError:
        """The error that ends a run; the program counter as Unicorn leaves it."""
        look = self._look
        if isinstance(error, IllegalInstruction):
            if error.name in look.behind:
                self._skip_illegal()
            return error_of(error, illegal=look.illegal)
        if isinstance(error, GuestTrap):
            if error.name in look.behind:
                self.emulator.skip_instruction()
            known = look.interrupt(Trap(error.name, error.code, error.arguments, error.pc)) is not None
            return UcError(uc.UC_ERR_EXCEPTION if known else uc.UC_ERR_INSN_INVALID)
        return error_of(error, illegal=look.illegal)

    def _call(self, callback: Callback, *arguments: Any) -> Any:
        """Call a hook's function."""
        answer = callback(self, *arguments)
        if self._inner is not None:
            here, outer = self._inner
            self._inner = None
            if self.emulator.cpu.pc == here:
                self.emulator.cpu.pc = outer
        return answer

    def _skip_illegal(self) -> None:
        cpu = self.emulator.cpu
        cpu.retire(cpu.pc + self.emulator.undecodable_size(cpu.pc))

    def emu_stop(self) -> None:
        """Stop the run, from a hook or another thread."""
        self.emulator.stop()

    # --- registers --------------------------------------------------------------------------------------

    def _name(self, reg_id: int) -> str:
        name = self._look.registers.get(reg_id)
        if name is None or name not in self.emulator.file:
            raise UcError(uc.UC_ERR_ARG)
        return name

    def reg_read(self, reg_id: int, aux: Any = None) -> Any:
        """A register (``UC_..._REG_...``), unsigned. Of x86, some are tuples (`isagen.compat.unicorn.x86`),
        and `aux` chooses one of many.
        """
        if self._arch == uc.UC_ARCH_X86:
            special = x86.read(self.emulator.file, reg_id, aux)
            if special is not None:
                return special
        name, file = self._name(reg_id), self.emulator.file
        value = file.read(name)
        if self._arch == uc.UC_ARCH_RISCV and name == "mstatus" and file.read("fs_on"):
            state = file.read("fs_state")
            value |= state << 13 | (state == 3) << (file.width("pc") - 1)
        return value

    def msr_read(self, msr_id: int) -> int:
        """x86: a model-specific register."""
        return int(self.reg_read(UC_X86_REG_MSR, msr_id))

    def msr_write(self, msr_id: int, value: int) -> None:
        """x86: change a model-specific register."""
        self.reg_write(UC_X86_REG_MSR, (msr_id, value))

    def reg_write(self, reg_id: int, value: Any) -> None:
        """Change a register; the value is cut to its width. In a hook, writing the program counter jumps."""
        if self._arch == uc.UC_ARCH_X86 and x86.write(self.emulator.file, reg_id, value):
            return
        name, file = self._name(reg_id), self.emulator.file
        if self._arch == uc.UC_ARCH_ARM and name in ("pc", "r15"):
            file.write("t", value & 1)
            value &= ~1
        file.write(name, value)
        if self._arch == uc.UC_ARCH_RISCV and name == "mstatus":
            # The spec keeps FS, which switches floating point on, apart (Privileged, "mstatus").
            state = value >> 13 & 3
            file.write("mstatus", value & ~(3 << 13))
            file.write("fs_on", int(state != 0))
            file.write("fs_state", state)

    def reg_read_batch(self, reg_data: Sequence[int | tuple[int, Any]]) -> tuple[Any, ...]:
        """Several registers: numbers, or pairs of number and `aux`."""
        return tuple(
            self.reg_read(*item) if isinstance(item, tuple) else self.reg_read(item) for item in reg_data
        )

    def reg_write_batch(self, reg_data: Iterable[tuple[int, int]]) -> None:
        """Change several registers: pairs of number and value."""
        for reg_id, value in reg_data:
            self.reg_write(reg_id, value)

    # --- memory -----------------------------------------------------------------------------------------

    def _check(self, address: int, size: int, perms: int = uc.UC_PROT_ALL) -> None:
        if perms & ~uc.UC_PROT_ALL or size <= 0 or address % PAGE_SIZE or size % PAGE_SIZE:
            raise UcError(uc.UC_ERR_ARG)
        if address < 0 or address + size - 1 > self.emulator.highest:
            raise UcError(uc.UC_ERR_ARG)

    def _check_free(self, address: int, size: int) -> None:
        if any(r.start < address + size and address < r.end for r in self.emulator.space):
            raise UcError(uc.UC_ERR_MAP)

    def _check_mapped(self, address: int, size: int) -> None:
        at = address
        while at < address + size:
            region = self.emulator.space.find(at)
            if region is None:
                raise UcError(uc.UC_ERR_NOMEM)
            at = region.end

    def mem_map(self, address: int, size: int, perms: int = uc.UC_PROT_ALL) -> None:
        """Map zeros. Raises UcError: UC_ERR_ARG for parts of pages, UC_ERR_MAP where something is mapped."""
        self._check(address, size, perms)
        self._check_free(address, size)
        self.emulator.map(address, size, perms)

    def mem_map_ptr(self, address: int, size: int, perms: int, ptr: int) -> None:
        """Map the host's memory at the host address `ptr`, which has to stay there. It is a multiple of
        4096.
        """
        self._check(address, size, perms)
        self._check_free(address, size)
        pointer = ptr if isinstance(ptr, int) else ctypes.cast(ptr, ctypes.c_void_p).value or 0
        if pointer <= 0 or pointer % PAGE_SIZE:
            raise UcError(uc.UC_ERR_ARG)
        self.emulator.space.map_ram(address, ForeignRam(pointer, size), permissions=perms)

    def mem_unmap(self, address: int, size: int) -> None:
        """Remove a mapped range."""
        self._check(address, size)
        self._check_mapped(address, size)
        self.emulator.unmap(address, size)

    def mem_protect(self, address: int, size: int, perms: int = uc.UC_PROT_ALL) -> None:
        """Change what a mapped range allows."""
        self._check(address, size, perms)
        self._check_mapped(address, size)
        self.emulator.protect(address, size, perms)

    def mem_read(self, address: int, size: int) -> bytearray:
        """Bytes of memory, whatever its protection."""
        try:
            return bytearray(self.emulator.read(address, size)) if size else bytearray()
        except IsagenError as error:
            raise UcError(uc.UC_ERR_READ_UNMAPPED) from error

    def mem_write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes, whatever the protection."""
        try:
            if data:
                self.emulator.write(address, data)
        except IsagenError as error:
            raise UcError(uc.UC_ERR_WRITE_UNMAPPED) from error

    def mem_regions(self) -> Iterator[tuple[int, int, int]]:
        """First address, last address and protection of what is mapped."""
        for region in self.emulator.space:
            if region.start == x86.PORTS and self._arch == uc.UC_ARCH_X86:
                continue
            yield region.start, region.end - 1, region.permissions

    def mmio_map(
        self,
        address: int,
        size: int,
        read_cb: Callback | None,
        user_data_read: Any,
        write_cb: Callback | None,
        user_data_write: Any,
    ) -> None:
        """Let functions answer accesses: ``read_cb(uc, offset, size, data)`` returns a value,
        ``write_cb(uc, offset, size, value, data)`` takes one.
        """
        self._check(address, size)
        self._check_free(address, size)
        device = _Callbacks(self, read_cb, user_data_read, write_cb, user_data_write)
        self.emulator.map_device(address, size, device)

    # --- hooks ------------------------------------------------------------------------------------------

    def hook_add(
        self,
        htype: int,
        callback: Callback,
        user_data: Any = None,
        begin: int = 1,
        end: int = 0,
        aux1: int = 0,
        aux2: int = 0,
    ) -> int:
        """Call `callback` for events (``UC_HOOK_...``) from address `begin` to `end`, inclusive (everywhere
        if `begin` is above `end`). Returns a handle for `hook_del`.
        """
        if not htype or not any(htype & ~family == 0 for family in _FAMILIES):
            raise UcError(uc.UC_ERR_ARG)
        first, last = (0, LAST) if begin > end else (begin, end)
        ports = htype == uc.UC_HOOK_INSN and aux1 in (UC_X86_INS_IN, UC_X86_INS_OUT)
        if ports and self._arch == uc.UC_ARCH_X86:
            handle = self._next_handle
            self._next_handle += 1
            self._port_handles[handle] = self._port_hook(callback, user_data, aux1)
            return handle
        hooks = list(self._hooks(htype, callback, user_data, first, last, aux1))
        for hook in hooks:
            self.emulator.hooks.add(hook)
        if self._ignore is not None:  # it comes last
            self.emulator.hooks.all.remove(self._ignore)
            self.emulator.hooks.all.append(self._ignore)
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = hooks
        return handle

    def _hooks(
        self, htype: int, callback: Callback, data: Any, first: int, last: int, aux1: int
    ) -> Iterator[Hook]:
        """Our hooks for one of Unicorn's."""
        if htype & _CODE:

            def code(_: Emulator, address: int, size: int) -> None:
                self._call(callback, address, size, data)

            for bit, kind in ((uc.UC_HOOK_BLOCK, "block"), (uc.UC_HOOK_CODE, "code")):
                if htype & bit:
                    yield Hook(kind, code, first, last)
        elif htype & uc.UC_HOOK_MEM_INVALID:
            yield Hook("fault", self._invalid(htype, callback, data), first, last)
        elif htype & (uc.UC_HOOK_MEM_VALID | uc.UC_HOOK_MEM_READ_AFTER):
            yield from self._valid(htype, callback, data, first, last)
        elif htype & uc.UC_HOOK_INTR:
            yield Hook("trap", self._interrupt(callback, data))
        elif htype & uc.UC_HOOK_INSN_INVALID:
            yield Hook("trap", self._invalid_instruction(callback, data))
        elif self._arch != uc.UC_ARCH_X86:
            raise UcError(uc.UC_ERR_ARG)
        elif aux1 in (UC_X86_INS_SYSCALL, UC_X86_INS_SYSENTER):
            name = "system_call" if aux1 == UC_X86_INS_SYSCALL else "fast_call"
            yield Hook("trap", self._system_call(callback, data), names=frozenset({name}))
        elif aux1 == UC_X86_INS_CPUID:
            yield Hook("code", self._cpuid(callback, data), first, last)
        else:
            raise UcError(uc.UC_ERR_ARG)

    def _port_hook(self, callback: Callback, data: Any, instruction: int) -> Callable[[], None]:
        """Let a function answer IN or see OUT; returns what removes it."""
        if instruction == UC_X86_INS_IN:

            def answer(port: int, size: int) -> int:
                return int(self._call(callback, port, size, data) or 0)

            self._ports.inputs.append(answer)
            return lambda: self._ports.inputs.remove(answer)

        def take(port: int, size: int, value: int) -> None:
            self._call(callback, port, size, value, data)

        self._ports.outputs.append(take)
        return lambda: self._ports.outputs.remove(take)

    def _cpuid(self, callback: Callback, data: Any) -> Callback:
        def code(emulator: Emulator, address: int, size: int) -> None:
            if size >= 2 and emulator.read(address + size - 2, 2) == CPUID and self._call(callback, data):
                emulator.cpu.pc = address + size  # a true answer: it is done

        return code

    def _invalid(self, htype: int, callback: Callback, data: Any) -> Callback:
        def fault(_: Emulator, fault: Fault) -> bool:
            bit, access = _INVALID[fault.kind, fault.mapped]
            if not htype & bit:
                return False
            size = fault.size or self._look.unit
            return bool(self._call(callback, access, fault.address, size, signed(fault.value), data))

        return fault

    def _valid(self, htype: int, callback: Callback, data: Any, first: int, last: int) -> Iterator[Hook]:
        kinds = {
            uc.UC_HOOK_MEM_READ: ("read", uc.UC_MEM_READ),
            uc.UC_HOOK_MEM_WRITE: ("write", uc.UC_MEM_WRITE),
            uc.UC_HOOK_MEM_FETCH: ("fetch", uc.UC_MEM_FETCH),
            uc.UC_HOOK_MEM_READ_AFTER: ("read", uc.UC_MEM_READ_AFTER),
        }
        for bit, (kind, access) in kinds.items():
            if htype & bit and kind != "fetch":  # Unicorn never calls those for fetches
                after = access == uc.UC_MEM_READ_AFTER
                yield Hook(
                    "memory",
                    self._access(callback, data, access, first, last, after=after),
                    first,
                    last,
                    frozenset({kind}),
                )

    def _access(
        self, callback: Callback, data: Any, access: int, first: int, last: int, *, after: bool
    ) -> Callback:
        def call(_: Emulator, event: MemoryAccess) -> None:
            value = event.value if after or event.kind == "write" else 0
            size = min(event.size, 8)  # wider ones are several for Unicorn
            for offset in range(0, event.size, size):
                if first <= event.address + offset <= last:  # by the first byte
                    part = value >> 8 * self._distance(event.size, size, offset)
                    self._call(callback, access, event.address + offset, size, signed(part), data)
            if self.emulator.is_stopping and self._resume_at is None:
                self._resume_at = event.pc
                self.emulator.finish_instruction()

        return call

    def _distance(self, whole: int, size: int, offset: int) -> int:
        """Bytes from the low end of a number of `whole` bytes to its part of `size` bytes at `offset`."""
        return offset if self.emulator.byte_order == "little" else whole - size - offset

    def _interrupt(self, callback: Callback, data: Any) -> Callback:
        look = self._look

        def trap(emulator: Emulator, trap: Trap) -> bool:
            illegal = emulator.is_illegal(trap)
            number = look.illegal_interrupt if illegal else look.interrupt(trap)
            if number is None:
                return False
            if trap.name not in look.behind:
                emulator.retry_instruction()
            elif illegal:
                self._skip_illegal()
            else:
                emulator.skip_instruction()
            self._call(callback, number, data)
            return True

        return trap

    def _invalid_instruction(self, callback: Callback, data: Any) -> Callback:
        look = self._look

        def trap(emulator: Emulator, trap: Trap) -> bool:
            if emulator.is_illegal(trap):
                if look.illegal_interrupt is not None:
                    return False
            elif look.interrupt(trap) is not None or trap.name == "system_call":
                return False
            return bool(self._call(callback, data))

        return trap

    def _system_call(self, callback: Callback, data: Any) -> Callback:
        def trap(emulator: Emulator, trap: Trap) -> bool:
            self._call(callback, data)
            return True

        return trap

    def hook_del(self, handle: int) -> None:
        """Remove a hook."""
        if handle in self._port_handles:
            self._port_handles.pop(handle)()
            return
        hooks = self._handles.pop(handle, None)
        if hooks is None:
            raise UcError(uc.UC_ERR_HOOK)
        for hook in hooks:
            self.emulator.hooks.remove(hook)

    # --- contexts ---------------------------------------------------------------------------------------

    def context_save(self) -> UcContext:
        """The registers, as a value."""
        context = UcContext(self._arch, self._mode, b"", 0, 0, {})
        self.context_update(context)
        return context

    def context_update(self, context: UcContext) -> None:
        """Save the registers in `context`."""
        cpu = self.emulator.cpu
        context.arch, context.mode = self._arch, self._mode
        context.state, context.pc, context.next_pc = bytes(cpu.state), cpu.pc, cpu.next_pc
        file = self.emulator.file
        context.changed = {}
        context.registers = {
            number: file.read(name) for number, name in self._look.registers.items() if name in file
        }

    def context_restore(self, context: UcContext) -> None:
        """Put saved registers back."""
        cpu = self.emulator.cpu
        if context.arch != self._arch or len(context.state) != len(cpu.state):
            raise UcError(uc.UC_ERR_ARG)
        cpu.state[:] = context.state
        cpu.pc, cpu.next_pc = context.pc, context.next_pc
        cpu.changed(translations=True)
        self.reg_write_batch(context.changed.items())

    # --- questions --------------------------------------------------------------------------------------

    def query(self, prop: int) -> int:
        """``UC_QUERY_...``"""
        answers = {
            uc.UC_QUERY_MODE: self.ctl_get_mode(),
            uc.UC_QUERY_PAGE_SIZE: PAGE_SIZE,
            uc.UC_QUERY_ARCH: self._arch,
            uc.UC_QUERY_TIMEOUT: int(self._timed_out),
        }
        if prop not in answers:
            raise UcError(uc.UC_ERR_ARG)
        return answers[prop]

    def ctl_get_mode(self) -> int:
        """The mode; of 32-bit ARM the present one."""
        if self._arch == uc.UC_ARCH_ARM:
            thumb = uc.UC_MODE_THUMB if self.emulator.file.read("t") else 0
            return self._mode & ~uc.UC_MODE_THUMB | thumb
        return self._mode

    def ctl_get_arch(self) -> int:
        return self._arch

    def ctl_get_page_size(self) -> int:
        return PAGE_SIZE

    def ctl_set_page_size(self, val: int) -> None:
        if val != PAGE_SIZE:
            raise UcError(uc.UC_ERR_ARG)

    def ctl_get_timeout(self) -> int:
        """That of the last run, in nanoseconds."""
        return self._timeout * 1000

    def ctl_exits_enabled(self, enable: bool) -> None:
        """Whether runs end where `ctl_set_exits` says, instead of at `until`."""
        if not enable:
            self._exits = None
        elif self._exits is None:
            self._exits = frozenset()

    def ctl_set_exits(self, exits: Iterable[int]) -> None:
        """Where runs end. Raises UcError where `ctl_exits_enabled` hasn't been called."""
        if self._exits is None:
            raise UcError(uc.UC_ERR_ARG)
        self._exits = frozenset(exits)

    def ctl_get_exits(self) -> tuple[int, ...]:
        """Those, in order."""
        if self._exits is None:
            raise UcError(uc.UC_ERR_ARG)
        return tuple(sorted(self._exits))

    def ctl_get_exits_cnt(self) -> int:
        """Their number."""
        return len(self.ctl_get_exits())

    def ctl_set_tlb_mode(self, mode: int) -> None:
        """Addresses are what is mapped: only UC_TLB_CPU is there yet."""
        if mode != uc.UC_TLB_CPU:
            raise UcError(uc.UC_ERR_ARG)

    ctl_tlb_mode = ctl_set_tlb_mode

    def ctl_get_cpu_model(self) -> int:
        return self._cpu_model

    def ctl_set_cpu_model(self, model: int) -> None:
        self._cpu_model = model

    def ctl_remove_cache(self, lbound: int, ubound: int) -> None:
        """Forget decoded code. Never needed: writes to code are noticed."""
        self.emulator.cpu.flush()

    def ctl_flush_tb(self) -> None:
        """Forget decoded code. Never needed: writes to code are noticed."""
        self.emulator.cpu.flush()

    def ctl_flush_tlb(self) -> None:
        self.emulator.cpu.flush()


def signed(value: int) -> int:
    """A value of an access as Unicorn passes it: a signed 64-bit number."""
    value &= LAST
    return value - (1 << 64) if value >> 63 else value
