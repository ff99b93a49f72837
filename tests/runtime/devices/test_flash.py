"""Flash memory by its command set, fw_cfg by its registers."""

from __future__ import annotations

import random
import struct

import pytest

from runtime.devices.flash import BLOCK, BUFFER_WORDS, Flash, FlashState
from runtime.devices.fw_cfg import DIRECTORY, FwCfg, FwCfgState, standard_items
from runtime.errors import IsagenError
from tests.runtime.devices.driver import RAM

SIZE = 1 << 20
DUAL = 0x00010001


class Bank:
    def __init__(self):
        self.data = bytearray(random.Random(1).randbytes(SIZE))
        self.visible = None
        self.broken = False

    def read(self, offset, size):
        return bytes(self.data[offset : offset + size])

    def write(self, offset, data):
        if self.broken:
            raise OSError("the disk is full")
        self.data[offset : offset + len(data)] = data

    def show(self, visible):
        self.visible = visible


@pytest.fixture
def bank():
    return Bank()


@pytest.fixture
def flash(bank):
    made = Flash(bank, SIZE)
    made.reset()
    return made


def test_it_reads_as_memory(flash, bank):
    assert bank.visible is True
    assert flash.read(100, 8) == int.from_bytes(bank.data[100:108], "little")
    assert flash.read(SIZE - 2, 4) == int.from_bytes(bank.data[-2:], "little")


def test_the_query(flash, bank):
    flash.write(0x55 * 4, 4, 0x98 * DUAL)
    assert bank.visible is False
    answers = [flash.read(4 * n, 4) for n in range(0x40)]
    assert all(value == (value & 0xFF) * DUAL for value in answers)
    table = bytes(value & 0xFF for value in answers)
    assert table[0x10:0x15] == b"QRY\1\0"
    assert 2 * (1 << table[0x27]) == SIZE and table[0x2C] == 1
    blocks, size = struct.unpack_from("<HH", table, 0x2D)
    assert (blocks + 1) * size * 256 * 2 == SIZE and size * 256 * 2 == BLOCK
    assert table[0x31:0x34] == b"PRI" and 2 << table[0x2A] == 4 * BUFFER_WORDS
    assert flash.read(0x41, 1) == 0 and flash.read(0x42, 2) == ord("Q")
    flash.write(0, 4, 0xFF * DUAL)
    assert bank.visible is True and flash.read(0, 1) == bank.data[0]


def test_the_identity(flash):
    flash.write(0, 4, 0x90 * DUAL)
    assert (flash.read(0, 4), flash.read(4, 4), flash.read(8, 4)) == (0x89 * DUAL, 0x18 * DUAL, 0)


def test_erasing_and_programming(flash, bank):
    before = bytes(bank.data)
    flash.write(BLOCK + 8, 4, 0x20 * DUAL)
    flash.write(BLOCK + 8, 4, 0xD0 * DUAL)
    assert flash.read(0, 4) == 0x80 * DUAL
    assert bank.data == before[:BLOCK] + b"\xff" * BLOCK + before[2 * BLOCK :]
    for value, result in ((0x12345678, 0x12345678), (0xFF00FF00, 0x12005600)):
        flash.write(BLOCK + 16, 4, 0x40 * DUAL)
        flash.write(BLOCK + 16, 4, value)
        assert bank.data[BLOCK + 16 : BLOCK + 20] == struct.pack("<I", result)
    flash.write(BLOCK + 32, 1, 0x10)
    flash.write(BLOCK + 32, 1, 0xA5)
    assert bank.data[BLOCK + 32 : BLOCK + 34] == b"\xa5\xff"
    assert flash.read(0, 1) == 0x80


def test_the_write_buffer(flash, bank):
    flash.write(0, 4, 0x20 * DUAL)
    flash.write(0, 4, 0xD0 * DUAL)
    flash.write(64, 4, 0xE8 * DUAL)
    assert flash.read(64, 4) == 0x80 * DUAL
    flash.write(64, 4, 3 * DUAL)
    for word in range(4):
        flash.write(64 + 4 * word, 4, 0x01010101 * (word + 1))
        assert bank.data[64:80] == b"\xff" * 16  # nothing before the confirmation
    flash.write(64, 4, 0xD0 * DUAL)
    assert bank.data[64:80] == b"\1\1\1\1\2\2\2\2\3\3\3\3\4\4\4\4"
    assert flash.read(0, 4) == 0x80 * DUAL


@pytest.mark.parametrize(
    "cycles",
    (
        ((0, 0x20), (0, 0x12)),
        ((0, 0x60), (0, 0x12)),
        ((0, 0xE8), (0, BUFFER_WORDS)),
        ((0, 0xE8), (0, 0), (0, 1), (0, 0x12)),
        ((0, 0xE8), (0, 0), (BLOCK, 1)),
    ),
)
def test_wrong_sequences(flash, bank, cycles):
    before = bytes(bank.data)
    for offset, value in cycles:
        flash.write(offset, 4, value * DUAL)
    assert flash.read(0, 4) == 0xB0 * DUAL and bank.data == before
    flash.write(0, 4, 0x50 * DUAL)
    flash.write(0, 4, 0x70 * DUAL)
    assert flash.read(0, 4) == 0x80 * DUAL


def test_read_only_and_broken_banks(bank):
    before = bytes(bank.data)
    flash = Flash(bank, SIZE, read_only=True)
    flash.write(0, 4, 0x40 * DUAL)
    flash.write(0, 4, 0)
    assert bank.data == before and flash.read(0, 1) == 0x92
    bank.broken = True
    flash = Flash(bank, SIZE)
    flash.write(0, 4, 0x20 * DUAL)
    flash.write(0, 4, 0xD0 * DUAL)
    assert bank.data == before and flash.read(0, 1) == 0xA0


