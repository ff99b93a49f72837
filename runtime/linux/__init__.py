"""Linux user mode: runs a Linux program of a guest architecture on a host Linux.

* `abi`: what differs between architectures (registers, system-call numbers, structures, flags);
* `layouts`, `errors`: structures and error numbers as the guest sees them;
* `ports`: what this layer needs of a CPU and of a memory; the engine offers it, and so do tests' stand-ins;
* `memory`: the guest's address space: areas, ``brk``, ``mmap``;
* `loader`: from an ELF file to a memory image with stack and auxiliary vector;
* `files`, `time`, `identity`, `signals`, ...: system calls by subject, each registered in `calls`;
* `process`: one guest process: the loop of running and answering system calls.

A guest's pointers are addresses of its own memory and nothing else: all accesses go through `ports.Memory`.
"""
