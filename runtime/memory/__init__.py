"""Guest physical (in user mode: virtual) address spaces."""
