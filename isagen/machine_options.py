"""What options of `isagen boot` say about parts of a machine, as values of `machines.settings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runtime.errors import IsagenError

if TYPE_CHECKING:
    import argparse

RENAMED: Final = {"ro": "read_only", "readonly": "read_only", "file": "path", "num-queues": "queues"}
"""Options by other names: shorter ones, and QEMU's."""
SOCKETS: Final = ("socket", "stream")
"""What QEMU calls networks on a stream socket."""


def parts_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of all parts that are named. Raises IsagenError for what isn't understood."""
    drives = [drive_of(text) for text in arguments.drive]
    flash = [image for kind, image in drives if kind == "pflash"]
    parts: dict[str, list[dict[str, Any]]] = {
        "drive": [drive for kind, drive in drives if kind != "pflash"],
        "share": [share_of(text, number) for number, text in enumerate(arguments.share)],
        "net": [net_of(text) for text in arguments.net],
        "console": [console_of(text) for text in arguments.console],
        "flash": flash + [flash_of(text) for text in arguments.flash],
        "fw_cfg": [fw_cfg_of(text) for text in arguments.fw_cfg],
    }
    return {name: rows for name, rows in parts.items() if rows}


def options_of(text: str, first: str) -> dict[str, Any]:
    """``disk.raw,ro,serial=A1`` as values by name; the one without a name in front is `first`."""
    values: dict[str, Any] = {}
    for place, option in enumerate(text.split(",")):
        name, equals, value = option.partition("=")
        if equals and (place or name.isidentifier()):
            values[name] = value
        else:
            values |= {option: True} if place else {first: option}
    return values


def drive_of(text: str) -> tuple[str, dict[str, Any]]:
    """``disk.qcow2,ro,serial=A1``, or as QEMU writes it, as its kind (QEMU's ``if``) and the settings of a
    drive, or of a flash image.
    """
    values = options_of(text, "path")
    drive = {RENAMED.get(name, name): value for name, value in values.items()}
    kind = drive.pop("if", "virtio")
    if kind not in ("virtio", "none", "pflash"):
        raise IsagenError(
            f"the board has no drives of the kind {kind!r}", where=text, remedy="take if=virtio or if=pflash"
        )
    for name in ("id", "index", "unit", "media"):
        drive.pop(name, None)  # they say nothing that matters here
    if kind == "pflash" and drive.pop("format", "raw") != "raw":
        raise IsagenError("images of flash memories are raw", where=text)
    return kind, drive


def share_of(text: str, number: int) -> dict[str, Any]:
    """``folder:tag:ro`` as the settings of a share. A folder with a colon in its name needs a tag, too."""
    read_only = text.endswith(":ro")
    path, colon, tag = text.removesuffix(":ro").rpartition(":")
    if not colon:
        path, tag = tag, "share" if number == 0 else f"share{number}"
    return {"path": path, "tag": tag, "read_only": read_only}


def net_of(text: str) -> dict[str, Any]:
    """``listen=unix:/tmp/s,mac=52:54:00:00:00:01`` as the settings of a network card."""
    values = options_of(text, "kind")
    kind = values.pop("kind", "")
    if kind not in ("", "loopback", "socket", "stream") or (
        kind in ("socket", "stream") and len(values) == 0
    ):
        raise IsagenError(
            f"{kind!r} is no network", where=text, remedy="take listen=ADDRESS, connect=ADDRESS or loopback"
        )
    if not kind and not values.keys() & {"listen", "connect"}:
        raise IsagenError(
            "where does the card lead?", where=text, remedy="take listen=, connect= or loopback"
        )
    return values


def console_of(text: str) -> dict[str, Any]:
    """``unix:/tmp/s,server,name=org.test`` as the settings of a port."""
    options = text.split(",")
    names = [option.removeprefix("name=") for option in options if option.startswith("name=")]
    place = ",".join(option for option in options if not option.startswith("name="))
    return {"to": place or "none"} | ({"name": names[-1]} if names else {})


def flash_of(text: str) -> dict[str, Any]:
    """``code.fd,ro`` as the settings of a flash image."""
    values = options_of(text, "path")
    return {RENAMED.get(name, name): value for name, value in values.items()}


def fw_cfg_of(text: str) -> dict[str, Any]:
    """``opt/name,string=text``, also with ``name=``, as the settings of a file. All behind ``string=`` is the
    text.
    """
    head, marker, string = text.partition(",string=")
    return options_of(head, "name") | ({"string": string} if marker else {})
