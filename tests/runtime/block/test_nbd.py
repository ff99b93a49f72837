"""NBD: our server against libnbd's and QEMU's clients, our client against QEMU's and nbdkit's servers."""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.block.errors import ImageError, ImageIOError, ImageNotFound, ImageOption
from runtime.block.image import Image
from runtime.block.node import ExtentKind
from runtime.block.protocol.memory import MemoryNode
from runtime.block.protocol.nbd import server as servers
from runtime.block.protocol.nbd import uri, wire
from runtime.block.protocol.nbd.connection import Connection
from runtime.block.protocol.nbd.node import NbdNode
from runtime.block.protocol.nbd.server import Export, Server, listen_tcp, listen_unix

SIZE = 8 << 20


def disk() -> bytes:
    """Data, a hole, data."""
    return random.Random(1).randbytes(1 << 20) + bytes(4 << 20) + random.Random(2).randbytes(3 << 20)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.write(disk()[: 1 << 20])
        file.seek(5 << 20)
        file.write(disk()[5 << 20 :])
    return path


@pytest.fixture
def served(raw: Path, tmp_path: Path) -> Iterator[str]:
    """The URI of the raw disk's export, writable; "fixed" is the same one for reading only."""
    path = tmp_path / "socket"
    with Image.open(raw, "raw", writable=True) as image:
        exports = [Export("disk", image.node, "a disk"), Export("fixed", image.node, read_only=True)]
        with Server(exports, listen_unix(path)) as server:
            server.start()
            yield f"nbd+unix:///disk?socket={path}"