def test_a_snapshot_in_the_middle_of_a_command(flash, bank):
    flash.write(0, 4, 0xE8 * DUAL)
    flash.write(0, 4, 1 * DUAL)
    flash.write(0, 4, 0)
    saved = flash.save().model_dump_json()
    flash.reset()
    flash.restore(FlashState.model_validate_json(saved))
    assert bank.visible is False
    flash.write(4, 4, 0)
    flash.write(0, 4, 0xD0 * DUAL)
    assert bank.data[:8] == bytes(8)


def test_random_accesses(flash):
    generator = random.Random(2)
    for _ in range(20000):
        offset = generator.choice((0, 4, 0x154, BLOCK, SIZE - 1, SIZE - 4, generator.randrange(SIZE)))
        command = generator.choice(
            (0xFF, 0x40, 0x20, 0xD0, 0xE8, 0x60, 0x70, 0x90, 0x98, 2, generator.getrandbits(64))
        )
        flash.write(offset, generator.choice((1, 2, 4, 8)), command)
        flash.read(offset, generator.choice((1, 2, 4, 8)))


# --- fw_cfg -------------------------------------------------------------------------------------------------


@pytest.fixture
def fw_cfg(memory):
    items = standard_items(4, 1 << 30, b"kernel", b"initrd", "console=ttyS0")
    return FwCfg(memory, items, {"opt/b": b"second", "opt/a": b"first"})


def select(device, key):
    device.write(8, 2, int.from_bytes(key.to_bytes(2, "big"), "little"))


def item(device, key, size):
    select(device, key)
    return b"".join(device.read(0, 1).to_bytes(1, "little") for _ in range(size))


def test_items(fw_cfg):
    assert item(fw_cfg, 0, 4) == b"QEMU" and item(fw_cfg, 1, 4) == b"\3\0\0\0"
    assert item(fw_cfg, 5, 2) == b"\4\0" and item(fw_cfg, 3, 8) == struct.pack("<Q", 1 << 30)
    assert item(fw_cfg, 8, 4) == b"\6\0\0\0" and item(fw_cfg, 0x11, 8) == b"kernel\0\0"
    assert item(fw_cfg, 0x14, 4) == b"\x0e\0\0\0" and item(fw_cfg, 0x15, 14) == b"console=ttyS0\0"
    assert item(fw_cfg, 0x7777, 4) == bytes(4)
    select(fw_cfg, 0x11)
    assert fw_cfg.read(0, 4).to_bytes(4, "little") == b"kern" and fw_cfg.read(0, 8).to_bytes(
        8, "little"
    ) == b"el" + bytes(6)


def test_files(fw_cfg):
    directory = item(fw_cfg, DIRECTORY, 4 + 2 * 64)
    assert directory[:4] == b"\0\0\0\2"
    found = {}
    for n in range(2):
        size, key, name = struct.unpack_from(">IH2x56s", directory, 4 + 64 * n)
        found[name.rstrip(b"\0")] = item(fw_cfg, key, size)
    assert found == {b"opt/a": b"first", b"opt/b": b"second"}


def dma(device, memory, control, length, address, split=False):
    memory.write(RAM, struct.pack(">IIQ", control, length, address))
    place = int.from_bytes(RAM.to_bytes(8, "big"), "little")
    if split:
        device.write(0x10, 4, place & 0xFFFFFFFF)
        device.write(0x14, 4, place >> 32)
    else:
        device.write(0x10, 8, place)
    return struct.unpack(">I", memory.read(RAM, 4))[0]


@pytest.mark.parametrize("split", (False, True))
def test_dma(fw_cfg, memory, split):
    assert fw_cfg.read(0x10, 8).to_bytes(8, "little") == b"QEMU CFG"
    assert dma(fw_cfg, memory, 0x11 << 16 | 8 | 2, 6, RAM + 0x100, split) == 0
    assert memory.read(RAM + 0x100, 6) == b"kernel"
    assert dma(fw_cfg, memory, 0x11 << 16 | 8 | 4, 3, 0) == 0
    assert dma(fw_cfg, memory, 2, 5, RAM + 0x200) == 0
    assert memory.read(RAM + 0x200, 5) == b"nel\0\0"
    assert dma(fw_cfg, memory, 0x11 << 16 | 8 | 16, 6, RAM + 0x100) == 1  # nothing is writable
    assert dma(fw_cfg, memory, 0x11 << 16 | 8 | 2, 6, 0) == 1
    assert dma(fw_cfg, memory, 0x11 << 16 | 8 | 2, 0xFFFFFFFF, RAM + 0x1000) == 1
    fw_cfg.write(0x10, 8, 0)  # no request there


def test_names_and_state(memory, fw_cfg):
    with pytest.raises(IsagenError, match="name of 56 bytes"):
        FwCfg(memory, {}, {"x" * 56: b""})
    select(fw_cfg, 0x11)
    fw_cfg.read(0, 2)
    saved = fw_cfg.save().model_dump_json()
    fw_cfg.reset()
    fw_cfg.restore(FwCfgState.model_validate_json(saved))
    assert fw_cfg.read(0, 4).to_bytes(4, "little") == b"rnel"


def test_random_fw_cfg(memory, fw_cfg):
    generator = random.Random(4)
    for _ in range(5000):
        offset, size = generator.randrange(0x18), generator.choice((1, 2, 4, 8))
        memory.write(RAM, generator.randbytes(4) + struct.pack(">IQ", generator.choice((0, 9, 1 << 16)), RAM))
        place = int.from_bytes(generator.choice((RAM, 0, 1 << 63)).to_bytes(8, "big"), "little")
        fw_cfg.write(offset, size, generator.choice((place, generator.getrandbits(64))))
        fw_cfg.read(offset, size)
