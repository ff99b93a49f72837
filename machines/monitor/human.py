"""Commands for people: one line in, text out. Names and forms are those of QEMU's monitor
(QEMU's documentation, "QEMU Monitor").
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from machines.inspection import HartView, whole
from machines.monitor.control import Control
from runtime.errors import IsagenError

LONGEST: Final = 4096
"""Characters of a command."""
MOST: Final = 1 << 16
"""Items that one command shows."""
LONGEST_INSTRUCTION: Final = 16
SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
FORMAT: Final = re.compile(r"/(\d*)([xduoci]?)([bhwg]?)([xduoci]?)")
ROW: Final = 16
"""Bytes of memory in a line."""


class Entry(NamedTuple):
    call: Callable[[list[str]], str]
    usage: str
    what: str


class HumanMonitor:
    """Executes commands for people on a machine. It remembers which CPU they are about."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._cpu = 0
        self._commands: dict[str, Entry] = {}
        self._topics: dict[str, Entry] = {}
        for name, usage, what, call in (
            ("help", "help [COMMAND]", "show the commands", self._help),
            ("info", "info TOPIC", "show something about the machine", self._info),
            ("stop", "stop", "stand still", lambda _: self._done(control.stop)),
            ("cont", "cont", "go on", lambda _: self._done(control.go)),
            ("system_reset", "system_reset", "reset the machine", lambda _: self._done(control.reset)),
            (
                "system_powerdown",
                "system_powerdown",
                "press the power button",
                lambda _: self._done(control.power_down),
            ),
            ("quit", "quit", "end the machine", lambda _: self._done(control.quit)),
            ("savevm", "savevm [NAME]", "keep the state of machine and disks", self._save),
            ("loadvm", "loadvm NAME", "go back to a state", self._load),
            ("delvm", "delvm NAME", "forget a state", self._delete),
            ("x", "x/FORMAT ADDRESS", "show virtual memory, such as x/16xw $sp", self._show_virtual),
            ("xp", "xp/FORMAT ADDRESS", "show physical memory, such as xp/4i 0x1000", self._show_physical),
            ("print", "print VALUE", "show a number or a register's value", self._print),
            ("memsave", "memsave ADDRESS SIZE FILE", "virtual memory to a file", self._memory_save),
            ("pmemsave", "pmemsave ADDRESS SIZE FILE", "physical memory to a file", self._physical_save),
            ("gva2gpa", "gva2gpa ADDRESS", "show the physical address behind a virtual one", self._translate),
            ("sendkey", "sendkey KEYS", "press keys together, such as ctrl-alt-delete", self._send_keys),
            ("balloon", "balloon MIB", "have the guest make do with so much memory", self._inflate),
            ("cpu", "cpu NUMBER", "choose the CPU that commands are about", self._choose),
        ):
            self._commands[name] = Entry(call, usage, what)
        for short, name in (("c", "cont"), ("q", "quit"), ("s", "stop"), ("p", "print"), ("?", "help")):
            self._commands[short] = self._commands[name]
        for name, what, call in (
            ("status", "whether the machine runs", self._status),
            ("registers", "registers of the CPU (-a: of all of them)", self._registers),
            ("cpus", "the CPUs", self._cpus),
            ("block", "the disks", self._block),
            ("snapshots", "the states that savevm kept", self._snapshots),
            ("balloon", "what the memory balloon leaves", self._balloon),
            ("mtree", "what lies where in physical memory", self._map),
            ("version", "of this program", lambda _: "isagen\n"),
            ("name", "the machine's name", lambda _: self._control.name + "\n"),
        ):
            self._topics[name] = Entry(call, f"info {name}", what)

    @staticmethod
    def _done(call: Callable[[], None]) -> str:
        call()
        return ""

    def execute(self, line: str, cpu: int | None = None) -> str:
        """What a command prints; mistakes are told in it, too. `cpu`: which one it is about."""
        if len(line) > LONGEST:
            return f"a command has at most {LONGEST} characters\n"
        before = self._cpu
        try:
            words = shlex.split(line)
            if not words:
                return ""
            if cpu is not None:
                self._control.view(cpu)
                self._cpu = cpu
            name, slash, form = words[0].partition("/")
            entry = self._commands.get(name)
            if entry is None or (slash and name not in ("x", "xp")):
                return f"there is no command '{words[0]}' (try help)\n"
            return entry.call([slash + form, *words[1:]] if name in ("x", "xp") else words[1:])
        except (IsagenError, OSError, ValueError) as error:
            return f"{error}\n"
        finally:
            if cpu is not None:
                self._cpu = before

    # --- help -------------------------------------------------------------------------------------------

    def _help(self, words: list[str]) -> str:
        if words:
            entry = self._commands.get(words[0])
            if entry is None:
                return f"there is no command '{words[0]}'\n"
            lines = [f"{entry.usage}: {entry.what}"]
            if words[0] == "info":
                lines += [f"  {topic.usage}: {topic.what}" for topic in self._topics.values()]
            return "\n".join(lines) + "\n"
        entries = dict.fromkeys(self._commands.values())
        return "".join(f"{entry.usage:<28} {entry.what}\n" for entry in entries)

    def _info(self, words: list[str]) -> str:
        if not words or words[0] not in self._topics:
            return self._help(["info"])
        return self._topics[words[0]].call(words[1:])

    # --- topics -----------------------------------------------------------------------------------------

    def _status(self, _: list[str]) -> str:
        machine = self._control.machine
        return "VM status: " + (f"paused ({machine.state.value})" if machine.paused else "running") + "\n"

    def _registers(self, words: list[str]) -> str:
        views = self._control.views if words[:1] == ["-a"] else (self._view,)
        return "\n".join(f"CPU#{view.hart.number}\n{registers_text(view)}" for view in views)

    def _cpus(self, _: list[str]) -> str:
        lines = []
        for view in self._control.views:
            mark = "*" if view.hart.number == self._cpu else " "
            halted = " (waits)" if view.hart.waiting else ""
            lines.append(f"{mark} CPU #{view.hart.number}: pc={view.cpu.pc:#x}{halted}\n")
        return "".join(lines)

    def _block(self, _: list[str]) -> str:
        lines = []
        for drive in self._control.drives:
            what = [drive.node.format if drive.node is not None else "raw"]
            what += ["read-only"] if drive.disk.read_only else []
            what += ["writes are forgotten"] if drive.snapshot else []
            lines.append(f"{drive.name}: {drive.path} ({', '.join(what)}, {drive.disk.length()} bytes)\n")
        return "".join(lines) or "no disks\n"

    def _snapshots(self, _: list[str]) -> str:
        states = self._control.states.list()
        if not states:
            return "there are no states\n"
        rows = [f"{'NAME':<24} {'SIZE':>10} {'DATE':<19}  CLOCK"]
        for state in states:
            date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.date // 1_000_000_000))
            size = f"{state.size / (1 << 20):.1f} MiB"
            rows.append(f"{state.name:<24} {size:>10} {date:<19}  {state.clock / 1e9:.3f} s")
        return "\n".join(rows) + "\n"

    def _map(self, _: list[str]) -> str:
        machine = self._control.machine
        rows = [(start, start + ram.size - 1, name) for name, (start, ram, _) in machine.rams.items()]
        rows += [(start, start + device.size - 1, name) for start, name, device in machine.placed()]
        return "".join(f"{first:016x}-{last:016x} {name}\n" for first, last, name in sorted(rows))

    # --- states -----------------------------------------------------------------------------------------

    def _save(self, words: list[str]) -> str:
        name = self._control.save_state(words[0] if words else "")
        return "" if words else f"{name}\n"

    def _load(self, words: list[str]) -> str:
        self._control.load_state(_one(words, "loadvm NAME"))
        return ""

    def _delete(self, words: list[str]) -> str:
        self._control.states.delete(_one(words, "delvm NAME"))
        return ""

    # --- memory -----------------------------------------------------------------------------------------

    @property
    def _view(self) -> HartView:
        return self._control.view(self._cpu)

    def _choose(self, words: list[str]) -> str:
        number = int(_one(words, "cpu NUMBER"))
        self._control.view(number)
        self._cpu = number
        return ""

    def _send_keys(self, words: list[str]) -> str:
        self._control.press_keys(*_one(words, "sendkey KEYS").split("-"))
        return ""

    def _inflate(self, words: list[str]) -> str:
        self._control.set_balloon(int(_one(words, "balloon MIB")) << 20)
        return ""

    def _balloon(self, _: list[str]) -> str:
        balloon = self._control.balloon
        if balloon is None:
            raise IsagenError("the machine has no balloon")
        return f"balloon: actual={balloon.size >> 20}\n"

    def _number(self, words: list[str]) -> int:
        return value_of(" ".join(words), self._view)

    def _translate(self, words: list[str]) -> str:
        physical = self._view.physical(self._number(words))
        return "unmapped\n" if physical is None else f"gpa: {physical:#x}\n"

    def _print(self, words: list[str]) -> str:
        return f"{self._number(words):#x}\n"

    def _memory_save(self, words: list[str]) -> str:
        return self._save_memory(words, self._cpu)

    def _physical_save(self, words: list[str]) -> str:
        return self._save_memory(words, None)

    def _save_memory(self, words: list[str], cpu: int | None) -> str:
        if len(words) != 3:
            raise IsagenError("an address, a size and a file are needed")
        address, size = (self._number([word]) for word in words[:2])
        self._control.save_memory(address, size, words[2], cpu)
        return ""

    def _show_virtual(self, words: list[str]) -> str:
        return self._show(words, virtual=True)

    def _show_physical(self, words: list[str]) -> str:
        return self._show(words, virtual=False)

    def _show(self, words: list[str], *, virtual: bool) -> str:
        form = FORMAT.fullmatch(words[0] or "/")
        if form is None or len(words) < 2:
            raise IsagenError("an address is needed, and a format such as /8xw, /4i or /16db")
        count = int(form[1] or 1)
        kind = form[2] or form[4] or "x"
        if count > MOST:
            raise IsagenError(f"at most {MOST} items can be shown")
        address = self._number(words[1:])
        if kind == "i":
            return self._instructions(address, count, virtual)
        size = SIZES[form[3] or ("b" if kind == "c" else "w")]
        data = whole(self._view, address, count * size, virtual=virtual)
        order = "big" if self._view.cpu.package.big_endian else "little"
        rows = []
        step = ROW if kind != "c" else 8
        for row in range(0, len(data), step):
            items = [
                item_text(int.from_bytes(data[at : at + size], order), size, kind)  # type: ignore[arg-type]
                for at in range(row, min(row + step, len(data)), size)
            ]
            rows.append(f"{(address + row) % (1 << 64):016x}: {' '.join(items)}\n")
        return "".join(rows)

    def _instructions(self, address: int, count: int, virtual: bool) -> str:
        disassemble = self._control.disassemble
        if disassemble is None:
            raise IsagenError("there is no disassembler for this machine")
        rows = []
        for _ in range(count):
            data = self._view.read_memory(address, LONGEST_INSTRUCTION, virtual=virtual)
            length, text = disassemble(data, address)
            if not length:
                rows.append(f"0x{address:08x}:  no instruction\n")
                break
            rows.append(f"0x{address:08x}:  {data[:length][::-1].hex():<12} {text}\n")
            address += length
        return "".join(rows)


