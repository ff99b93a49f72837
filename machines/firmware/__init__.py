"""Firmware of our own, as assembler source."""
