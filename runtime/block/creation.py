"""Creating images: options checked, sizes settled, then the driver's turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.options import CreateOptions

MAX_SIZE = (1 << 63) - 512  # bytes: offsets are signed 64-bit numbers


def checked_options(driver: Driver, options: dict[str, Any]) -> CreateOptions:
    """The driver's options, filled in. Raises ImageOption that names the option."""
    return filled_in(driver.options(), options, driver.name)


def filled_in(kind: type[CreateOptions], options: dict[str, Any], format: str) -> CreateOptions:
    """The options of `kind`, those of images of the format called `format`. Raises ImageOption that names
    the option.
    """
    from runtime.block.options import OptionError

    try:
        return kind(options)
    except OptionError as error:
        known = ", ".join(kind.declared())
        raise ImageOption(
            f"option {error.option!r}: {error}" if error.option else str(error),
            where=f"{format} image",
            remedy=f"its options are {known}" if known else "it has no options",
        ) from error


def create_image(
    driver: Driver, file: ProtocolNode, size: int | str | None, options: dict[str, Any], context: OpenContext
) -> None:
    """Check options and size, open the backing image once to know that it is there, and create the image in
    `file`.
    """
    from runtime.block.options import parse_size

    chosen = checked_options(driver, options)
    try:
        wanted = parse_size(size)
    except ValueError as error:
        raise ImageOption(str(error), where=file.name) from error
    backing = getattr(chosen, "backing_file", None)
    if backing and context.path is not None:
        below = _size_of(str(backing), getattr(chosen, "backing_fmt", None), context)
        if wanted is None:
            wanted = below
    if wanted is None:
        raise ImageOption("the disk's size isn't given", where=file.name)
    if not 0 <= wanted <= MAX_SIZE:
        raise ImageOption(f"a disk can't have {wanted} bytes", where=file.name)
    driver.create(file, wanted, chosen, context)


def _size_of(reference: str, format: str | None, context: OpenContext) -> int:
    """The backing image's size. Whoever creates an overlay names the file himself: the policy isn't asked."""
    from runtime.block.chain import Chain
    from runtime.block.policy import ReferencePolicy

    assert context.path is not None
    chain = Chain(Path(context.path), ReferencePolicy(anything=True), context.passphrase)
    with chain.open_image(reference, "backing file", format=format) as node:
        return node.length()
