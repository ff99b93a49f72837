"""Several CPUs at once over one memory, each in a thread of the host: what is atomic stays so.

The programs count in memory together. Where an update could be lost it would be, soon: the threads' loops are
short, and the kernel cuts in where it likes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.assembly.program import assemble
from runtime.cpu.engine import Cpu, load_target
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace
