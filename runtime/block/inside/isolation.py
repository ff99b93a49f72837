"""Running a function in a child process that may crash, hang or want too much memory without harm."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable

from runtime.block.errors import ImageError

MEMORY = 2 << 30
"""Bytes of address space that the child may have."""
CPU_SECONDS = 120


def isolated(function: Callable[[], int]) -> int:
    """What `function` returns (0 to 120), from a child process with our open files and standard streams.

    `ImageError` passes through as its text. Raises `ImageError` too if the child dies.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _exit_with(function, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read(1 << 16)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise ImageError(
            f"the file system can't be read: its reader died ({signal.Signals(number).name})",
            remedy="the file system may be damaged",
        )
    if message:
        raise ImageError(message.decode("utf-8", "replace"))
    return os.WEXITSTATUS(status)


def _exit_with(function: Callable[[], int], writer: int) -> None:
    """Run `function` and end the process; errors go into the pipe `writer`."""
    status = 1
    try:
        for limit, value in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, CPU_SECONDS)):
            _, most = resource.getrlimit(limit)
            resource.setrlimit(limit, (value if most == resource.RLIM_INFINITY else min(value, most), most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = function()
        sys.stdout.flush()
    except BrokenPipeError:
        status = 0
    except KeyboardInterrupt:
        status = 130
    except MemoryError:
        os.write(writer, b"the file system wants too much memory")
    except BaseException as error:
        os.write(writer, (str(error) or repr(error)).encode()[:4096])
    finally:
        os._exit(status)