def test_libnbd_understands_us(
    served: str, raw: Path, tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    # Without the content's description: that is what file(1) says, where there is one, in any characters.
    command = [require_tool("nbdinfo"), "--json", "--no-content", served]
    info = subprocess.run(command, capture_output=True, check=True)
    (export,) = json.loads(info.stdout)["exports"]
    assert export["export-size"] == SIZE and export["can_multi_conn"] and not export["is_read_only"]
    assert export["contexts"] == ["base:allocation", "qemu:allocation-depth"]
    text = subprocess.run(["nbdinfo", "--map", "--json", served], capture_output=True, check=True)
    assert [(extent["length"], extent["type"]) for extent in json.loads(text.stdout)] == [
        (1 << 20, 0),
        (4 << 20, 3),
        (3 << 20, 0),
    ]
    listing = subprocess.run(["nbdinfo", "--list", served], capture_output=True, text=True, check=True).stdout
    assert 'export="disk"' in listing and 'export="fixed"' in listing and "a disk" in listing
    subprocess.run([require_tool("nbdcopy"), served, tmp_path / "copy"], check=True)
    assert (tmp_path / "copy").read_bytes() == disk()
    other = random.Random(3).randbytes(SIZE)
    (tmp_path / "other").write_bytes(other)
    subprocess.run(["nbdcopy", tmp_path / "other", served], check=True)
    assert raw.read_bytes() == other


def test_qemu_reads_and_writes_through_us(served: str, raw: Path, require_tool: Callable[..., str]) -> None:
    qemu = require_tool("qemu-img")
    subprocess.run([qemu, "compare", "-f", "raw", "-F", "raw", served, raw, "-U"], check=True)
    commands = ("write -P 5 1M 2M", "write -z 3M 1M", "discard 4M 64k", "write -f -P 6 100 10", "flush")
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run([require_tool("qemu-io"), "-f", "raw", *words, served], check=True, capture_output=True)
    data = raw.read_bytes()
    assert data[1 << 20 : 3 << 20] == b"\5" * (2 << 20)
    assert data[3 << 20 : 4 << 20] == bytes(1 << 20)
    assert data[100:110] == b"\6" * 10
    fixed = served.replace("/disk?", "/fixed?")
    failed = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 1k", fixed], capture_output=True)
    assert failed.returncode


def test_our_client_and_server_agree_with_a_model(served: str, raw: Path) -> None:
    generator = random.Random(4)
    model = bytearray(disk())
    with NbdNode(served, writable=True) as node:
        for _ in range(120):
            offset = generator.randrange(SIZE)
            length = min(generator.choice((1, 511, 4096, 70_000, 3_000_000)), SIZE - offset)
            action = generator.randrange(3)
            if action == 0:
                data = generator.randbytes(length)
                node.pwrite(offset, data)
                model[offset : offset + length] = data
            elif action == 1:
                node.write_zeroes(offset, length)
                model[offset : offset + length] = bytes(length)
            else:
                assert node.pread(offset, length) == model[offset : offset + length]
        node.flush()
        extents = list(node.extents(1000, SIZE - 5000))
        assert extents[0].offset == 1000 and extents[-1].end == SIZE - 4000
        assert not any(any(model[e.offset : e.end]) for e in extents if e.kind is not ExtentKind.DATA)
        assert node.pread(SIZE - 2, 10) == bytes(model[-2:]) + bytes(8)
    assert raw.read_bytes() == model


@contextlib.contextmanager
def running(words: list[str], path: Path) -> Iterator[None]:
    """A server program, once its socket is there."""
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def exercise(node: NbdNode) -> None:
    with node:
        data = random.Random(5).randbytes(300_001)
        node.pwrite(12_345, data)
        assert node.pread(12_345, len(data)) == data
        node.write_zeroes(20_000, 70_000)
        node.flush()
        assert node.pread(12_345, len(data)) == data[:7655] + bytes(70_000) + data[77_655:]
        assert sum(extent.length for extent in node.extents()) == node.length()


def test_our_client_with_qemu_nbd(tmp_path: Path, raw: Path, require_tool: Callable[..., str]) -> None:
    path = tmp_path / "qemu"
    words = [require_tool("qemu-nbd"), "-f", "raw", "-k", str(path), "-x", "name", "-e", "4", "-t", str(raw)]
    with running(words, path):
        exercise(NbdNode(f"nbd+unix:///name?socket={path}", writable=True))
        with pytest.raises(ImageNotFound):
            NbdNode(f"nbd+unix:///absent?socket={path}")


@pytest.mark.parametrize(
    "options",
    [
        ["memory", "4M"],
        ["--no-sr", "memory", "4M"],
        [
            *("--filter=blocksize-policy", "memory", "4M", "blocksize-minimum=4096"),
            *("blocksize-maximum=65536", "blocksize-error-policy=error"),
        ],
    ],
)
def test_our_client_with_nbdkit(options: list[str], tmp_path: Path, require_tool: Callable[..., str]) -> None:
    path = tmp_path / "kit"
    with running([require_tool("nbdkit"), "-f", "-U", str(path), *options], path):
        exercise(NbdNode(f"nbd+unix:///?socket={path}", writable=True))


def test_a_server_s_errors_reach_the_caller(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    path = tmp_path / "kit"
    words = [require_tool("nbdkit"), "-f", "-U", str(path), "--filter=error", "memory", "1M"]
    with (
        running([*words, "error=ENOSPC", "error-pwrite-rate=100%"], path),
        NbdNode(f"nbd+unix:///?socket={path}", writable=True) as node,
    ):
        with pytest.raises(ImageIOError) as caught:
            node.pwrite(0, b"x")
        assert caught.value.errno == 28
        assert node.pread(0, 4) == bytes(4)  # the connection goes on


def certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_tls_is_compulsory_where_it_is_configured(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    listener = listen_tcp("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with Server([Export("", MemoryNode(disk()))], listener, tls=context) as server:
        server.start()
        with pytest.raises(ImageIOError, match="TLS"):
            NbdNode(f"nbd://localhost:{port}/")
        trusting = ssl.create_default_context(cafile=str(path))
        with NbdNode(f"nbds://localhost:{port}/", tls=trusting) as node:
            assert node.pread(0, SIZE) == disk()
        with pytest.raises(ImageIOError, match="TLS failed"):
            NbdNode(f"nbds://localhost:{port}/")  # nobody vouches for it


def hostile(path: Path, sent: bytes) -> bytes:
    """What the server says to a client that sends this and no more."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(10)
        stream.connect(str(path))
        stream.recv(18)
        with contextlib.suppress(OSError):
            stream.sendall(sent)
            stream.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := stream.recv(65536):
                answer += data
        return answer


def option(number: int, data: bytes = b"", length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return wire.OPTION.pack(wire.OPTION_MAGIC, number, size) + data


def test_hostile_clients_get_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "HANDSHAKE_SECONDS", 1.0)
    path = tmp_path / "socket"
    go = option(7, struct.pack(">I", 1) + b"a" + struct.pack(">H", 0))
    request = wire.REQUEST
    cases = [
        b"",
        b"\xff" * 100,
        struct.pack(">I", 3) + b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 3) + option(1, b"x", 0xFFFF_FFFF),
        struct.pack(">I", 3) + option(6, struct.pack(">I", 0xFFFF_FFF0)),
        struct.pack(">I", 3) + option(10, struct.pack(">II", 0, 0xFFFF_FFFF)),
        struct.pack(">I", 3) + option(77, b"abc") * 20,
        struct.pack(">I", 3) + option(1, b"absent"),
        struct.pack(">I", 3) + go + request.pack(1, 0, 0, 0, 0, 0),
        struct.pack(">I", 3) + go + request.pack(wire.REQUEST_MAGIC, 0, 0, 1, 0, 0xFFFF_FFFF),
        struct.pack(">I", 3) + go + request.pack(wire.REQUEST_MAGIC, 0, 1, 1, 0, 1 << 20) + b"short",
        struct.pack(">I", 3) + go + request.pack(wire.REQUEST_MAGIC, 0, 0, 1, (1 << 64) - 1, 4096),
        struct.pack(">I", 3) + go + request.pack(wire.REQUEST_MAGIC, 0xFFFF, 6, 1, 0, 4096),
        struct.pack(">I", 3) + go + request.pack(wire.REQUEST_MAGIC, 0, 99, 1, 0, 4096),
        struct.pack(">I", 3) + go + request.pack(wire.REQUEST_MAGIC, 0, 7, 1, 0, 4096),
    ]
    content = disk()
    with Server([Export("a", MemoryNode(content))], listen_unix(path), maximum_connections=2) as server:
        server.start()
        for sent in cases:
            hostile(path, sent)
        with NbdNode(f"nbd+unix:///a?socket={path}", writable=True) as node:
            assert node.pread(0, SIZE) == content
            # A third connection is refused, and those there go on.
            with kept_connection(path), pytest.raises(ImageError):
                NbdNode(f"nbd+unix:///a?socket={path}")
            assert node.pread(0, 10) == content[:10]


@contextlib.contextmanager
def kept_connection(path: Path) -> Iterator[None]:
    connection = Connection(uri.parse(f"nbd+unix:///a?socket={path}"))
    connection.open()
    yield
    connection.close()


def test_closing_the_server_ends_clients(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = Server([Export("", MemoryNode(disk()))], listen_unix(path))
    server.start()
    node = NbdNode(f"nbd+unix:///?socket={path}")
    server.close()
    with pytest.raises(ImageIOError):
        node.pread(0, 10)
    node.close()
    # The abandoned socket doesn't keep the next server away.
    Server([Export("", MemoryNode(b""))], listen_unix(path)).close()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("nbd://host/disk", uri.Address("host", 10809, "", "disk")),
        ("nbds://[::1]:99/a%20b", uri.Address("::1", 99, "", "a b", True)),
        ("nbd+unix:///x?socket=/a%2Fb", uri.Address("", 0, "/a/b", "x")),
        ("nbd:unix:/a/b:exportname=x", uri.Address("", 0, "/a/b", "x")),
        ("nbd:host:99", uri.Address("host", 99)),
    ],
)
def test_addresses(text: str, expected: uri.Address) -> None:
    assert uri.parse(text) == expected


@pytest.mark.parametrize("text", ["nbd://host:99999/", "nbd+unix:///x", "nbd:host", "http://host/"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ImageOption):
        uri.parse(text)


GREETING = wire.MAGIC + wire.OPTION_MAGIC + b"\0\3"
GO_AHEAD = (
    wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 8, 1, 0)
    + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 10, 4, 4 + 15)
    + struct.pack(">I", 1)
    + b"base:allocation"
    + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 10, 1, 0)
    + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 7, 3, 12)
    + struct.pack(">HQH", 0, 1 << 20, 0x1ED)
    + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 7, 1, 0)
)


def structured(flags: int, kind: int, length: int, payload: bytes = b"") -> bytes:
    return wire.STRUCTURED_REPLY.pack(wire.STRUCTURED_REPLY_MAGIC, flags, kind, 1, length) + payload


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        wire.MAGIC + b"\0" * 8,
        GREETING,
        GREETING + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 8, 1, 0xFFFF_FFFF),
        GREETING + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 8, 3, 0) * 1000,
        GREETING + GO_AHEAD,
        GREETING + GO_AHEAD + b"\xff" * 64,
        GREETING + GO_AHEAD + wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, 77) + bytes(4096),
        GREETING + GO_AHEAD + structured(1, 1, 8 + 4096, struct.pack(">Q", 1 << 19) + bytes(4096)),
        GREETING + GO_AHEAD + structured(1, 1, 0xFFFF_FFFF, struct.pack(">Q", 0) + bytes(8192)),
        GREETING + GO_AHEAD + structured(1, 2, 12, struct.pack(">QI", 0, 0xFFFF_FFFF)),
        GREETING + GO_AHEAD + structured(1, 0, 0),
        GREETING + GO_AHEAD + structured(1, 5, 12, bytes(12)),
        GREETING + GO_AHEAD + structured(1, 0x8001, 0xFFFF_FFFF),
        GREETING + GO_AHEAD + structured(1, 0x8001, 6, struct.pack(">IH", 5, 0)),
    ],
)
def test_hostile_servers_get_nowhere(answer: bytes, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = listen_unix(path)

    def serve() -> None:
        stream, _ = listener.accept()
        with stream, contextlib.suppress(OSError):
            stream.sendall(answer)
            stream.shutdown(socket.SHUT_WR)
            while stream.recv(65536):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(ImageError):
        node = NbdNode(f"nbd+unix:///?socket={path}")
        try:
            node.pread(0, 4096)
        finally:
            node.close()
    thread.join(10)
    listener.close()
