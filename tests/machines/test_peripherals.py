"""What a board is connected to: options, settings, device trees of users; flash as firmware sees it."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from pathlib import Path

import pytest

from isagen import Machine
from isagen.commands.boot import add_arguments, settings_of
from isagen.machine import build
from machines.fdt import Node, TreeError, flatten, parse
from machines.settings import Settings, load_settings, settings_from
from runtime.errors import IsagenError
from runtime.memory.space import AddressError
from tests.conftest import absent

UBOOT = Path("/usr/lib/u-boot/qemu-riscv64/u-boot.bin")
FLASH, FLASH_SIZE = 0x20000000, 32 << 20


def options(*words: str) -> Settings:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_of(parser.parse_args(["virt", *words]))


def test_drives_in_our_words_and_in_qemus():
    ours = options("--drive", "a.qcow2,ro,serial=A1,queues=4").drive[0]
    theirs = options("--drive", "file=a.qcow2,if=virtio,readonly=on,serial=A1,num-queues=4,id=d0").drive[0]
    assert ours == theirs and ours.read_only and ours.path == Path("a.qcow2") and ours.queues == 4
    settings = options("--drive", "if=pflash,file=code.fd,format=raw,readonly=on", "--flash", "vars.fd")
    assert [(image.path.name, image.read_only) for image in settings.flash] == [
        ("code.fd", True),
        ("vars.fd", False),
    ]
    assert settings.drive == ()


def test_shares():
    shares = options("--share", "a", "--share", "b:work", "--share", "c:x:ro", "--share", "d:ro").share
    assert [(str(s.path), s.tag, s.read_only) for s in shares] == [
        ("a", "share", False),
        ("b", "work", False),
        ("c", "x", True),
        ("d", "share3", True),
    ]


def test_networks_consoles_and_files():
    nets = options("--net", "loopback", "--net", "listen=unix:/tmp/s,mac=52:54:00:AA:00:01,mtu=9000").net
    assert nets[0].listen is None and nets[1].mac == "52:54:00:aa:00:01" and nets[1].mtu == 9000
    assert options("--net", "socket,connect=:1234").net[0].connect == ":1234"
    ports = options("--console", "unix:/tmp/s,server,name=org.test", "--console", "pty").console
    assert (ports[0].to, ports[0].name, ports[1].to) == ("unix:/tmp/s,server", "org.test", "pty")
    files = options("--fw-cfg", "opt/a,string=x=1,y", "--fw-cfg", "name=opt/b,file=f").fw_cfg
    assert files[0].string == "x=1,y" and files[1].file == Path("f")
    assert options("--serial", "tcp::99,server", "--device", "keyboard").device == ("keyboard",)


@pytest.mark.parametrize(
    ("words", "message"),
    (
        (("--net", "tap"), "is no network"),
        (("--net", "listen=x"), "net.0.listen: 'x' is no address"),
        (("--net", "listen=:1,connect=:2"), "exclude each other"),
        (("--net", "loopback,mac=01:00:00:00:00:00"), "group's address"),
        (("--net", "loopback,mac=1"), "no MAC address"),
        (("--net", "loopback,mtu=10"), "net.0.mtu"),
        (("--serial", "com1"), "serial: 'com1' is nothing to connect"),
        (("--console", "unix:/x,quick"), "no option of a socket"),
        (("--drive", "a,if=ide"), "no drives of the kind 'ide'"),
        (("--drive", "a,if=pflash,format=qcow2"), "are raw"),
        (("--drive", "a,colour=red"), "drive.0.colour"),
        (("--share", "a:" + "x" * 40), "share.0.tag"),
        (("--fw-cfg", "opt/a"), "either file or string"),
        (("--flash", "a", "--flash", "b", "--flash", "c"), "flash"),
    ),
)
def test_wrong_options_are_named(words, message):
    with pytest.raises(IsagenError, match=message):
        options(*words)


def test_yaml_and_toml_say_the_same(tmp_path):
    (tmp_path / "m.toml").write_text('board = "virt"\n[[share]]\npath = "s"\n[[net]]\nlisten = "unix:/x"\n')
    (tmp_path / "m.yaml").write_text("board: virt\nshare:\n  - path: s\nnet:\n  - listen: unix:/x\n")
    first, second = load_settings(tmp_path / "m.toml"), load_settings(tmp_path / "m.yaml")
    assert first == second and first.share[0].path == tmp_path / "s"
    for text, message in (("a: [", "no YAML"), ("- 1", "no machine"), ("board: virt\nsmp: x", "smp")):
        (tmp_path / "m.yaml").write_text(text)
        with pytest.raises(IsagenError, match=message):
            load_settings(tmp_path / "m.yaml")
    with pytest.raises(IsagenError, match="can't be read"):
        load_settings(tmp_path / "none.yaml")


def test_the_schema_is_json(tmp_path):
    schema = Settings.model_json_schema()
    assert {"net", "share", "serial", "console", "device", "flash", "fw_cfg"} <= set(schema["properties"])
    json.dumps(schema)


# --- what can't be used -------------------------------------------------------------------------------------


@pytest.fixture
def virt(require_target):
    require_target("riscv64")
    return lambda **settings: build(settings_from({"board": "virt", "bios": "none", **settings}))


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"share": [{"path": "/nowhere/at/all"}]}, "can't be shared"),
        ({"net": [{"connect": "unix:/nowhere/at/all"}]}, "can't be connected to"),
        ({"net": [{"listen": "unix:/nowhere/at/all"}]}, "can't be listened on"),
        ({"serial": "file:/nowhere/at/all"}, "can't be written"),
        ({"flash": [{"path": "/nowhere/at/all"}]}, "no image of a flash memory"),
        ({"console": [{"name": "a"}, {"name": "a"}]}, "two ports are named"),
        ({"net": [{}] * 5, "device": ["keyboard", "tablet", "balloon"]}, "9 virtio devices"),
        ({"fw_cfg": [{"name": "a", "string": ""}] * 2}, "same name"),
    ),
)
def test_what_cannot_be_opened(virt, settings, message):
    with pytest.raises(IsagenError, match=message):
        virt(**settings)


def test_a_flash_image_has_to_fit(virt, tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 100)
    with pytest.raises(IsagenError, match="an image of 100 bytes for a flash memory"):
        virt(flash=[{"path": tmp_path / "f"}])
    board = virt(flash=[{"path": tmp_path / "f", "read_only": True}])
    assert board.machine.memory.read(FLASH, 101) == b"x" * 100 + b"\0"
    board.machine.close()


def test_the_guest_programs_flash_and_the_file_keeps_it(virt, tmp_path):
    image = tmp_path / "f"
    with image.open("wb") as file:
        file.truncate(FLASH_SIZE)
    board = virt(flash=[{"path": image}])
    machine = board.machine
    for value in (0x20, 0xD0):
        machine.bus.write(FLASH, 4, value * 0x10001)
    assert machine.bus.read(FLASH, 4) == 0x800080
    with pytest.raises(AddressError):
        machine.memory.read(FLASH, 4)  # the device answers, not memory
    saved = machine.snapshot()
    machine.bus.write(FLASH, 4, 0xFF00FF)
    assert machine.memory.read(FLASH, 4) == b"\xff" * 4 and image.read_bytes()[:4] == b"\xff" * 4
    machine.restore(saved)
    assert machine.bus.read(FLASH, 4) == 0x800080
    machine.reset()
    assert machine.memory.read(FLASH, 4) == b"\xff" * 4
    machine.close()


def test_uboot_drives_the_flash(require_target):
    if not UBOOT.exists():
        absent("the package u-boot-qemu")
    require_target("riscv64")
    with Machine("virt", bios=UBOOT, clock="counted", seed=1) as machine:
        machine.console.expect("Hit any key", limit=600_000_000)
        machine.console.send("\n")
        machine.console.expect("=> ", limit=600_000_000)
        for line, answer in (
            ("erase 20000000 2003ffff", "Erased 2 sectors"),
            ("md.b 20000000 4", "20000000: ff ff ff ff"),
            ("mw.l 84000000 12345678 100", ""),
            ("cp.b 84000000 20000100 400", "Copy to Flash... done"),
            ("md.l 200004fc 2", "200004fc: 12345678 ffffffff"),
        ):
            machine.console.send(line + "\n")
            machine.console.expect(answer.replace(".", r"\."), limit=600_000_000)
            machine.console.expect("=> ", limit=600_000_000)  # before it, U-Boot eats what is typed


# --- device trees of users ----------------------------------------------------------------------------------


def test_a_users_tree_gets_command_line_initrd_and_memory(virt, tmp_path, require_tool):
    dtc = require_tool("dtc")
    source = tmp_path / "t.dts"
    source.write_text(
        "/dts-v1/;\n/memreserve/ 0x80000000 0x1000;\n/ { #address-cells = <2>; #size-cells = <2>;\n"
        ' chosen { bootargs = "old"; };\n'
        ' memory@80000000 { device_type = "memory"; reg = <0 0x80000000 0 0x100000>; };\n'
        " a { b { c = [01 02 03]; d; }; }; };\n"
    )
    tree, initrd = tmp_path / "t.dtb", tmp_path / "initrd"
    subprocess.run([dtc, "-q", "-O", "dtb", "-o", str(tree), str(source)], check=True)
    initrd.write_bytes(b"i" * 5000)
    board = virt(dtb=tree, append="console=x", initrd=initrd, memory="64M")
    place = struct.unpack("<Q", board.machine.memory.read(0x1020, 8))[0]
    size = struct.unpack(">I", board.machine.memory.read(place + 4, 4))[0]
    out = tmp_path / "out.dtb"
    out.write_bytes(board.machine.memory.read(place, size))
    text = subprocess.run(
        [dtc, "-q", "-I", "dtb", "-O", "dts", str(out)], capture_output=True, text=True, check=True
    ).stdout
    assert 'bootargs = "console=x"' in text and "linux,initrd-start" in text and "c = [01 02 03]" in text
    assert "reg = <0x00 0x80000000 0x00 0x4000000>" in text and "/memreserve/\t0x0000000080000000" in text
    board.machine.close()


def test_broken_trees_are_refused():
    root = Node("", {"a": "x", "b": 5})
    root.add("child", {"c": None}).add("deep", {"d": b"123"})
    good = flatten(root, reserved=[(1, 2)])
    assert flatten(parse(good).root, reserved=parse(good).reservations) == good
    generator = random.Random(9)
    for _ in range(20000):
        data = bytearray(good)
        for _ in range(generator.randrange(1, 5)):
            data[generator.randrange(len(data))] = generator.choice((0, 1, 2, 3, 4, 9, 255))
        if generator.random() < 0.2:
            del data[generator.randrange(len(data)) :]
        try:
            flatten(parse(bytes(data)).root)
        except TreeError:
            continue
    nested = struct.pack(">10I", 0xD00DFEED, 4096, 56, 4000, 40, 17, 16, 0, 0, 0) + bytes(16)
    with pytest.raises(TreeError, match="levels"):
        parse((nested + struct.pack(">2I", 1, 0) * 400).ljust(4096, b"\0"))


def test_kernels_that_are_none(virt, tmp_path):
    """Anything may be named as a kernel: it runs, traps, or is refused with a message."""
    generator = random.Random(11)
    image = tmp_path / "kernel"
    heads = (
        b"\x7fELF\x02\x01\x01" + bytes(9),
        b"\x1f\x8b\x08",
        b"",
        b"MZ" + bytes(54) + b"RSC\x05",
        b"\0" * 64,
    )
    for number in range(24):
        head = generator.choice(heads)
        image.write_bytes(head + generator.randbytes(generator.choice((0, 1, 40, 4096, 100000))))
        try:
            board = virt(kernel=image, smp=1 + number % 2)
        except IsagenError:
            continue
        outcome = board.machine.run(200_000)
        assert outcome is not None
        board.machine.close()
