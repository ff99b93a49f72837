"""Parents of differencing images: of the child's own format, as VirtualBox, Hyper-V and VMware want it."""

from __future__ import annotations

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import FormatNode
from runtime.block.registry import find_format


def open_parent(
    child: str, reference: str, format: str | None, context: OpenContext, where: str
) -> FormatNode:
    """The image that `reference` names, open for reading. Raises ImageOption if `format`, or what is there,
    isn't the format `child`; and what `References.open_image` raises.
    """
    title = child.upper()
    if format is not None and find_format(format).name != child:
        raise ImageOption(f"the parent of a {title} image is a {title} image, not {format}", where=where)
    node = context.references.open_image(reference, "parent image", format=child)
    if not isinstance(node, FormatNode) or node.format != child:
        node.close()
        raise ImageOption(f"the parent of a {title} image is a {title} image", where=where)
    return node
