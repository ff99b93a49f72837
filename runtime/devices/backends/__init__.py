"""What devices are connected to on the host: sockets, terminals, files."""
