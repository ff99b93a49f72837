"""A file on a web server as a read-only protocol node, by range requests (RFC 9110, section 14).

What was read is kept in blocks, up to a bound, because formats read many small tables. A server that can't
send ranges is refused: reading a disk at random would fetch the whole file again and again.
"""

from __future__ import annotations

import errno
import http.client
import ssl
import threading
from collections import OrderedDict
from typing import NoReturn
from urllib.parse import urljoin, urlsplit

from runtime.block.errors import ImageIOError, ImageNotFound, ImageReadOnly, ImageUnsupported
from runtime.block.node import Buffer, ProtocolNode

BLOCK = 256 << 10
"""Bytes fetched together at least."""
CACHED_BLOCKS = 64
"""Blocks that are kept: 16 MiB."""
REQUEST = 8 << 20
"""Bytes of one request at most."""

_TIMEOUT = 60.0
_REDIRECTS = 5
_RETRIES = 3


class HttpNode(ProtocolNode):
    """The file at `url`. Raises `ImageIOError`, `ImageNotFound`, `ImageUnsupported` (no ranges)."""

    read_only = True
    fixed_length = True
    block_size = BLOCK

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.name = url
        self._url = url
        self._tls = tls
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._validator: str | None = None
        self._size = -1
        self._size, first = self._first()
        self._blocks[0] = first

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, target: memoryview) -> None:
        inside = max(0, min(len(target), self._size - offset))
        if inside < len(target):
            target[inside:] = bytes(len(target) - inside)
        at = offset
        while at < offset + inside:
            number, skip = divmod(at, BLOCK)
            with self._lock:
                if number not in self._blocks:
                    self._fetch(number, -(-(offset + inside) // BLOCK))
                block = self._blocks[number]
                self._blocks.move_to_end(number)
            part = block[skip : skip + offset + inside - at]
            target[at - offset : at - offset + len(part)] = part
            at += len(part)

    def _fetch(self, first: int, end: int) -> None:
        """Keep the blocks from `first` on: those up to `end` that are missing, as far as a request goes."""
        last = first + 1
        limit = min(end, first + REQUEST // BLOCK)
        while last < limit and last not in self._blocks:
            last += 1
        start, stop = first * BLOCK, min(last * BLOCK, self._size)
        data = self._range(start, stop)
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        for number in range(first, last):
            self._blocks[number] = data[(number - first) * BLOCK : (number - first + 1) * BLOCK]

    def _first(self) -> tuple[int, bytes]:
        """The file's size and its first block."""
        for _ in range(_REDIRECTS + 1):
            response = self._request({"Range": f"bytes=0-{BLOCK - 1}"})
            if response.status in (301, 302, 303, 307, 308):
                self._redirect(response.getheader("Location"))
                continue
            if response.status == 416:
                return self._empty(response)
            if response.status in (404, 410):
                self._close()
                raise ImageNotFound("the server has no such file", where=self.name)
            if response.status == 200:
                self._close()
                raise ImageUnsupported(
                    "the server can't send parts of a file",
                    where=self.name,
                    remedy="download the image, or use a server with range requests",
                )
            if response.status != 206:
                self._fail(f"the server answers {response.status} {response.reason}")
            start, end, size = _content_range(response.getheader("Content-Range"))
            if start != 0 or size is None or end + 1 != min(size, BLOCK):
                self._fail("the server sends another range than asked for")
            # A weak validator can't tell whether bytes changed (RFC 9110, 13.1.5).
            tag = response.getheader("ETag") or ""
            strong = tag if tag and not tag.startswith("W/") else None
            self._validator = strong or response.getheader("Last-Modified")
            return size, self._body(response, end + 1)
        self._fail("the server redirects again and again")

    def _empty(self, response: http.client.HTTPResponse) -> tuple[int, bytes]:
        """No first byte: the file may be empty."""
        response.read(4096)
        header = response.getheader("Content-Range") or ""
        if header.replace(" ", "") not in ("bytes*/0", "*/0"):
            self._fail("the server sends no part of the file")
        return 0, b""

    def _redirect(self, location: str | None) -> None:
        self._close()
        if not location:
            self._fail("the server redirects to nowhere")
        target = urljoin(self._url, location)
        if urlsplit(self._url).scheme == "https" and urlsplit(target).scheme != "https":
            self._fail("the server redirects from https to something else")
        self._url = target

    def _range(self, start: int, stop: int) -> bytes:
        for attempt in range(_RETRIES):
            try:
                return self._range_once(start, stop)
            except ImageIOError as error:
                if attempt == _RETRIES - 1 or error.errno == errno.ESTALE:
                    raise
        raise AssertionError

    def _range_once(self, start: int, stop: int) -> bytes:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self._validator:
            headers["If-Range"] = self._validator
        response = self._request(headers)
        if response.status == 200:
            self._close()
            raise ImageIOError("the file changed on the server", errno=errno.ESTALE, where=self.name)
        if response.status != 206:
            self._fail(f"the server answers {response.status} {response.reason}")
        if _content_range(response.getheader("Content-Range"))[:2] != (start, stop - 1):
            self._fail("the server sends another range than asked for")
        return self._body(response, stop - start)

    def _request(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer to a GET; the connection is opened when there is none, or when the server closed it."""
        for attempt in range(2):
            fresh = self._connection is None
            connection = self._connection or self._connect()
            self._connection = connection
            parts = urlsplit(self._url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            try:
                connection.request("GET", path, headers={"Accept-Encoding": "identity", **headers})
                return connection.getresponse()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._close()
                if fresh or attempt:
                    number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
                    self._fail(f"the request failed: {getattr(error, 'strerror', None) or error!r}", number)
        raise AssertionError

    def _connect(self) -> http.client.HTTPConnection:
        try:
            parts = urlsplit(self._url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            self._fail(f"this is no address: {error}")
        if not host or parts.scheme not in ("http", "https"):
            self._fail("this is no address of a web server")
        if parts.scheme == "https":
            context = self._tls or ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)
        return http.client.HTTPConnection(host, port, timeout=_TIMEOUT)

    def _body(self, response: http.client.HTTPResponse, size: int) -> bytes:
        try:
            data = response.read(size)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            self._fail(f"the transfer failed: {error!r}")
        if len(data) != size or response.read(1):
            self._close()
            self._fail("the server sends more or less than it says")
        return data

    def _fail(self, what: str, number: int = errno.EIO) -> NoReturn:
        self._close()
        raise ImageIOError(what, errno=number, where=self.name)

    def pwrite(self, offset: int, data: Buffer) -> None:
        raise ImageReadOnly("files on web servers can only be read", where=self.name)

    def flush(self) -> None:
        pass

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        with self._lock:
            self._close()
            self._blocks.clear()


def _content_range(header: str | None) -> tuple[int, int, int | None]:
    """First and last byte, and the file's size if it is known, of a Content-Range."""
    unit, _, rest = (header or "").strip().partition(" ")
    span, _, size = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes" or not (first.isdigit() and last.isdigit()) or int(last) < int(first):
        return -1, -1, None
    return int(first), int(last), int(size) if size.isdigit() else None


def open_url(url: str, *, writable: bool = False) -> HttpNode:
    """For `runtime.block.location`."""
    if writable:
        raise ImageReadOnly("files on web servers can only be read", where=url)
    return HttpNode(url)
