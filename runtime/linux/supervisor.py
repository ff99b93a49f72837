"""What a debugger is to a process: somebody who stands over it, may hold its threads and hears of its
signals before they do anything (as ptrace(2) has it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runtime.linux.siginfo import SignalInfo
    from runtime.linux.thread import Thread


class Supervisor(Protocol):
    """`Process.supervisor`."""

    @property
    def descriptor(self) -> int | None:
        """A descriptor of the host's that is readable when the supervisor has something to say."""
        ...

    def called(self) -> None:
        """The descriptor is readable, and no thread runs. May raise GuestExit."""
        ...

    def holds(self, thread: Thread) -> bool:
        """Whether the thread mustn't run now."""
        ...

    def stuck(self) -> None:
        """It holds all threads that there are. May raise GuestExit."""
        ...

    def signal(self, info: SignalInfo) -> SignalInfo | None:
        """The running thread takes a signal: what it takes instead. May raise GuestExit."""
        ...
