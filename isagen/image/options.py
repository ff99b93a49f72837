"""Options that several image commands share, and what they mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.block.errors import ImageOption
from runtime.errors import NotYetError

if TYPE_CHECKING:
    from runtime.block.image import Image

# What `Image.create` takes besides the format's options.
_NOT_OF_FORMATS = {"target", "format", "overwrite", "durable", "passphrase"}
_SIZES = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


def add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--format", metavar="FORMAT", help="the image's format (default: probed)")


def add_access(parser: argparse.ArgumentParser, *, share: bool = True) -> None:
    """How images are opened: secrets, what they may refer to, locks."""
    group = parser.add_argument_group("access")
    group.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder that images may refer to besides their neighbours",
    )
    group.add_argument("--passphrase-file", metavar="FILE", help="holds the passphrase of encrypted images")
    group.add_argument(
        "--object",
        action="append",
        default=[],
        metavar="secret,id=ID,...",
        help="a passphrase as qemu-img takes it: file=FILE or data=TEXT",
    )
    if share:
        group.add_argument(
            "-U", "--force-share", action="store_true", help="open even if another program has the image open"
        )
    group.add_argument(
        "--image-opts",
        action="store_true",
        help="images are named as driver=FORMAT,file.filename=PATH,...",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def add_progress(parser: argparse.ArgumentParser, *names: str) -> None:
    parser.add_argument(
        *(names or ("-p", "--progress")),
        action="store_true",
        help="show progress even if this is no terminal",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--output", choices=("human", "json"), default="human", help="json: the same as --json"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--options",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="options of the format; 'help' lists them",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--cache",
        choices=("none", "writeback", "writethrough", "directsync", "unsafe"),
        metavar="MODE",
        help="unsafe: don't wait for the disk; any other: what was written is on the disk at the end",
    )
    parser.add_argument("-T", "--source-cache", metavar="MODE", help="accepted as qemu-img's, without effect")


def wants_json(arguments: argparse.Namespace) -> bool:
    return bool(arguments.json or arguments.output == "json")


def size(text: str) -> int:
    """Bytes from "10G", "1.5M", "512". For argparse."""
    digits = text.strip().lower().removesuffix("ib").removesuffix("b")
    shift = _SIZES.get(digits[-1:], 0)
    if shift:
        digits = digits[:-1]
    whole, point, fraction = digits.partition(".")
    if not (whole.isascii() and whole.isdigit()) or (
        point and not (fraction.isascii() and fraction.isdigit())
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size (a number with an optional suffix K, M, G, T, P, E)"
        )
    result = (int(whole) << shift) + ((int(fraction) << shift) // 10 ** len(fraction) if fraction else 0)
    if result >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return result


def key_values(texts: list[str]) -> dict[str, str]:
    """What ``-o a=1,b=2 -o c=3`` says; a comma in a value is written twice, and a name alone means "on"."""
    result: dict[str, str] = {}
    for text in texts:
        for part in text.replace(",,", "\0").split(","):
            if part:
                name, given, value = part.replace("\0", ",").partition("=")
                result[name.strip()] = value if given else "on"
    return result


def asks_for_help(texts: list[str]) -> bool:
    return any(name in ("help", "?") for text in texts for name in text.split(","))


def passphrase(
    arguments: argparse.Namespace, file: str | None = None, *, secret: str | None = None
) -> Callable[[], bytes] | None:
    """The passphrase that the options name (in `file`; the `secret` of this id, or else the only one), read
    when it's needed; None if they name none.
    """
    path = file or arguments.passphrase_file
    secrets = secrets_of(arguments)
    if secret is not None:
        if secret not in secrets:
            raise ImageOption(
                f"there is no secret {secret!r}", remedy=f"--object secret,id={secret},file=FILE"
            )
        return secrets[secret]
    if path is not None:
        return lambda: _read_passphrase(path)
    if not secrets:
        return None
    return next(iter(secrets.values())) if len(secrets) == 1 else _one_of_several


def _one_of_several() -> bytes:
    raise NotYetError(
        "several secrets for one command",
        remedy="give one --object, name it by --image-opts, or use --passphrase-file",
    )


def secrets_of(arguments: argparse.Namespace) -> dict[str, Callable[[], bytes]]:
    """The secrets that ``--object secret,...`` defines, by their ids."""
    result: dict[str, Callable[[], bytes]] = {}
    for text in arguments.object:
        kind, _, rest = text.partition(",")
        values = key_values([rest])
        if kind != "secret" or "id" not in values or ("file" in values) == ("data" in values):
            raise ImageOption(
                f"this object isn't understood: {text.partition(',')[0]}", remedy="secret,id=ID,file=FILE"
            )
        if values.keys() - {"id", "file", "data", "format"} or values.get("format", "raw") != "raw":
            raise NotYetError("only secrets as they are (format=raw) can be given")
        if "file" in values:
            result[values["id"]] = lambda path=values["file"]: _read_passphrase(path)  # type: ignore[misc]
        else:
            result[values["id"]] = lambda data=values["data"]: data.encode()  # type: ignore[misc]
    return result


def _read_passphrase(path: str) -> bytes:
    """The file's content without a final newline."""
    data = sys.stdin.buffer.readline() if path == "-" else Path(path).read_bytes()
    if len(data) > 1 << 16:
        raise ImageOption("the passphrase is longer than 64 KiB", where=path)
    return data.removesuffix(b"\n").removesuffix(b"\r")


def open_image(
    arguments: argparse.Namespace,
    name: str,
    format: str | None = None,
    *,
    writable: bool = False,
    **more: Any,
) -> Image:
    """Open the image `name` as the access options say."""
    from runtime.block.image import Image

    if writable and getattr(arguments, "only_read", False):
        raise ImageOption("the options say read-only=on", where=name)
    return Image.open(
        name,
        format,
        writable=writable,
        allow=arguments.allow or None,
        passphrase=passphrase(arguments, secret=getattr(arguments, "secret", None)),
        lock=not getattr(arguments, "force_share", False),
        **more,
    )


def format_options(texts: list[str]) -> dict[str, Any]:
    """The create options that ``-o`` names, without those that name secrets: the one secret of the command is
    meant anyway. qemu-img's ``encrypt.format`` is our ``encrypt-format``, and so on. Raises ImageOption.
    """
    chosen = {name.replace("encrypt.", "encrypt-"): value for name, value in key_values(texts).items()}
    for name in chosen:
        if name in _NOT_OF_FORMATS:
            raise ImageOption(f"option {name!r}: there is no such option", remedy="-o help lists them")
    return {name: value for name, value in chosen.items() if not name.endswith("key-secret")}
