"""The runtime: engine, memory, floating point, Linux user mode. Imports nothing of the generator."""
