"""Devices: registers in an address range, interrupt lines, a state that can be saved. None knows a CPU."""
