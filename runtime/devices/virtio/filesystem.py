"""The 9P device (virtio 1.2 reserves its number; Linux's net/9p/trans_virtio.c uses it so): one queue of
messages, and the tag by which the guest mounts the share.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final

from runtime.devices.ninep.folder import Folder
from runtime.devices.ninep.server import Server
from runtime.devices.ninep.wire import HEADER, LARGEST_MESSAGE, BadMessage
from runtime.devices.virtio.device import VirtioDevice
from runtime.devices.virtio.queue import QueueError

F_MOUNT_TAG: Final = 1 << 0


class FileSystem(VirtioDevice):
    """A folder of the host under a tag."""

    device_id: ClassVar = 9
    queue_count = 1

    def __init__(self, folder: Folder, tag: str) -> None:
        super().__init__()
        self._server = Server(folder)
        self._tag = tag.encode()

    @property
    def offered(self) -> int:
        return F_MOUNT_TAG

    def config(self) -> bytes:
        return struct.pack("<H", len(self._tag)) + self._tag

    def notify(self, queue: int) -> None:
        for chain in self.queues[queue].requests():
            if chain.writable_size < HEADER.size:
                raise QueueError("no room for an answer")
            request = chain.read(LARGEST_MESSAGE + HEADER.size)
            try:
                chain.write(self._server.answer(request, min(chain.writable_size, LARGEST_MESSAGE)))
            except BadMessage:
                raise QueueError("bytes that are no 9P message") from None
            self.queues[queue].complete(chain)
        self.used(self.queues[queue])

    def reset(self) -> None:
        self._server.reset()

    def save(self) -> dict[str, Any]:
        return self._server.save()

    def restore(self, state: dict[str, Any]) -> None:
        self._server.restore(state)
