"""A folder of the host for guests, by 9P2000.L."""
