"""Run a program of another architecture: a Linux program, or with --bare an image without a system.

The target is detected from the ELF file. The exit status is the program's; a signal that kills the program
kills this one, too (a shell then says 128 + signal); 124 if --limit ended it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isagen import linux_options
from isagen.generated import folder_of, is_built, load_syntax
from isagen.inspection import session
from isagen.options import number, size
from runtime.errors import IsagenError, NotYetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from isagen.trace import Tracer
    from runtime.cpu.engine import Cpu, TargetPackage
    from runtime.elf import ElfFile
    from runtime.linux.abi.base import Abi
    from runtime.linux.engine import EngineCpu, EngineMemory
    from runtime.linux.process import Process
    from runtime.linux.scheduler import Observer, Scheduler

LIMIT_REACHED = 124
"""The exit status when --limit ended the run (as timeout(1) has it)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "isagen run [options] PROGRAM [ARGUMENT ...]"
    parser.add_argument("--target", help="the built target to run it on (default: by the ELF file)")
    parser.add_argument("--isa", metavar="STRING", help="which extensions are there, such as rv64gc_zba_zbb")
    parser.add_argument("--cpu", metavar="NAME", help="which CPU it is, such as 8086, pentium, x86-64-v2")
    parser.add_argument(
        "--limit", type=number, metavar="N", help="stop after N instructions, with status 124"
    )
    parser.add_argument(
        "--tier",
        choices=("auto", "interpreter", "translator"),
        default="auto",
        help="how code runs: interpreted, or also translated where it is hot (auto: translated if possible)",
    )
    parser.add_argument("--stats", action="store_true", help="print at the end what the tiers did")
    parser.add_argument("--memory", type=size, metavar="SIZE", help="most memory for the program (K, M, G)")
    session.add(parser)
    linux = parser.add_argument_group("Linux programs")
    linux_options.add(linux)
    bare = parser.add_argument_group("images without a system")
    bare.add_argument("--bare", action="store_true", help="run in machine mode at the link address")
    bare.add_argument("--base", type=number, metavar="ADDRESS", help="PROGRAM is raw bytes for this address")
    bare.add_argument("--ram", type=number, metavar="ADDRESS", help="where RAM begins (default: 0x80000000)")
    bare.add_argument("--signature", metavar="FILE", help="write begin_signature..end_signature at the end")
    bare.add_argument(
        "--signature-granularity",
        type=int,
        choices=(4, 8, 16),
        default=4,
        metavar="N",
        help="bytes a line: 4, 8, 16",
    )
    parser.add_argument("program", metavar="PROGRAM", help="the program's file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="its arguments")


def run(arguments: argparse.Namespace) -> int:
    if arguments.bare:
        return run_bare(arguments)
    for option in ("base", "ram", "signature"):
        if getattr(arguments, option) is not None:
            raise IsagenError(f"--{option} is for images without a system", remedy="add --bare")
    return run_linux(arguments)


def tracer(cpu: Cpu) -> Tracer:
    """Prints what `cpu` executes."""
    from isagen.trace import Tracer
    from runtime.assembly.disassembler import Disassembler

    return Tracer(cpu, Disassembler(load_syntax(cpu.package.directory.name)))


def choose_target(arguments: argparse.Namespace, wanted: tuple[str, ...]) -> Path:
    """The folder of the target to use. Raises `NotBuiltError`, and `IsagenError` where it doesn't fit the
    program.
    """
    name = arguments.target or next((t for t in wanted if is_built(t)), wanted[0])
    return folder_of(name)


def check_fit(package: TargetPackage, elf: ElfFile) -> None:
    import json

    description = json.loads((package.directory / "engine.json").read_bytes())
    if (description["elf_machine"], description["elf_class"]) != (elf.machine, elf.bits):
        raise IsagenError(
            f"a program for {elf.machine_name} ({elf.bits} bits) can't run on target {package.name}",
            where=elf.name,
        )


def run_linux(arguments: argparse.Namespace) -> int:
    """A Linux program. Returns the status; does not return where a signal kills the program."""
    from isagen.linux_options import namespace_of, prepare_streams, settings_of
    from runtime.cpu.engine import load_target
    from runtime.linux import program
    from runtime.linux.engine import EngineCpu, EngineMemory
    from runtime.linux.errors import GuestExit
    from runtime.linux.host_signals import die
    from runtime.linux.messages import say
    from runtime.linux.scheduler import End

    inspection = session.Inspection(arguments)
    descriptors = prepare_streams()
    namespace = namespace_of(arguments)
    elf = linux_options.find_program(arguments.program, namespace)

    def prepare(elf: ElfFile) -> tuple[Abi, EngineCpu, EngineMemory]:
        from runtime.linux.abi import for_elf

        abi = for_elf(elf)
        package = load_target(choose_target(arguments, abi.targets))
        check_fit(package, elf)
        memory = EngineMemory()
        cpu = EngineCpu(package, memory, features_of(arguments, package))
        choose_tier(arguments, cpu.engine, cpu, f"{elf.name} {elf.source.size} {elf.entry:#x}".encode())
        inspection.attach(cpu, abi, elf)
        return abi, cpu, memory

    abi, cpu, memory = prepare(elf)
    process = program.start(
        elf,
        abi,
        cpu,
        memory,
        arguments=[os.fsencode(word) for word in (arguments.program, *arguments.arguments)],
        environment=linux_options.environment_of(arguments),
        settings=settings_of(arguments, prepare),
        namespace=namespace,
    )
    process.files.table = descriptors
    linux_options.set_limits(process)
    observer = None
    if arguments.strace:
        from runtime.linux.strace import Strace

        observer = Strace()
    try:
        inspection.begin(process)
        scheduler = scheduler_of(process, observer)
        end = scheduler.run(arguments.limit)
    except GuestExit as ended:  # the debugger killed it before it ran
        end = End(ended.status)
    finally:
        process.cpu.close()
        at_end(arguments, cpu.engine)
    status, killer = (0, 0) if end is None else end
    inspection.finish(status, killer, process.instructions)
    if end is None:
        say(f"isagen: stopped after {process.instructions} instructions, as --limit asks\n")
        return LIMIT_REACHED
    if end.signal:
        die(end.signal)
    return end.status


def scheduler_of(process: Process, observer: Observer | None) -> Scheduler:
    """What runs the process's threads as they are to run."""
    from runtime.linux.scheduler import Scheduler

    if process.settings.cpus == 1:
        return Scheduler(process, host_signals=True, observer=observer)
    from runtime.linux.parallel import ParallelScheduler

    return ParallelScheduler(process, host_signals=True, observer=observer)


def choose_tier(
    arguments: argparse.Namespace, cpu: Cpu, process: EngineCpu | None = None, program: bytes = b""
) -> None:
    """Let the CPU translate hot code, as --tier asks: that of a Linux program when it has run for a while.
    `program` tells it from others. Traces are the interpreter's.
    """
    if arguments.tier == "translator":
        cpu.translate(program=program)
    elif arguments.tier == "auto" and not session.wants_interpreter(arguments) and cpu.package.has_templates:
        start = cpu.translate if process is None else process.translate_when_long
        start(program=program)


def at_end(arguments: argparse.Namespace, cpu: Cpu) -> None:
    """What is asked for when the program has ended."""
    if arguments.stats:
        print_statistics(cpu)
    more: Callable[[Cpu], None] | None = getattr(arguments, "at_end", None)
    if more is not None:
        more(cpu)


def print_statistics(cpu: Cpu) -> None:
    """What the interpreter and the translator did, to standard error."""
    from runtime.cpu.translator.report import lines

    for line in lines(cpu):
        sys.stderr.write(f"isagen: {line}\n")


def features_of(arguments: argparse.Namespace, package: TargetPackage) -> list[str] | None:
    """The features of the model that --cpu names, with the changes that --isa tells."""
    usual = package.default_features
    if arguments.cpu is not None:
        if arguments.cpu not in package.cpus:
            known = ", ".join(package.cpus) or "none: take --isa"
            raise IsagenError(f"target {package.name} has no CPU {arguments.cpu!r}", remedy=f"known: {known}")
        usual = package.cpus[arguments.cpu]
    if arguments.isa is None:
        return None if arguments.cpu is None else list(usual)
    from isagen.isa_string import features

    return features(arguments.isa, package.name, package.features, usual)


def run_bare(arguments: argparse.Namespace) -> int:
    """An image on a bare machine. The status is the program's exit code."""
    for option in ("trace_at", "trace_register", "profile", "flame", "coverage"):
        if getattr(arguments, option):
            raise NotYetError(f"--{option.replace('_', '-')} is for Linux programs", remedy="leave it away")
    from machines.bare import RAM_SIZE, RAM_START, BareMachine
    from runtime.cpu.engine import load_target

    elf = None
    if arguments.base is None:
        from runtime.elf import open_elf
        from runtime.linux.abi import for_elf

        elf = open_elf(arguments.program)
        folder = choose_target(arguments, for_elf(elf).targets)
    elif arguments.target is None:
        raise IsagenError("raw bytes don't say what they are for", remedy="add --target")
    else:
        folder = folder_of(arguments.target)
    package = load_target(folder)
    machine = BareMachine(
        package,
        ram_start=RAM_START if arguments.ram is None else arguments.ram,
        ram_size=arguments.memory or RAM_SIZE,
        features=features_of(arguments, package),
    )
    if elf is None:
        machine.load_raw(Path(arguments.program).read_bytes(), arguments.base)
    else:
        check_fit(package, elf)
        machine.load_elf(elf)
    if arguments.trace:
        machine.step = tracer(machine.cpu).run
    choose_tier(arguments, machine.cpu)
    if arguments.gdb is not None:
        from isagen.inspection.debugger import debug_machine

        machine.step = debug_machine(machine.cpu, arguments.gdb, machine.step)
    try:
        outcome = machine.run(arguments.limit)
    finally:
        machine.cpu.close()
        at_end(arguments, machine.cpu)
        sys.stdout.flush()
        if arguments.count:
            sys.stderr.write(f"isagen: {machine.instructions} instructions\n")
    if arguments.signature is not None:
        Path(arguments.signature).write_text(machine.signature(arguments.signature_granularity))
    if outcome.code is None:
        sys.stderr.write(f"isagen: stopped after {outcome.instructions} instructions, as --limit asks\n")
        return LIMIT_REACHED
    if outcome.code > 255:
        sys.stderr.write(f"isagen: the program ended with code {outcome.code:#x}\n")
    return min(outcome.code, 255)
