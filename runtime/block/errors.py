"""What can go wrong with a disk image. Each class has a stable `code` for programs."""

from __future__ import annotations

from typing import ClassVar

from runtime.errors import IsagenError


class ImageError(IsagenError):
    """Root of the errors of disk images."""

    code: ClassVar[str] = "image.error"


class ImageIOError(ImageError):
    """The host refused to read or write. `errno` is its number (`errno.ENOSPC`, `errno.EIO`, ...)."""

    code = "image.io"

    def __init__(self, what: str, *, errno: int, where: str = "", remedy: str = "") -> None:
        self.errno = errno
        super().__init__(what, where=where, remedy=remedy)


class ImageCorrupt(ImageError):
    """An image contradicts its format: the value of `field` (at byte `offset` of `where`) can't be right."""

    code = "image.corrupt"

    def __init__(
        self,
        what: str,
        *,
        offset: int | None,
        field: str,
        value: object = None,
        where: str = "",
        remedy: str = "",
    ) -> None:
        self.offset = offset
        self.field = field
        self.value = value
        shown = f"{value:#x}" if isinstance(value, int) and not isinstance(value, bool) else repr(value)
        place = "" if offset is None else f" at offset {offset:#x}"
        super().__init__(
            f"{what} ({field}{place}{'' if value is None else f' = {shown}'})", where=where, remedy=remedy
        )


class ImageUnsupported(ImageError):
    """A valid image that uses what we don't know, or an operation that its format can't do."""

    code = "image.unsupported"


class ImageFormatUnknown(ImageError):
    """No driver has this name, or none recognises the file."""

    code = "image.format-unknown"


class ImageInUse(ImageError):
    """Another process (ours or QEMU) has the image open in a way that excludes ours."""

    code = "image.in-use"


class ImageReadOnly(ImageError):
    """A write to an image that is open for reading, or that may not be written."""

    code = "image.read-only"


class ImageRange(ImageError):
    """A request that lies outside of the disk."""

    code = "image.range"


class ImageOption(ImageError):
    """An option that the format doesn't have, or a value that it can't take."""

    code = "image.option"


class ImageNotFound(ImageError):
    """A file, snapshot or bitmap that doesn't exist."""

    code = "image.not-found"


class ImageExists(ImageError):
    """A file, snapshot or bitmap that exists already."""

    code = "image.exists"


class ImageKeyError(ImageError):
    """An encrypted image without its passphrase, or with a wrong one."""

    code = "image.key"


class ReferenceDenied(ImageError):
    """An image names another file that the policy doesn't let it open."""

    code = "image.reference-denied"


class ImageChainError(ImageError):
    """A backing chain that is too deep, or that contains itself."""

    code = "image.chain"
