"""Adding and removing passphrases of LUKS headers, as `amend` asks for it."""

from __future__ import annotations

from collections.abc import Callable

from runtime.block.crypto import luks
from runtime.block.errors import ImageKeyError, ImageOption


def amend_slots(
    header: luks.Header,
    read: luks.Read,
    write: luks.Write,
    key: Callable[[], bytes],
    options: dict[str, object],
    *,
    name: str,
) -> luks.Header:
    """Add a passphrase (``state`` "active", ``new-secret``) or remove one ("inactive", ``old-secret`` or
    ``keyslot``). Secrets are the passphrases themselves; ``iter-time`` is in milliseconds. `key` gives the
    master key. Gives the new header. Raises ImageOption, ImageKeyError.
    """
    given = {option.replace("_", "-"): value for option, value in options.items()}
    state = str(given.pop("state", "active"))
    slot = given.pop("keyslot", None)
    new, old = given.pop("new-secret", None), given.pop("old-secret", None)
    seconds = _number(given.pop("iter-time", 2000), "iter-time") / 1000
    if given or state not in ("active", "inactive"):
        raise ImageOption(
            f"options of the encryption that can't be changed: {', '.join(given) or state}",
            where=name,
            remedy="state, new-secret, old-secret, keyslot and iter-time can be given",
        )
    number = None if slot is None else _number(slot, "keyslot")
    if state == "active":
        return luks.add_key(header, write, key(), _secret(new), slot=number, iteration_time=seconds)
    if old is not None:
        slots = luks.slots_of(header, read, _secret(old))
    else:
        slots = [] if number is None else [number]
    if not slots:
        raise ImageKeyError("no key slot fits", where=name, remedy="name a keyslot or its old-secret")
    for found in slots:
        header = luks.remove_key(header, write, found)
    return header


def _number(value: object, name: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ImageOption(f"{name} is a number, not {value!r}") from None


def _secret(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise ImageOption("the passphrase is missing", remedy="give new-secret")
