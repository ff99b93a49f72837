"""IEEE 754 arithmetic with exact exception flags, for binary16, binary32 and binary64.

``reference`` is the obviously correct big-integer implementation (no third-party import); ``library``
compiles the fast integer one (numba, at build time only) to LLVM assembly; ``symbols`` lists the compiled
functions as data; ``policy`` holds the constants that tell the instruction sets apart where IEEE 754 leaves a
choice.
"""
