"""Images that a command names by options instead of a path: ``--image-opts`` as qemu-img takes it.

``driver=qcow2,file.driver=file,file.filename=disk,key-secret=s``: the options of a block device, those of a
nested one under its parent's name and a dot (QEMU, QAPI reference, BlockdevOptions).
What decides which image is opened is understood; what tunes QEMU (caches, threads) has no effect; anything
else is an error, so that no option is passed over that somebody relies on.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple
from urllib.parse import quote

from isagen.image.options import key_values
from runtime.block.errors import ImageOption
from runtime.errors import NotYetError

_PROTOCOLS = ("file", "host_device", "nbd", "http", "https")
_NO_EFFECT = {
    *("aio", "locking", "discard", "detect-zeroes", "cache.direct", "cache.no-flush", "cache.writeback"),
    *("cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval"),
    *("pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "lazy-refcounts", "node-name"),
    *(
        "overlap-check",
        "readahead",
        "timeout",
        "reconnect-delay",
        "open-timeout",
        "sslverify",
        "x-check-cache-dropped",
    ),
    *("pr-manager", "drop-cache", "auto-read-only", "aio-max-batch"),
}
_SECRETS = ("key-secret", "encrypt.key-secret")


class Described(NamedTuple):
    """What the options name: a path or an address, the image's format, a secret's id, how it's opened."""

    name: str
    format: str | None
    secret: str | None
    read_only: bool
    share: bool


def described(text: str) -> Described:
    """The image that ``driver=...,...`` names. Raises ImageOption, NotYetError."""
    values = {name: value for name, value in key_values([text]).items() if name not in _NO_EFFECT}
    driver = values.pop("driver", None)
    read_only = _switch(values, "read-only")
    share = _switch(values, "force-share")
    named = [values.pop(name) for name in _SECRETS if name in values]
    values.pop("encrypt.format", None)
    if driver in _PROTOCOLS:
        format: str | None = "raw"
    else:
        # QEMU's short form names the file without the layer between.
        format, driver = driver, None
        if "filename" in values and not any(name.startswith("file.") for name in values):
            values["file.filename"] = values.pop("filename")
        inner = {name[5:]: values.pop(name) for name in list(values) if name.startswith("file.")}
        if values:
            raise _strange(next(iter(values)), text)
        values = {name: value for name, value in inner.items() if name not in _NO_EFFECT}
        read_only |= _switch(values, "read-only")
        share |= _switch(values, "force-share")
        driver = values.pop("driver", None)
    name = _address(driver, values, text)
    if values:
        raise _strange(next(iter(values)), text)
    return Described(name, format, named[0] if named else None, read_only, share)


def _switch(values: dict[str, str], name: str) -> bool:
    value = values.pop(name, "off")
    if value not in ("on", "off", "yes", "no", "true", "false"):
        raise ImageOption(f"{name} is on or off, not {value!r}")
    return value in ("on", "yes", "true")


def _strange(name: str, text: str) -> ImageOption | NotYetError:
    if name.split(".")[0] in ("backing", "data-file", "offset", "size", "file"):
        return NotYetError(f"the option {name!r} of an image isn't supported", remedy="name the image itself")
    return ImageOption(f"the option {name!r} isn't understood", where=text)


def _address(driver: str | None, values: dict[str, str], text: str) -> str:
    """The path or URI of a protocol's options, which are taken from `values`."""
    if driver in (None, "file", "host_device"):
        if "filename" in values:
            return values.pop("filename")
        raise ImageOption("the options name no file", where=text, remedy="file.filename=PATH")
    if driver in ("http", "https"):
        if "url" in values:
            return values.pop("url")
        raise ImageOption("the options name no address", where=text, remedy="file.url=URL")
    if driver != "nbd":
        raise ImageOption(f"there is no protocol {driver!r}", where=text, remedy=", ".join(_PROTOCOLS))
    values.pop("server.type", None)
    parts = {
        part: next((values.pop(name) for name in (part, f"server.{part}") if name in values), None)
        for part in ("host", "port", "path")
    }
    export = quote(values.pop("export", ""))
    if parts["path"] is not None:
        return f"nbd+unix:///{export}?socket={quote(parts['path'])}"
    if parts["host"] is None:
        raise ImageOption(
            "the options name no server", where=text, remedy="file.host=HOST, or file.path=SOCKET"
        )
    host = f"[{parts['host']}]" if ":" in parts["host"] else parts["host"]
    return f"nbd://{host}:{parts['port'] or 10809}/{export}"


def resolve(arguments: argparse.Namespace) -> None:
    """Put names and formats in the place of the options that a command's words are."""
    if getattr(arguments, "image_opts", False):
        _resolve_images(arguments)
    if getattr(arguments, "target_image_opts", False):
        _resolve_target(arguments)


def _resolve_images(arguments: argparse.Namespace) -> None:
    if arguments.format is not None:
        raise ImageOption("--image-opts names the format, and -f does too", remedy="leave one of them out")
    found: list[Described] = []
    if hasattr(arguments, "second"):
        found = [described(arguments.first), described(arguments.second)]
        arguments.first, arguments.second = found[0].name, found[1].name
        arguments.format, arguments.second_format = found[0].format, found[1].format
    else:
        several = hasattr(arguments, "files")
        # The last file of a conversion is the target.
        stop = len(arguments.files) - hasattr(arguments, "target_image_opts") if several else 1
        words = arguments.files if several else [arguments.file]
        found = [described(word) for word in words[:stop]]
        if len({one.format for one in found}) > 1:
            raise NotYetError("images of different formats together by --image-opts")
        names = [one.name for one in found]
        if several:
            arguments.files = names + words[stop:]
        else:
            arguments.file = names[0]
        arguments.format = found[0].format if found else None
    secrets = {one.secret for one in found if one.secret is not None}
    if len(secrets) > 1:
        raise NotYetError("several secrets for one command", remedy="use one secret for both")
    arguments.secret = next(iter(secrets), None)
    arguments.only_read = any(one.read_only for one in found)
    if any(one.share for one in found) and hasattr(arguments, "force_share"):
        arguments.force_share = True


def _resolve_target(arguments: argparse.Namespace) -> None:
    if not arguments.no_create:
        raise ImageOption("--target-image-opts goes with -n: the target has to exist")
    if arguments.output_format is not None:
        raise ImageOption("--target-image-opts names the format, and -O does too")
    if arguments.files:
        target = described(arguments.files[-1])
        if target.read_only:
            raise ImageOption("the target can't be read-only", where=arguments.files[-1])
        arguments.files[-1], arguments.output_format = target.name, target.format
        arguments.target_secret = target.secret
