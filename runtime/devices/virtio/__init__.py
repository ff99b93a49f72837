"""Virtio devices, version 1.2, over memory-mapped registers."""
