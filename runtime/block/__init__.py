"""Disk images: protocol nodes, format nodes, and `Image`, what people open (`runtime.block.image`)."""
