"""What the options of ``isagen run`` ask to be shown of a Linux program, attached to it and shown at its
end.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.options import port
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from isagen.inspection.counters import Counters
    from isagen.inspection.debugger import Debugger
    from isagen.inspection.objects import MappedFiles
    from isagen.inspection.sampling import Sampler
    from isagen.trace import Tracer
    from runtime.assembly.disassembler import Disassembler, Line
    from runtime.cpu.engine import Cpu, Range
    from runtime.elf import ElfFile
    from runtime.linux.abi.base import Abi
    from runtime.linux.engine import EngineCpu
    from runtime.linux.process import Process


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    group = parser.add_argument_group("looking inside")
    group.add_argument("--count", action="store_true", help="print the number of instructions at the end")
    group.add_argument(
        "--trace", action="store_true", help="print each instruction and the registers that it changes"
    )
    group.add_argument(
        "--trace-at",
        action="append",
        default=[],
        metavar="WHERE",
        help="trace only there: an address, START-END (exclusive), or a symbol; may be repeated",
    )
    group.add_argument(
        "--trace-register",
        action="append",
        default=[],
        metavar="NAME",
        help="trace only instructions that change this register; may be repeated",
    )
    group.add_argument(
        "--profile", action="store_true", help="print functions, lines and blocks with most instructions"
    )
    group.add_argument(
        "--flame", type=Path, metavar="FILE", help="write a flame graph of the call stacks, as an HTML page"
    )
    group.add_argument(
        "--coverage", type=Path, metavar="FILE", help="write executions by source line, in lcov's format"
    )
    group.add_argument("--gdb", type=port, metavar="PORT", help="let gdb connect to PORT (0: any free one)")


def wants_interpreter(arguments: argparse.Namespace) -> bool:
    """Whether what is asked for needs every instruction to be seen."""
    return bool(
        arguments.trace
        or arguments.trace_at
        or arguments.trace_register
        or arguments.profile
        or arguments.flame
        or arguments.coverage
        or arguments.gdb is not None
    )


def disassembler_of(cpu: Cpu) -> Disassembler:
    from isagen.generated import load_syntax
    from runtime.assembly.disassembler import Disassembler

    return Disassembler(load_syntax(cpu.package.directory.name))


def parse_place(text: str) -> tuple[int, int] | str:
    """What --trace-at names: first and last address, or a symbol."""
    first, dash, last = text.partition("-")
    try:
        start = int(first, 0)
        end = int(last, 0) if dash else start + 1
    except ValueError:
        return text
    if not 0 <= start < end:
        raise IsagenError(f"--trace-at {text}: it holds no address")
    return start, end - 1


class Inspection:
    """All that is asked for. It is attached to each CPU that a program runs on (a new one when it executes
    another program), then begun, and finished when the program has ended. A forked child isn't inspected.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self._process_id = os.getpid()
        self._process: Process | None = None
        self._files: MappedFiles | None = None
        self._cpu: EngineCpu | None = None
        self._counters: Counters | None = None
        self._sampler: Sampler | None = None
        self._tracer: Tracer | None = None
        self._debugger: Debugger | None = None
        self._places = [parse_place(text) for text in arguments.trace_at]

    def attach(self, cpu: EngineCpu, abi: Abi, elf: ElfFile) -> None:
        """Put what is asked for around a CPU."""
        arguments, engine = self.arguments, cpu.engine
        self._cpu = cpu
        if arguments.profile or arguments.coverage:
            from isagen.inspection.counters import Counters

            self._counters = Counters(engine, cpu.step)
            cpu.step = self._counters.run
        if arguments.flame is not None:
            from isagen.inspection.sampling import Sampler

            self._sampler = Sampler(engine, cpu.step)
            cpu.step = self._sampler.run
        if arguments.trace or arguments.trace_at or arguments.trace_register:
            from isagen.trace import Tracer
            from runtime.registers import RegisterFile

            known = RegisterFile(engine).names
            for name in arguments.trace_register:
                if name not in known:
                    raise IsagenError(
                        f"--trace-register {name}: {engine.package.name} has no such register",
                        remedy=f"registers: {', '.join(known)}",
                    )
            self._tracer = Tracer(
                engine,
                disassembler_of(engine),
                registers=arguments.trace_register,
                label=self._label,
                run=cpu.step,
            )
            cpu.step = self._tracer.run
        if self._debugger is not None:
            self._debugger.follow(cpu)
        if self._process is not None:
            self._settle()

    def _label(self, address: int) -> str | None:
        return None if self._files is None else self._files.label(address)

    def begin(self, process: Process) -> None:
        """The process is about to run."""
        self._process = process
        self._settle()
        if self.arguments.gdb is not None:
            from isagen.inspection.debugger import Debugger

            assert self._cpu is not None
            self._debugger = Debugger(process, self._cpu, self.arguments.gdb)
            self._debugger.wait()

    def _settle(self) -> None:
        """The process has its memory: find symbols, where somebody asks for them."""
        if self._sampler is None and self._tracer is None and self._counters is None:
            return
        from isagen.inspection.objects import MappedFiles

        assert self._process is not None
        self._files = MappedFiles(self._process)
        if self._sampler is not None:
            self._sampler.begin(self._files)
        if self._tracer is not None and self._places:
            self._tracer.restrict([self._bounds(place) for place in self._places])

    def _bounds(self, place: tuple[int, int] | str) -> Range:
        if not isinstance(place, str):
            return place
        assert self._process is not None and self._files is not None
        for area in self._process.memory:
            file = self._files.at(area.start)
            for function in file.functions if file is not None else ():
                if function.name == place:
                    return function.start, function.start + max(function.size, 1) - 1
        raise IsagenError(f"--trace-at {place}: the program has no function of that name")

    def finish(self, status: int, killer: int, count: int) -> None:
        """The process has ended with `status`, or by the host's signal `killer`, after `count` instructions:
        show what was found.
        """
        if os.getpid() != self._process_id:
            return
        if self._debugger is not None:
            self._debugger.ended(status, killer)
        if self.arguments.count:
            sys.stderr.write(f"isagen: {count} instructions\n")
        if self._sampler is not None:
            self._write_flame(self._sampler)
        if self._counters is None or self._files is None:
            return
        counts = self._counters.counts()
        if self.arguments.coverage is not None:
            from isagen.inspection import coverage

            found = coverage.coverage(self._files, counts)
            sys.stderr.write(f"isagen: {coverage.write(self.arguments.coverage, found)}\n")
        if self.arguments.profile:
            self._show_profile(counts)

    def _show_profile(self, counts: dict[int, int]) -> None:
        from isagen.inspection import profile
        from runtime.memory.space import AddressError

        assert self._cpu is not None and self._files is not None
        space, printer = self._cpu.engine.memory, disassembler_of(self._cpu.engine)
        files = self._files

        def decode(address: int) -> Line | None:
            for size in (16, 4, 2, 1):
                try:
                    return printer.line(space.read(address, size), address, symbolize=files.label)
                except AddressError:
                    continue
            return None

        sys.stderr.write(profile.report(files, counts, decode))

    def _write_flame(self, sampler: Sampler) -> None:
        from isagen.inspection import flame

        assert self._process is not None
        path: Path = self.arguments.flame
        title = " ".join(os.fsdecode(word) for word in self._process.arguments)
        path.write_text(flame.page(sampler.stacks, title), encoding="utf-8")
        sys.stderr.write(f"isagen: {path}: {sampler.samples} call stacks\n")
