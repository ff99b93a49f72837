"""Images on web servers, read by ranges."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from runtime.block.errors import ImageError, ImageIOError, ImageNotFound, ImageReadOnly, ImageUnsupported
from runtime.block.image import Image
from runtime.block.protocol.http import HttpNode

CONTENT = random.Random(1).randbytes(3_000_001)


class Handler(BaseHTTPRequestHandler):
    """Answers ranges of CONTENT; other paths misbehave."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[str]] = []
    tag: ClassVar[str] = '"one"'

    def do_GET(self) -> None:
        value = self.headers.get("Range", "")
        Handler.requests.append(value)
        first, last = (int(part) for part in value.removeprefix("bytes=").split("-"))
        if self.path == "/moved":
            self.answer(302, b"", Location="/disk")
        elif self.path == "/loop":
            self.answer(302, b"", Location="/loop")
        elif self.path == "/whole" or (self.headers.get("If-Range") not in (None, Handler.tag)):
            self.answer(200, CONTENT[:1000])
        elif self.path == "/other":
            self.answer(206, CONTENT[:10], **{"Content-Range": "bytes 5-14/3000001"})
        elif self.path == "/short":
            data = CONTENT[first : last + 1]
            self.answer(206, data[:100], **{"Content-Range": f"bytes 0-{len(data) - 1}/{len(CONTENT)}"})
        elif self.path == "/disk":
            data = CONTENT[first : last + 1]
            span = f"bytes {first}-{first + len(data) - 1}/{len(CONTENT)}"
            self.answer(206, data, **{"Content-Range": span, "ETag": Handler.tag})
        else:
            self.answer(404, b"")

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.requests.clear()
    Handler.tag = '"one"'
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_any_part_reads_as_it_is(address: str) -> None:
    generator = random.Random(2)
    with Image.open(f"{address}/disk", "raw") as image:
        assert image.size == len(CONTENT)
        for _ in range(50):
            offset = generator.randrange(image.size)
            length = min(generator.choice((1, 512, 100_000, 900_000)), image.size - offset)
            assert image.pread(offset, length) == CONTENT[offset : offset + length]
        assert image.pread(0, image.size) == CONTENT


def test_what_was_read_is_kept(address: str) -> None:
    with HttpNode(f"{address}/disk") as node:
        for _ in range(100):
            node.pread(300_000, 4096)
        assert len(Handler.requests) == 2
        assert node.pread(len(CONTENT) - 3, 10) == CONTENT[-3:] + bytes(7)


def test_redirections_are_followed_so_far(address: str) -> None:
    with HttpNode(f"{address}/moved") as node:
        assert node.pread(0, 10) == CONTENT[:10]
    with pytest.raises(ImageIOError, match="redirects"):
        HttpNode(f"{address}/loop")


@pytest.mark.parametrize(
    "path, error", [("/whole", ImageUnsupported), ("/absent", ImageNotFound), ("/other", ImageIOError)]
)
def test_servers_that_cannot_or_do_not(address: str, path: str, error: type[ImageError]) -> None:
    with pytest.raises(error):
        HttpNode(address + path)


def test_a_transfer_that_is_cut_off_is_an_error(address: str) -> None:
    with pytest.raises(ImageIOError):
        HttpNode(f"{address}/short")


def test_a_file_that_changes_is_noticed(address: str) -> None:
    with HttpNode(f"{address}/disk") as node:
        Handler.tag = '"two"'
        with pytest.raises(ImageIOError, match="changed"):
            node.pread(2_000_000, 100)


def test_nobody_writes(address: str) -> None:
    with pytest.raises(ImageReadOnly):
        Image.open(f"{address}/disk", "raw", writable=True)
    with HttpNode(f"{address}/disk") as node, pytest.raises(ImageReadOnly):
        node.pwrite(0, b"x")


def test_no_server_is_an_error() -> None:
    with pytest.raises(ImageIOError):
        HttpNode("http://127.0.0.1:1/disk")