def _one(words: list[str], usage: str) -> str:
    if len(words) != 1:
        raise IsagenError(f"usage: {usage}")
    return words[0]


def item_text(value: int, size: int, kind: str) -> str:
    """A number in one of gdb's formats."""
    if kind == "d":
        return f"{value - (1 << 8 * size) if value >> 8 * size - 1 else value:>{(8 * size) // 3 + 2}}"
    if kind == "u":
        return f"{value:>{(8 * size) // 3 + 1}}"
    if kind == "o":
        return f"{value:#0{-(-8 * size // 3) + 2}o}"
    if kind == "c":
        return repr(chr(value & 0xFF)) if value < 0x80 else f"'\\x{value & 0xFF:02x}'"
    return f"{value:#0{2 * size + 2}x}"


def value_of(text: str, view: HartView) -> int:
    """A sum of numbers and registers (``$sp+0x10``). Raises IsagenError."""
    parts = re.split(r"([+-])", text.replace(" ", ""))
    total, sign = 0, 1
    for number, part in enumerate(parts):
        if part in ("+", "-"):
            sign = -1 if part == "-" else 1
            continue
        if not part and number == 0 and len(parts) > 1:
            continue
        if part.startswith("$"):
            value = view.read(part[1:]) if part[1:] in view else None
            if value is None:
                raise IsagenError(f"there is no register {part!r}")
        else:
            try:
                value = int(part, 16 if part.lower().startswith("0x") else 10)
            except ValueError:
                raise IsagenError(f"{part!r} is no number and no register") from None
        total += sign * value
    return total % (1 << 64)


def registers_text(view: HartView) -> str:
    """All registers, in columns; of the system's those that aren't 0."""
    digits = view.cpu.package.pc_width // 4
    rows = [f" {'pc':<8} {view.cpu.pc:0{digits}x}"]
    for name in view.system_names:
        value = view.read(name)
        if value:
            rows.append(f" {name:<8} {value:0{digits}x}")
    items = []
    for name in view.names:
        if name == "pc" or view.width(name) == 1:
            continue
        value = view.read(name)
        items.append(f" {name:<5} {value or 0:0{-(-view.width(name) // 4)}x}")
    rows += ["".join(items[at : at + 4]) for at in range(0, len(items), 4)]
    return "\n".join(rows) + "\n"
