"""Machines: what surrounds a CPU. So far: bare memory with a host-target interface."""
