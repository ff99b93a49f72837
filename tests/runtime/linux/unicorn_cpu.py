"""A stand-in for the engine in tests of the Linux layer: Unicorn."""

from conformance.bench.unicorn_cpu import UnicornCpu, UnicornMemory

__all__ = ["UnicornCpu", "UnicornMemory"]
