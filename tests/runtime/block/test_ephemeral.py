"""Disks that forget what is written."""

import random

import pytest

from runtime.block.errors import ImageRange
from runtime.block.filter.ephemeral import CLUSTER, EphemeralNode
from runtime.block.format.raw import RawNode
from runtime.block.protocol.memory import MemoryNode


def test_writes_are_seen_here_and_not_below():
    generator = random.Random(11)
    size = 5 * CLUSTER + 512
    data = bytearray(generator.randbytes(size))
    base = MemoryNode(bytearray(data))
    node = EphemeralNode(RawNode(base, writable=False))
    model = bytearray(data)
    for _ in range(300):
        offset = generator.randrange(size)
        length = min(size - offset, generator.choice((0, 1, 511, 512, CLUSTER, CLUSTER + 1, 3 * CLUSTER)))
        if generator.random() < 0.4:
            written = generator.randbytes(length)
            node.pwrite(offset, written)
            model[offset : offset + length] = written
        elif generator.random() < 0.2:
            node.write_zeroes(offset, length)
            model[offset : offset + length] = bytes(length)
        else:
            assert node.pread(offset, length) == model[offset : offset + length]
    assert node.pread(0, size) == model
    assert base.pread(0, size) == data
    with pytest.raises(ImageRange):
        node.pwrite(size - 1, b"xx")
    node.close()
