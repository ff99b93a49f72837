"""NBD URIs: ``nbd://host[:port]/export`` and ``nbd+unix:///export?socket=path``; ``nbds`` means TLS.

Source: NetworkBlockDevice/nbd, doc/uri.md. QEMU's older ``nbd:host:port[:exportname=x]`` and
``nbd:unix:path[:exportname=x]`` are understood too.
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from runtime.block.errors import ImageOption
from runtime.block.protocol.nbd.wire import DEFAULT_PORT
from runtime.records import record

SCHEMES = ("nbd", "nbds", "nbd+unix", "nbds+unix")


@record(frozen=True)
class Address:
    """Where a server is: a Unix socket's path, or host and port."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    socket: str = ""
    export: str = ""
    tls: bool = False


def is_nbd(name: str) -> bool:
    """Whether `name` is an NBD URI, of either kind."""
    return name.partition(":")[0].lower() in SCHEMES


def parse(uri: str) -> Address:
    """The address that `uri` names. Raises `ImageOption`."""
    if uri.lower().startswith("nbd:") and not uri.lower().startswith("nbd://"):
        return _parse_old(uri)
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise ImageOption(f"this is no NBD URI: {error}", where=uri) from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise ImageOption("this is no NBD URI", where=uri, remedy="nbd://host:port/export")
    export = unquote(parts.path.removeprefix("/"))
    tls = scheme.startswith("nbds")
    if not scheme.endswith("+unix"):
        return Address(parts.hostname or "localhost", port or DEFAULT_PORT, "", export, tls)
    sockets = parse_qs(parts.query).get("socket", [])
    if len(sockets) != 1 or not sockets[0]:
        raise ImageOption("the URI names no socket", where=uri, remedy="nbd+unix:///export?socket=PATH")
    return Address("", 0, sockets[0], export, tls)


def _parse_old(uri: str) -> Address:
    rest, _, export = uri[4:].partition(":exportname=")
    if rest.startswith("unix:"):
        return Address("", 0, rest[5:], export)
    host, _, port = rest.rpartition(":")
    if not host or not port.isdigit():
        raise ImageOption(
            "this is no NBD address", where=uri, remedy="nbd:host:port, or nbd://host:port/export"
        )
    return Address(host.strip("[]"), int(port), "", export)
