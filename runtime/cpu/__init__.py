"""The generated engine: CPU state, decoding, the run loop, and how an object file becomes a running CPU."""
