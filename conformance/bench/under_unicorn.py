"""Run a static Linux program under Unicorn: ``python -m conformance.bench.under_unicorn PROGRAM [ARGUMENT
...]``.
"""

from __future__ import annotations

import os
import sys

from conformance.bench.unicorn_cpu import UnicornCpu
from runtime.elf import open_elf
from runtime.linux.abi import for_elf
from runtime.linux.descriptors import inherited
from runtime.linux.program import start
from runtime.linux.scheduler import Scheduler


def main(words: list[str]) -> int:
    """Run the program `words` and return its status."""
    elf = open_elf(words[0])
    abi = for_elf(elf)
    cpu = UnicornCpu(abi)
    arguments = [os.fsencode(word) for word in words]
    environment = [name + b"=" + value for name, value in os.environb.items()]
    process = start(elf, abi, cpu, cpu.memory, arguments=arguments, environment=environment)
    process.files.table = inherited()
    end = Scheduler(process).run()
    return 1 if end is None else end.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
