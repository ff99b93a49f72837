"""Run a static Linux program under Unicorn: ``python -m conformance.bench.under_unicorn PROGRAM [ARGUMENT
...]``.
"""

from __future__ import annotations

import os
import sys

from conformance.bench.unicorn_cpu import UnicornCpu
from runtime.elf import open_elf
from runtime.linux.abi import for_elf
from runtime.linux.process import Process


def main(words: list[str]) -> int:
    """Run the program `words` and return its status."""
    elf = open_elf(words[0])
    abi = for_elf(elf)
    cpu = UnicornCpu(abi)
    arguments = [os.fsencode(word) for word in words]
    environment = [name + b"=" + value for name, value in os.environb.items()]
    status = Process(elf, abi, cpu, cpu.memory, arguments=arguments, environment=environment).run()
    return 1 if status is None else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
