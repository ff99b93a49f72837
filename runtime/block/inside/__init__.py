"""What is inside of a disk: partitions, file systems, files. Nothing is mounted, nobody needs to be root."""
