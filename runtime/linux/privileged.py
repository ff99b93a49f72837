"""Calls by which a process would act on more than itself: a guest may not, whatever the host would allow."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from runtime.linux.calls import system_call
from runtime.linux.errors import SystemCallError

if TYPE_CHECKING:
    from runtime.linux.process import Process


@system_call(
    *(
        "mount",
        "umount",
        "umount2",
        "pivot_root",
        "chroot",
        "swapon",
        "swapoff",
        "quotactl",
        "acct",
        "reboot",
    ),
    *("sethostname", "setdomainname", "init_module", "finit_module", "delete_module", "kexec_load"),
    *(
        "kexec_file_load",
        "unshare",
        "setns",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "syslog",
        "bpf",
    ),
    *("perf_event_open", "userfaultfd", "setgroups", "setgroups32", "settimeofday", "clock_settime", "iopl"),
    *(
        "clock_settime64",
        "adjtimex",
        "clock_adjtime",
        "clock_adjtime64",
        "stime",
        "vhangup",
        "ioperm",
        "fanotify_init",
    ),
    *("open_by_handle_at", "move_mount", "fsopen", "fsmount", "open_tree", "kcmp", "lookup_dcookie"),
)
def refuse(p: Process) -> int:
    raise SystemCallError(errno.EPERM)
