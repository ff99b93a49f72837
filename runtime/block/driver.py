"""What a format driver is: probing aside, how its images are opened and created."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from runtime.block.node import FormatNode, Node, ProtocolNode
from runtime.records import field, record

if TYPE_CHECKING:
    from runtime.block.options import CreateOptions


class References(Protocol):
    """Opens the files that an image names, following the policy, the chain's limits and locks."""

    def open_file(self, reference: str, kind: str, *, writable: bool) -> ProtocolNode:
        """The file as a protocol node. Raises ReferenceDenied, ImageNotFound, ImageInUse."""

    def open_image(self, reference: str, kind: str, *, format: str | None) -> Node:
        """The image as a read-only format node (a backing file, a parent). Also raises ImageChainError."""

    def create_file(self, reference: str, *, writable: bool = True) -> ProtocolNode:
        """A new file that an image being created names (extents, data files). Raises ImageExists."""


@record
class OpenContext:
    """How an image is opened."""

    references: References
    path: Path | None = None  # None for images that aren't in a host file
    writable: bool = False
    backing: bool = True  # False: leave the backing file alone; unallocated parts read as zeroes
    passphrase: Callable[[], bytes] | None = None  # of an encrypted image
    check: bool = False  # opened for checking: tolerate what the driver's `check` reports
    probed: bool = False  # the format is a guess
    options: dict[str, object] = field(default_factory=dict)  # of the driver


class Driver(ABC):
    """One image format. Instances have no state; each driver module has one as `DRIVER`."""

    name: ClassVar[str]
    writable: ClassVar[bool] = True
    creatable: ClassVar[bool] = True

    @abstractmethod
    def open(self, file: ProtocolNode, context: OpenContext) -> FormatNode:
        """The disk in `file`, which the node owns (and closes) from then on, unless this raises.

        Raises ImageCorrupt (with offset and field) or ImageUnsupported, at most 64 MiB and a second after the
        call, whatever the file holds.
        """

    def options(self) -> type[CreateOptions]:
        """The create options: names as qemu-img's `-o`, with `_` or `-`; others are errors."""
        from runtime.block.options import CreateOptions

        return CreateOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        """Write an empty image of `size` bytes into the empty `file`, and flush it."""
        from runtime.block.errors import ImageUnsupported

        raise ImageUnsupported(f"{self.name} images can't be created")
