"""Reading XML from strangers: no entities, no document types, bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from machines.appliance.errors import ApplianceError

MAXIMUM_SIZE = 16 << 20


def parse(data: bytes, where: str) -> Element:
    """The root element. Raises `ApplianceError`."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if len(data) > MAXIMUM_SIZE:
        raise ApplianceError(f"{len(data)} bytes are too many for a description", where=where)
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ApplianceError(
            f"document types and entities aren't allowed in a description ({type(error).__name__})",
            where=where,
        ) from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise ApplianceError(f"this is no XML: {error}", where=where) from None
    return root


def local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2]


def children(element: Element | None, name: str) -> Iterator[Element]:
    """The child elements called `name`, in any namespace."""
    if element is not None:
        for child in element:
            if isinstance(child.tag, str) and local(child.tag) == name:
                yield child


def child(element: Element | None, name: str) -> Element | None:
    return next(children(element, name), None)


def descend(element: Element | None, *names: str) -> Element | None:
    """The first child called ``names[0]``, its child called ``names[1]``, and so on."""
    for name in names:
        element = child(element, name)
    return element


def attribute(element: Element | None, name: str, default: str = "") -> str:
    """The attribute called `name`, in any namespace."""
    if element is not None:
        for key, value in element.attrib.items():
            if local(key) == name:
                return value
    return default


def text(element: Element | None, name: str, default: str = "") -> str:
    """The text of the child called `name`."""
    found = child(element, name)
    return default if found is None else (found.text or "").strip()


def number(value: str, what: str, where: str, *, least: int = 0, most: int = 1 << 62) -> int:
    """A decimal number within bounds. Raises `ApplianceError`."""
    digits = value.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20 or not least <= int(digits) <= most:
        raise ApplianceError(f"{what} can't be {value[:40]!r}", where=where)
    return int(digits)


def mac_address(value: str, where: str) -> str | None:
    """A MAC address with colons, None for an empty one."""
    digits = value.replace(":", "").replace("-", "").strip().lower()
    if not digits:
        return None
    if len(digits) != 12 or any(digit not in "0123456789abcdef" for digit in digits):
        raise ApplianceError(f"{value[:40]!r} is no MAC address", where=where)
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
