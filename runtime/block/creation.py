"""Creating images: options checked, sizes settled, then the driver's turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_SIZE = (1 << 63) - 512  # bytes: offsets are signed 64-bit numbers


def checked_options(driver: Driver, options: dict[str, Any]) -> BaseModel:
    """The driver's options model, filled in. Raises ImageOption that names the option."""
    from pydantic import ValidationError

    try:
        return driver.options().model_validate(
            {name.replace("_", "-").replace(".", "-"): value for name, value in options.items()}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        known = ", ".join(field.alias or key for key, field in driver.options().model_fields.items())
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such option"
        raise ImageOption(
            f"option {name!r}: {message}" if name else message,
            where=f"{driver.name} image",
            remedy=f"its options are {known}" if known else "it has no options",
        ) from error


def create_image(
    driver: Driver, file: ProtocolNode, size: int | str | None, options: dict[str, Any], context: OpenContext
) -> None:
    """Check options and size, open the backing image once to know that it is there, and create the image in
    `file`.
    """
    from runtime.block.options import parse_size

    model = checked_options(driver, options)
    try:
        wanted = parse_size(size)
    except ValueError as error:
        raise ImageOption(str(error), where=file.name) from error
    backing = getattr(model, "backing_file", None)
    if backing and context.path is not None:
        below = _size_of(str(backing), getattr(model, "backing_fmt", None), context)
        if wanted is None:
            wanted = below
    if wanted is None:
        raise ImageOption("the disk's size isn't given", where=file.name)
    if not 0 <= wanted <= MAX_SIZE:
        raise ImageOption(f"a disk can't have {wanted} bytes", where=file.name)
    driver.create(file, wanted, model, context)


def _size_of(reference: str, format: str | None, context: OpenContext) -> int:
    """The backing image's size. Whoever creates an overlay names the file himself: the policy isn't asked."""
    from runtime.block.chain import Chain
    from runtime.block.policy import ReferencePolicy

    assert context.path is not None
    chain = Chain(Path(context.path), ReferencePolicy(anything=True), context.passphrase)
    with chain.open_image(reference, "backing file", format=format) as node:
        return node.length()
