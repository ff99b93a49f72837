"""QCOW2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt)."""
