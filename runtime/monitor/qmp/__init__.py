"""A server of QMP, the machine protocol of QEMU (its documentation, "QEMU Machine Protocol Specification").

`messages` splits the stream into JSON values, `registry` keeps commands and their arguments' models, `schema`
describes them as ``query-qmp-schema`` does, `server` talks to clients. Which commands there are is up to the
machine.
"""
