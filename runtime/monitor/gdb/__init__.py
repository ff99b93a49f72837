"""A server of gdb's remote serial protocol (gdb manual, appendix "Remote Protocol") for whatever is
debuggable.

`debuggee` says what it needs of what is debugged, `cpu` makes that of an engine's CPU, `packets` is the
framing, `server` the protocol.
"""

from __future__ import annotations

from runtime.monitor.gdb.cpu import CpuDebuggee
from runtime.monitor.gdb.debuggee import Debuggee, StopEvent
from runtime.monitor.gdb.server import GdbServer

__all__ = ["CpuDebuggee", "Debuggee", "GdbServer", "StopEvent"]
