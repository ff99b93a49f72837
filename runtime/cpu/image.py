"""Native code that is ready to be mapped: what `runtime.cpu.linking` made of object files.

An image is a header; code and constants; data that hold addresses; and numbers: the places of these
addresses, offsets of exported symbols, and where the addresses of imported C functions belong; then all
names. Sizes of both parts are whole pages. Code never can be written while it can be executed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from pathlib import Path
from typing import Final

MAGIC: Final = b"isagen image 1\n\0"
HEADER: Final = struct.Struct("<16s6I24x")
"""Magic; bytes of code, of data; relocations, symbols, imports; bytes of names."""
PAGE: Final = 4096

_protect: Final = ctypes.pythonapi.mprotect
_protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class ImageError(Exception):
    """Bytes that are no image, or one that can't be used here."""


def is_image(data: bytes) -> bool:
    """Whether the bytes begin as images do."""
    return data.startswith(MAGIC)


class Image:
    """Code in this process. It stays as long as this object does; nothing notices code that still runs."""

    def __init__(self, place: mmap.mmap, tail: bytes) -> None:
        """`place`: code and data, private and writable; `tail`: what lies behind them. Raises ImageError."""
        try:
            magic, code, data, relocations, symbols, imports, names = HEADER.unpack_from(place)
            numbers = struct.unpack_from(f"<{relocations + symbols + imports}I", tail)
            texts = tail[4 * len(numbers) : 4 * len(numbers) + names].decode().split("\n")
        except (struct.error, UnicodeDecodeError) as error:
            raise ImageError(f"a damaged image: {error}") from None
        if magic != MAGIC or code % PAGE or code + data > len(place):
            raise ImageError("not an image")
        self._place = place
        self._view = (ctypes.c_char * len(place)).from_buffer(place)
        self.base = ctypes.addressof(self._view)
        self.size = code + data
        """Bytes that it takes."""
        words = memoryview(place).cast("Q")
        try:
            for offset in numbers[:relocations]:
                words[offset >> 3] += self.base
            for name, offset in zip(texts[symbols:], numbers[relocations + symbols :], strict=False):
                words[offset >> 3] = _host_function(name)
        except IndexError:
            raise ImageError("a damaged image") from None
        finally:
            words.release()
        self._symbols = dict(zip(texts[:symbols], numbers[relocations:], strict=False))
        if _protect(self.base, code, mmap.PROT_READ | mmap.PROT_EXEC):
            raise ImageError("the system doesn't let code be executed")
        if data:
            _protect(self.base + code, data, mmap.PROT_READ)

    def address(self, symbol: str) -> int:
        """The host address of a symbol, 0 if there is none."""
        offset = self._symbols.get(symbol)
        return 0 if offset is None else self.base + offset


def _host_function(name: str) -> int:
    """The address of a function of the C library."""
    try:
        function = getattr(ctypes.pythonapi, name)
    except AttributeError:
        raise ImageError(f"there is no function {name}") from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _extent(header: bytes) -> int:
    """Bytes of code and data that an image says it has."""
    if len(header) < HEADER.size or not is_image(header):
        raise ImageError("not an image")
    _, code, data, *_ = HEADER.unpack_from(header)
    return int(code) + int(data)


def map_file(path: Path) -> Image:
    """The image in a file, mapped. Raises ImageError, OSError."""
    with path.open("rb", buffering=0) as file:
        extent = _extent(file.read(HEADER.size))
        if not HEADER.size <= extent <= os.fstat(file.fileno()).st_size:
            raise ImageError("a file that was cut short")
        file.seek(extent)
        tail = file.readall()
        place = mmap.mmap(file.fileno(), extent, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    return Image(place, tail)


def load_image(data: bytes) -> Image:
    """An image from memory. Raises ImageError."""
    extent = _extent(data)
    if not extent or len(data) < extent:
        raise ImageError("a damaged image")
    place = mmap.mmap(-1, extent, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    place[:] = data[:extent]
    return Image(place, data[extent:])
