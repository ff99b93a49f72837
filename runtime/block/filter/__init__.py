"""Filter nodes: disks made of other nodes."""
