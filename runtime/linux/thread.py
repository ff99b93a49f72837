"""A guest thread, what it does about signals and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.linux.ports import Cpu, Stop
    from runtime.linux.siginfo import SignalInfo
    from runtime.linux.waiting import Steps, Wait

SS_ONSTACK, SS_DISABLE = 1, 2


class Action:
    """``struct sigaction``. `handler` is an address, SIG_DFL (0) or SIG_IGN (1)."""

    __slots__ = ("flags", "handler", "mask", "restorer")

    def __init__(
        self,
        handler: int = 0,
        flags: int = 0,
        mask: int = 0,
        restorer: int = 0,
    ) -> None:
        self.handler = handler
        self.flags = flags
        self.mask = mask
        self.restorer = restorer


class FutexWaiter:
    """A thread that waits for a word of memory to be woken."""

    __slots__ = ("bits", "key", "wait")

    def __init__(
        self,
        wait: Wait,
        bits: int,
        key: int,
    ) -> None:
        self.wait = wait
        self.bits = bits
        self.key = key
        """The address; FUTEX_REQUEUE changes it."""


class Thread:
    """A guest thread."""

    __slots__ = (
        "alternate_stack", "awaited", "blocked", "clear_child_tid", "gone", "home", "id", "mask_after",
        "name", "pending", "registers", "restartable", "robust_list", "steps", "stop", "traced",
        "wait",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        registers: object = None,
        blocked: int = 0,
        mask_after: int | None = None,
        pending: list[SignalInfo] | None = None,
        alternate_stack: tuple[int, int, int] = (0, SS_DISABLE, 0),
        awaited: int = 0,
        clear_child_tid: int = 0,
        robust_list: int = 0,
        name: bytes = b"",
        stop: Stop | None = None,
        steps: Steps | None = None,
        wait: Wait | None = None,
        restartable: bool = False,
        gone: bool = False,
        traced: tuple[str, str, list[str]] | None = None,
    ) -> None:
        self.id = id
        self.registers = registers
        """What `Cpu.save` gave, while another thread has the CPU."""
        self.blocked = blocked
        """The signal mask: bit n - 1 for signal n."""
        self.mask_after = mask_after
        """The mask to put back when the call under way returns (``sigsuspend``, ``ppoll``, ...)."""
        self.pending = [] if pending is None else pending
        self.alternate_stack = alternate_stack
        """Address, flags, size."""
        self.awaited = awaited
        """The signals that it waits for with sigtimedwait(2): they end the wait, blocked or not."""
        self.clear_child_tid = clear_child_tid
        self.robust_list = robust_list
        self.name = name
        self.stop = stop
        """The system call under way: where it is."""
        self.steps = steps
        self.wait = wait
        self.restartable = restartable
        """The call under way was interrupted, and may start anew."""
        self.gone = gone
        self.home: Cpu | None = None
        """The CPU that has its registers, where threads run at the same time."""
        self.traced = traced
        """`runtime.linux.strace`: the call under way."""
