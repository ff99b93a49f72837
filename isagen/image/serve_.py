"""Serve images over NBD, until interrupted.

Without --socket or --port a Unix socket beside the first image is used. The addresses of the exports are
printed.
"""

from __future__ import annotations

import argparse
import signal
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

from isagen.image import options
from runtime.block.errors import ImageOption

if TYPE_CHECKING:
    import socket


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    parser.add_argument("-k", "--socket", metavar="PATH", help="a Unix socket to listen on")
    parser.add_argument(
        "-p", "--port", type=int, metavar="PORT", help="a TCP port; 0: a free one (default: 10809)"
    )
    parser.add_argument("-b", "--bind", metavar="ADDRESS", help="the TCP address (default: 127.0.0.1)")
    parser.add_argument("-r", "--read-only", action="store_true", help="clients can't write")
    parser.add_argument("-w", "--writable", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "-x", "--export-name", action="append", default=[], metavar="NAME", help="one for each image"
    )
    parser.add_argument("-D", "--description", default="", metavar="TEXT")
    parser.add_argument(
        "-e", "--shared", type=int, default=64, metavar="N", help="connections at once (default: 64)"
    )
    parser.add_argument("-t", "--persistent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help="end when the last client leaves")
    parser.add_argument("--snapshot", metavar="NAME", help="serve this snapshot, for reading")
    parser.add_argument(
        "--tls-cert", metavar="FILE", help="the server's certificate (PEM): TLS becomes compulsory"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="its key, if it isn't in the same file")
    parser.add_argument(
        "--tls-ca", metavar="FILE", help="clients must show a certificate that this authority signed"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tell of clients that are refused")
    parser.add_argument("files", nargs="+", metavar="file")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    import logging

    from runtime.block.protocol.nbd.server import Export, Server

    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING, format="isagen: %(message)s"
    )
    names = arguments.export_name or (
        [""] if len(arguments.files) == 1 else [Path(f).name for f in arguments.files]
    )
    if len(names) != len(arguments.files) or len(set(names)) != len(names):
        raise ImageOption("each image needs an export name of its own", remedy="-x NAME for each")
    read_only = arguments.read_only or arguments.snapshot is not None
    with ExitStack() as stack:
        exports = []
        for name, file in zip(names, arguments.files, strict=True):
            image = stack.enter_context(
                options.open_image(arguments, file, arguments.format, writable=not read_only)
            )
            node = image.snapshots.open(arguments.snapshot) if arguments.snapshot else image.node
            exports.append(Export(name, node, arguments.description, read_only))
        listener, address = _listen(arguments)
        server = Server(
            exports,
            listener,
            tls=_tls(arguments),
            maximum_connections=max(1, arguments.shared),
            until_idle=arguments.once,
        )
        stack.enter_context(server)
        for name in names:
            print(address.format(export=quote(name)), flush=True)
        signal.signal(signal.SIGTERM, _stop)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.close()
            if arguments.socket:
                Path(arguments.socket).unlink(missing_ok=True)
    return 0


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _listen(arguments: argparse.Namespace) -> tuple[socket.socket, str]:
    """The listening socket, and the address that clients use, with a place for the export."""
    from runtime.block.protocol.nbd.server import listen_tcp, listen_unix
    from runtime.block.protocol.nbd.wire import DEFAULT_PORT

    secure = "s" if arguments.tls_cert else ""
    if arguments.socket is not None and arguments.port is not None:
        raise ImageOption("a Unix socket and a TCP port are given", remedy="give one of them")
    if arguments.port is None and arguments.bind is None:
        path = arguments.socket or f"{arguments.files[0]}.nbd"
        arguments.socket = path
        return listen_unix(path), f"nbd{secure}+unix:///{{export}}?socket={quote(str(Path(path).absolute()))}"
    host = arguments.bind or "127.0.0.1"
    listener = listen_tcp(host, DEFAULT_PORT if arguments.port is None else arguments.port)
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    return listener, f"nbd{secure}://{shown}:{port}/{{export}}"


def _tls(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    if not arguments.tls_cert:
        if arguments.tls_key or arguments.tls_ca:
            raise ImageOption("TLS needs a certificate", remedy="--tls-cert FILE")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
        if arguments.tls_ca:
            context.load_verify_locations(arguments.tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ImageOption(f"the certificate can't be used: {error}", where=arguments.tls_cert) from None
    return context
