"""``UcError``: an error number of Unicorn's, with a text."""

from __future__ import annotations

from typing import Final

from isagen.compat.unicorn import unicorn_const as uc
from isagen.emulator.errors import (
    GuestError,
    IllegalInstruction,
    MemoryFault,
    MisalignedFetch,
    ProtectedMemory,
)
from runtime.errors import IsagenError

_TEXTS: Final = {
    uc.UC_ERR_OK: "no error",
    uc.UC_ERR_NOMEM: "no memory there",
    uc.UC_ERR_ARCH: "unsupported architecture",
    uc.UC_ERR_HANDLE: "invalid handle",
    uc.UC_ERR_MODE: "unsupported mode",
    uc.UC_ERR_VERSION: "other version of the interface",
    uc.UC_ERR_READ_UNMAPPED: "read of unmapped memory",
    uc.UC_ERR_WRITE_UNMAPPED: "write to unmapped memory",
    uc.UC_ERR_FETCH_UNMAPPED: "fetch from unmapped memory",
    uc.UC_ERR_HOOK: "invalid kind of hook",
    uc.UC_ERR_INSN_INVALID: "invalid instruction",
    uc.UC_ERR_MAP: "memory can't be mapped so",
    uc.UC_ERR_WRITE_PROT: "write to protected memory",
    uc.UC_ERR_READ_PROT: "read of protected memory",
    uc.UC_ERR_FETCH_PROT: "fetch from protected memory",
    uc.UC_ERR_ARG: "invalid argument",
    uc.UC_ERR_READ_UNALIGNED: "misaligned read",
    uc.UC_ERR_WRITE_UNALIGNED: "misaligned write",
    uc.UC_ERR_FETCH_UNALIGNED: "misaligned fetch",
    uc.UC_ERR_HOOK_EXIST: "the hook exists already",
    uc.UC_ERR_RESOURCE: "too few resources",
    uc.UC_ERR_EXCEPTION: "unhandled exception of the CPU",
    uc.UC_ERR_OVERFLOW: "buffer too small",
}
_NAMES: Final = {number: name for name, number in vars(uc).items() if name.startswith("UC_ERR_")}
_ACCESS: Final = {"read": "READ", "write": "WRITE", "fetch": "FETCH"}


class UcError(IsagenError):
    """`errno`: one of ``UC_ERR_...``."""

    def __init__(self, errno: int, *args: object) -> None:
        text = f"{_TEXTS.get(errno, 'unknown error')} ({_NAMES.get(errno, errno)})"
        super().__init__(text)
        self.args = args
        self.errno = errno


def error_of(error: GuestError, *, illegal: int) -> UcError:
    """Unicorn's error for what a guest did; `illegal`: the number for invalid instructions."""
    if isinstance(error, MisalignedFetch):
        return UcError(uc.UC_ERR_FETCH_UNALIGNED)
    if isinstance(error, MemoryFault):
        kind = "PROT" if isinstance(error, ProtectedMemory) else "UNMAPPED"
        return UcError(getattr(uc, f"UC_ERR_{_ACCESS[error.access]}_{kind}"))
    return UcError(illegal if isinstance(error, IllegalInstruction) else uc.UC_ERR_EXCEPTION)
