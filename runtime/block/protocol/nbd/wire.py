"""The NBD protocol's numbers and messages. Source: NetworkBlockDevice/nbd, doc/proto.md. All big-endian."""

from __future__ import annotations

import errno
import struct
from enum import IntEnum, IntFlag
from typing import Protocol

from runtime.block.errors import ImageIOError

MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OLD_STYLE_MAGIC = 0x0000420281861253
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

DEFAULT_PORT = 10809
MAXIMUM_PAYLOAD = 32 << 20
"""What a client may ask for in one request unless the server says otherwise."""
MAXIMUM_STRING = 4096
BASE_ALLOCATION = "base:allocation"
ALLOCATION_DEPTH = "qemu:allocation-depth"

OPTION = struct.Struct(">8sII")
OPTION_REPLY = struct.Struct(">QIII")
REQUEST = struct.Struct(">IHHQQI")
SIMPLE_REPLY = struct.Struct(">IIQ")
STRUCTURED_REPLY = struct.Struct(">IHHQI")
OLD_STYLE = struct.Struct(">QI124x")
EXPORT = struct.Struct(">QH")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
HOLE = struct.Struct(">QI")
EXTENT = struct.Struct(">II")
BLOCK_SIZES = struct.Struct(">HIII")


class HandshakeFlag(IntFlag):
    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x8000_0001
    ERR_POLICY = 0x8000_0002
    ERR_INVALID = 0x8000_0003
    ERR_PLATFORM = 0x8000_0004
    ERR_TLS_REQD = 0x8000_0005
    ERR_UNKNOWN = 0x8000_0006
    ERR_SHUTDOWN = 0x8000_0007
    ERR_BLOCK_SIZE_REQD = 0x8000_0008
    ERR_TOO_BIG = 0x8000_0009


class Info(IntEnum):
    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class TransmissionFlag(IntFlag):
    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


class Chunk(IntEnum):
    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


CHUNK_DONE = 1


class State(IntFlag):
    """Bits of an extent in base:allocation."""

    HOLE = 1
    ZERO = 2


# NBD's error numbers are Linux's; a server sends only these.
ERRORS = (
    errno.EPERM,
    errno.EIO,
    errno.ENOMEM,
    errno.EINVAL,
    errno.ENOSPC,
    errno.EOVERFLOW,
    errno.ENOTSUP,
    errno.ESHUTDOWN,
)


class Stream(Protocol):
    """A socket, plain or TLS."""

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0, /) -> int: ...

    def sendall(self, data: bytes | memoryview, /) -> None: ...


class Disconnected(ImageIOError):
    """The other side closed the connection."""

    def __init__(self, where: str = "") -> None:
        super().__init__("the NBD connection was closed", errno=errno.ECONNRESET, where=where)


def receive(stream: Stream, size: int) -> bytearray:
    """Exactly `size` bytes. Raises `Disconnected`."""
    data = bytearray(size)
    receive_into(stream, memoryview(data))
    return data


def receive_into(stream: Stream, view: memoryview) -> None:
    """Fill `view`. Raises `Disconnected`."""
    while view:
        count = stream.recv_into(view)
        if not count:
            raise Disconnected
        view = view[count:]
