"""The evaluator's memory in state cases: a data area, a read-only page behind it, and the code."""

from __future__ import annotations

from conformance.corners import CODE, CODE_SIZE, DATA, DATA_SIZE, MEMORY_SIZE
from generator.ir.state import Access, GuestFault

MASK64 = (1 << 64) - 1


def code_area(address: int, code: bytes) -> bytes:
    """The code area's contents with one instruction in it, at `address`, as far as it fits."""
    return (bytes(address - CODE) + code).ljust(CODE_SIZE, b"\0")[:CODE_SIZE]


class CaseMemory:
    """Implements `generator.ir.state.Memory` over two byte arrays; physical addresses of 64 bits."""

    def __init__(self) -> None:
        self.data = bytearray(MEMORY_SIZE)
        self.code = bytearray(CODE_SIZE)

    def put_code(self, address: int, code: bytes) -> None:
        """Put an instruction at `address` of the code area, which has zeros elsewhere."""
        self.code[:] = code_area(address, code)

    def check(self, address: int, size: int, access: Access) -> None:
        end = address + size
        if access != "fetch":
            limit = DATA + (DATA_SIZE if access == "write" else MEMORY_SIZE)
            if address >= DATA and end <= limit:
                return
        elif address >= CODE and end <= CODE + CODE_SIZE:
            return
        for place in range(address, end):
            if not self._allows(place & MASK64, access):
                raise GuestFault(place & MASK64, access)

    @staticmethod
    def _allows(address: int, access: Access) -> bool:
        if DATA <= address < DATA + MEMORY_SIZE:
            return access == "read" or (access == "write" and address < DATA + DATA_SIZE)
        return CODE <= address < CODE + CODE_SIZE and access != "write"

    def read(self, address: int, size: int, access: Access) -> bytes:
        self.check(address, size, access)
        if address >= CODE:
            return bytes(self.code[address - CODE : address - CODE + size])
        return bytes(self.data[address - DATA : address - DATA + size])

    def write(self, address: int, data: bytes) -> None:
        self.check(address, len(data), "write")
        offset = address - DATA
        self.data[offset : offset + len(data)] = data
