"""Network Block Device: client node, connection, server."""
