"""What a signal tells about itself: ``siginfo_t`` (sigaction(2))."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

SIZE: Final = 128

SI_USER, SI_QUEUE, SI_TIMER, SI_TKILL, SI_KERNEL = 0, -1, -2, -6, 0x80
CLD_EXITED, CLD_KILLED, CLD_DUMPED, CLD_TRAPPED, CLD_STOPPED, CLD_CONTINUED = range(1, 7)
SEGV_MAPERR, SEGV_ACCERR = 1, 2
BUS_ADRALN, BUS_ADRERR = 1, 2

Pack = Callable[[int, int], bytes]
"""A number in so many bytes, in the guest's order."""


class SignalInfo(NamedTuple):
    """A signal, by the guest's number, and where it comes from. What has no meaning for `code` is 0."""

    number: int
    code: int = SI_USER
    pid: int = 0
    uid: int = 0
    value: int = 0
    """``si_value`` as a word; of SIGCHLD the status."""
    address: int = 0
    timer: int = 0
    overrun: int = 0
    fault: bool = False
    """An instruction of the thread itself caused it: `address` is set."""
    exception: tuple[int, int] = (0, 0)
    """Of a fault: the exception's number and error code, where frames tell them (`Abi.exception`)."""
    child: bool = False
    """SIGCHLD from the kernel: pid, uid, and `value`, the status."""

    def pack(self, pack: Pack, word: int) -> bytes:
        """``siginfo_t`` of an architecture whose ``long`` has `word` bytes."""
        head = pack(self.number, 4) + pack(0, 4) + pack(self.code, 4)
        if word == 8:
            head += bytes(4)
        if self.fault:
            body = pack(self.address, word)
        elif self.code == SI_TIMER:
            body = pack(self.timer, 4) + pack(self.overrun, 4) + pack(self.value, word)
        elif self.child:
            body = pack(self.pid, 4) + pack(self.uid, 4) + pack(self.value, 4)
        else:
            body = pack(self.pid, 4) + pack(self.uid, 4) + pack(self.value, word)
        return (head + body).ljust(SIZE, b"\0")

    def pack_for_signalfd(self, pack: Pack) -> bytes:
        """``struct signalfd_siginfo`` (signalfd(2))."""
        value = self.value
        parts = [
            *(pack(self.number, 4), pack(0, 4), pack(self.code, 4), pack(self.pid, 4), pack(self.uid, 4)),
            *(pack(0, 4), pack(self.timer, 4), pack(0, 4), pack(self.overrun, 4), pack(0, 4)),
            *(pack(value if self.child else 0, 4), pack(value, 4), pack(value, 8), pack(0, 16)),
            pack(self.address, 8),
        ]
        return b"".join(parts).ljust(SIZE, b"\0")
