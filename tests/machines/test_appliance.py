"""Machines of other programs: what their files say, what they may not say, and the way there and back."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from machines.appliance import manifest, ovf, vbox, vmx
from machines.appliance.archive import Archive
from machines.appliance.errors import ApplianceError, ManifestMismatch
from machines.appliance.exporter import export_machine
from machines.appliance.importer import ImportRequest, import_machine
from machines.description import (
    Attachment,
    Bus,
    Controller,
    Disk,
    Firmware,
    MachineDescription,
    Medium,
    Network,
    dump,
    load,
)
from runtime.block.errors import ImageError
from runtime.block.image import Image
from runtime.errors import IsagenError

MACHINE = MachineDescription(
    name="A machine: ünique",
    description="two\nlines & <signs>",
    os_type="debian11_64Guest",
    firmware=Firmware.EFI,
    cpus=3,
    memory=768 << 20,
    controllers=(
        Controller(name="sata0", bus=Bus.SATA, model="ahci"),
        Controller(name="ide0", bus=Bus.IDE, model="piix4"),
        Controller(name="scsi0", bus=Bus.SCSI, model="lsilogic"),
    ),
    disks=(
        Disk(controller="sata0", port=2, file="a.qcow2", format="qcow2", size=3 << 20),
        Disk(controller="scsi0", port=5, file="b.raw", format="raw", size=1 << 20),
        Disk(controller="ide0", medium=Medium.CDROM, file="c.iso", format="raw", read_only=True),
        Disk(controller="ide0", port=1, medium=Medium.CDROM, read_only=True),
    ),
    networks=(
        Network(model="e1000", mac="52:54:00:aa:bb:01", attachment=Attachment.BRIDGED, network="bridged"),
        Network(model="vmxnet3", mac="52:54:00:aa:bb:02", attachment=Attachment.INTERNAL, network="lab"),
    ),
)


def places(machine: MachineDescription) -> set[tuple[Bus, int, Medium]]:
    return {(machine.controller(disk.controller).bus, disk.port, disk.medium) for disk in machine.disks}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The machine's disks."""
    source = tmp_path / "source"
    source.mkdir()
    with Image.create(source / "a.qcow2", "qcow2", 3 << 20) as image:
        image.pwrite(1 << 20, b"first disk" * 1000)
    (source / "b.raw").write_bytes(b"second disk".ljust(1 << 20, b"\0"))
    (source / "c.iso").write_bytes(b"a CD".ljust(4096, b"\1"))
    return source


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_there_and_back(digest: str, folder: Path, tmp_path: Path, require_tool: Callable[..., str]) -> None:
    target = tmp_path / "m.ova"
    export_machine(MACHINE, folder, target, hash_name=digest)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    # The order that the standard asks for, and what other programs say about the files.
    listing = subprocess.run(["tar", "tf", target], capture_output=True, text=True, check=True).stdout
    listing = listing.split()
    assert listing == ["m.ovf", "m.mf", "m-disk0.vmdk", "m-disk1.vmdk", "m-disk2.iso"]
    subprocess.run(["tar", "xf", target, "-C", tmp_path], check=True)
    lines = (tmp_path / "m.mf").read_text().splitlines()
    for line, name in zip(lines, ["m.ovf", *listing[2:]], strict=True):
        expected = hashlib.new(digest, (tmp_path / name).read_bytes()).hexdigest()
        assert line == f"{digest.upper()}({name})= {expected}"
    qemu = require_tool("qemu-img")
    subprocess.run([qemu, "compare", tmp_path / "m-disk0.vmdk", folder / "a.qcow2"], check=True)

    (found,) = import_machine(ImportRequest(target, tmp_path / "out"))
    machine = found.description
    assert found.manifest_checked
    assert (machine.name, machine.description, machine.os_type) == (
        MACHINE.name,
        MACHINE.description,
        MACHINE.os_type,
    )
    assert (machine.cpus, machine.memory, machine.firmware) == (3, 768 << 20, Firmware.EFI)
    assert machine.architecture == "x86_64"
    places = {(machine.controller(disk.controller).bus, disk.port, disk.medium) for disk in machine.disks}
    assert places == {
        (MACHINE.controller(disk.controller).bus, disk.port, disk.medium) for disk in MACHINE.disks
    }
    assert [(n.mac, n.model, n.network) for n in machine.networks] == [
        (n.mac, n.model, n.network) for n in MACHINE.networks
    ]
    assert load(found.file) == machine
    for disk, name in zip(machine.disks, ("a.qcow2", "b.raw", "c.iso"), strict=False):
        subprocess.run([qemu, "compare", tmp_path / "out" / disk.file, folder / name], check=True)
    with pytest.raises(ApplianceError, match="exists"):
        import_machine(ImportRequest(target, tmp_path / "out"))


def test_descriptions_survive_their_files(tmp_path: Path) -> None:
    for name in ("m.toml", "m.json"):
        dump(MACHINE, tmp_path / name)
        assert load(tmp_path / name) == MACHINE
    (tmp_path / "bad.toml").write_text('name = "x"\ncpus = 0\n')
    with pytest.raises(IsagenError, match="cpus"):
        load(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(IsagenError):
        load(tmp_path / "bad.toml")


def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.ova"
    export_machine(MACHINE, folder, target)
    data = bytearray(target.read_bytes())
    data[data.index(b"a CD")] ^= 1
    target.write_bytes(data)
    with pytest.raises(ManifestMismatch, match="m-disk2"):
        import_machine(ImportRequest(target, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


VBOX = """<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
  <Machine uuid="{11111111-2222-3333-4444-555555555555}" name="box" OSType="Debian_64"
    snapshotFolder="Snapshots">
    <MediaRegistry>
      <HardDisks>
        <HardDisk uuid="{aaaaaaaa-0000-0000-0000-000000000001}" location="base.vdi" format="VDI"
          type="Normal">
          <HardDisk uuid="{aaaaaaaa-0000-0000-0000-000000000002}" location="Snapshots/{aa02}.vdi"
            format="VDI"/>
        </HardDisk>
      </HardDisks>
      <DVDImages><Image uuid="{bbbbbbbb-0000-0000-0000-000000000001}" location="cd.iso"/></DVDImages>
    </MediaRegistry>
    <Hardware>
      <CPU count="2"/><Memory RAMSize="1024"/><Firmware type="EFI"/>
      <Network>
        <Adapter slot="0" enabled="true" MACAddress="080027A1B2C3" type="82540EM"><NAT/></Adapter>
        <Adapter slot="1" enabled="true" MACAddress="080027000001" cable="false" type="virtio">
          <DisabledModes><NAT/></DisabledModes><BridgedInterface name="eth0"/>
        </Adapter>
        <Adapter slot="2" enabled="false" MACAddress="080027FFFFFF" type="82540EM"/>
      </Network>
      <StorageControllers>
        <StorageController name="SATA" type="AHCI" PortCount="2">
          <AttachedDevice type="HardDisk" port="0" device="0">
            <Image uuid="{aaaaaaaa-0000-0000-0000-000000000002}"/>
          </AttachedDevice>
        </StorageController>
        <StorageController name="IDE" type="PIIX4">
          <AttachedDevice type="DVD" port="1" device="0">
            <Image uuid="{bbbbbbbb-0000-0000-0000-000000000001}"/>
          </AttachedDevice>
          <AttachedDevice type="DVD" port="1" device="1"/>
        </StorageController>
      </StorageControllers>
    </Hardware>
  </Machine>
</VirtualBox>
"""


def test_virtualbox() -> None:
    machine = vbox.parse_file(VBOX.encode(), Path("box.vbox"))
    assert (machine.name, machine.cpus, machine.memory, machine.firmware) == ("box", 2, 1 << 30, Firmware.EFI)
    assert machine.uuid == "11111111-2222-3333-4444-555555555555"
    assert [(c.name, c.bus) for c in machine.controllers] == [("SATA", Bus.SATA), ("IDE", Bus.IDE)]
    assert [(d.controller, d.port, d.unit, d.file, d.format) for d in machine.disks] == [
        ("SATA", 0, 0, "Snapshots/{aa02}.vdi", "vdi"),
        ("IDE", 1, 0, "cd.iso", "raw"),
        ("IDE", 1, 1, "", ""),
    ]
    assert [(n.mac, n.model, n.attachment, n.network, n.connected) for n in machine.networks] == [
        ("08:00:27:a1:b2:c3", "e1000", Attachment.NAT, "", True),
        ("08:00:27:00:00:01", "virtio", Attachment.BRIDGED, "eth0", False),
    ]


def test_virtualbox_with_its_disk(tmp_path: Path) -> None:
    text = VBOX.replace("Snapshots/{aa02}.vdi", "disk.vdi")
    (tmp_path / "box.vbox").write_text(text)
    (tmp_path / "cd.iso").write_bytes(b"x" * 2048)
    with Image.create(tmp_path / "disk.vdi", "vdi", 2 << 20) as image:
        image.pwrite(12345, b"content")
    (found,) = import_machine(ImportRequest(tmp_path / "box.vbox", tmp_path / "out"))
    with Image.open(tmp_path / "out" / found.description.disks[0].file) as image:
        assert image.pread(12345, 7) == b"content"


VMX = """#!/usr/bin/vmware
.encoding = "UTF-8"
config.version = "8"
displayName = "Name |22quoted|22"
guestOS = "debian11-64"
memsize = "2048"
numvcpus = "4"
firmware = "efi"
uuid.bios = "56 4d 00 11 22 33 44 55-66 77 88 99 aa bb cc dd"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "disk.vmdk"
SCSI0:3.PRESENT = "true"
scsi0:3.filename = "second.vmdk"
scsi0:4.present = "FALSE"
scsi0:4.fileName = "absent.vmdk"
nvme0.present = "TRUE"
nvme0:0.present = "TRUE"
nvme0:0.fileName = "third.vmdk"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "cd.iso"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.connectionType = "nat"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:AB:cd:ef"
ethernet1.present = "TRUE"
ethernet1.addressType = "static"
ethernet1.address = "00:50:56:00:00:01"
ethernet1.startConnected = "FALSE"
"""


def test_vmware() -> None:
    machine = vmx.parse(VMX.encode(), Path("x.vmx"))
    assert (machine.name, machine.cpus, machine.memory) == ('Name "quoted"', 4, 2 << 30)
    assert (machine.firmware, machine.uuid) == (Firmware.EFI, "564d0011-2233-4455-6677-8899aabbccdd")
    assert {c.name: (c.bus, c.model) for c in machine.controllers} == {
        "ide1": (Bus.IDE, "piix4"),
        "nvme0": (Bus.NVME, "nvme"),
        "scsi0": (Bus.SCSI, "pvscsi"),
    }
    assert {(d.controller, d.port, d.file, d.medium) for d in machine.disks} == {
        ("scsi0", 0, "disk.vmdk", Medium.DISK),
        ("scsi0", 3, "second.vmdk", Medium.DISK),
        ("nvme0", 0, "third.vmdk", Medium.DISK),
        ("ide1", 0, "cd.iso", Medium.CDROM),
    }
    assert [(n.mac, n.model, n.attachment, n.connected) for n in machine.networks] == [
        ("00:0c:29:ab:cd:ef", "vmxnet3", Attachment.NAT, True),
        ("00:50:56:00:00:01", "vlance", Attachment.BRIDGED, False),
    ]


OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References><File ovf:href="HREF" ovf:id="f"/></References>
  <DiskSection><Info/>
    <Disk ovf:capacity="2" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d" ovf:fileRef="f"/>
  </DiskSection>
  <VirtualSystem ovf:id="vm"><Info/>
    <OperatingSystemSection ovf:id="96"><Info/><Description>Debian_64</Description></OperatingSystemSection>
    <VirtualHardwareSection><Info/>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
      <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>AHCI</rasd:ResourceSubType>
        <rasd:ResourceType>20</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:HostResource>/disk/d</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:Connection>NAT</rasd:Connection><rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
    <vbox:Machine version="1.12" uuid="{11111111-2222-3333-4444-555555555555}" name="vm">
      <Hardware><Network>
        <Adapter enabled="true" MACAddress="080027010203" type="82540EM"><NAT/></Adapter>
      </Network></Hardware>
    </vbox:Machine>
  </VirtualSystem>
</Envelope>
"""


def test_an_ovf_of_virtualbox_has_its_addresses_elsewhere() -> None:
    envelope = ovf.parse_envelope(OVF.encode(), "x.ovf")
    (machine,) = envelope.machines
    assert (machine.cpus, machine.memory, machine.architecture) == (2, 512 << 20, "x86_64")
    (disk,) = machine.disks
    assert (disk.file, disk.size, disk.port) == ("HREF", 2 << 20, 1)
    assert machine.controller(disk.controller).bus is Bus.SATA
    assert [(n.mac, n.attachment) for n in machine.networks] == [("08:00:27:01:02:03", Attachment.NAT)]


@pytest.mark.parametrize(
    "href", ["../secret", "/etc/passwd", "a/b.vmdk", "http://host/a.vmdk", "nbd://host/", "C:\\x", "..", ""]
)
def test_disks_elsewhere_are_refused(href: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "m.ovf").write_text(OVF.replace("HREF", href))
    with pytest.raises(IsagenError):
        import_machine(ImportRequest(inner / "m.ovf", tmp_path / "out"))


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "d.vmdk").symlink_to(tmp_path / "secret")
    (inner / "m.ovf").write_text(OVF.replace("HREF", "d.vmdk"))
    with pytest.raises(ApplianceError, match="symbolic link"):
        import_machine(ImportRequest(inner / "m.ovf", tmp_path / "out"))


def test_disks_of_a_vmx_elsewhere_must_be_allowed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Image.create(elsewhere / "d.vdi", "vdi", 1 << 20) as image:
        image.pwrite(0, b"content")
    inner = tmp_path / "inner"
    inner.mkdir()
    text = 'config.version = "8"\nmemsize = "64"\nide0:0.present = "TRUE"\n'
    (inner / "m.vmx").write_text(text + f'ide0:0.fileName = "{elsewhere / "d.vdi"}"\n')
    with pytest.raises(ImageError, match="allow"):
        import_machine(ImportRequest(inner / "m.vmx", tmp_path / "out"))
    (found,) = import_machine(ImportRequest(inner / "m.vmx", tmp_path / "out", allow=(elsewhere,)))
    with Image.open(tmp_path / "out" / found.description.disks[0].file) as image:
        assert image.pread(0, 7) == b"content"


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">&b;</Envelope>"""


@pytest.mark.parametrize(
    "text", [BOMB, "", "<", "<a/>", "<Envelope/>", "\0", "<Envelope" + ">" * 100, "x" * 1000]
)
def test_what_is_no_descriptor_is_an_error(text: str) -> None:
    for reader in (
        lambda data: ovf.parse_envelope(data, "x"),
        lambda data: vbox.parse_file(data, Path("x")),
        lambda data: vmx.parse(data, Path("x")),
    ):
        with pytest.raises(ApplianceError):
            reader(text.encode())


@pytest.mark.parametrize("text", [OVF.replace("HREF", "x"), VBOX])
def test_descriptors_with_pieces_missing_or_changed(text: str) -> None:
    """Whatever is left out or made huge: an error of ours, or a machine."""
    data = text.encode()
    for at in range(0, len(data), 37):
        for changed in (data[:at] + data[at + 40 :], data[:at] + b"9" * 30 + data[at + 30 :]):
            try:
                (vbox.parse_file(changed, Path("x")) if text is VBOX else ovf.parse_envelope(changed, "x"))
            except IsagenError:
                continue


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../x"),
        member("/x"),
        member("a/b"),
        member("x", tarfile.SYMTYPE, "/etc/passwd"),
        member("x", tarfile.LNKTYPE, "/etc/passwd"),
        member("x", tarfile.DIRTYPE),
        member("x", tarfile.CHRTYPE),
        member("x", tarfile.GNUTYPE_SPARSE),
        member("m.ovf"),
    ],
)
def test_archives_have_plain_files_only(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    path = tmp_path / "m.ova"
    path.write_bytes(tar_of([(member("m.ovf"), OVF.encode()), (bad, b"")]))
    with pytest.raises(ApplianceError):
        Archive(path)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_all_kinds_are_read(format: int, tmp_path: Path) -> None:
    path = tmp_path / "m.ova"
    name = "n" * (120 if format != tarfile.USTAR_FORMAT else 90) + ".vmdk"
    path.write_bytes(tar_of([(member("m.ovf"), b"descriptor"), (member(name), b"disk" * 500)], format))
    archive = Archive(path)
    assert archive.names() == ["m.ovf", name]
    assert archive.read(name, 10_000) == b"disk" * 500
    archive.close()


def test_archives_that_are_cut_off_or_wild(tmp_path: Path) -> None:
    path = tmp_path / "m.ova"
    whole = tar_of([(member("m.ovf"), OVF.encode()), (member("d"), b"x" * 5000)])
    for data in (b"", b"\0" * 2048, b"x" * 3000, whole[:600], whole[:-9000], bytes(512) + whole):
        path.write_bytes(data)
        with pytest.raises(ApplianceError):
            Archive(path).close()
    for at in (124, 127, 135, 148, 156, 157, 265):
        changed = bytearray(whole)
        changed[at] = 0xFF
        path.write_bytes(changed)
        with pytest.raises(ApplianceError):
            Archive(path).close()


def test_manifests() -> None:
    text = b"SHA256(a b.vmdk)= 00ff\r\nSHA1(c)=AA\n\nSHA512 (d) = 1\n"
    assert manifest.parse(text, "x") == {
        "a b.vmdk": ("sha256", "00ff"),
        "c": ("sha1", "aa"),
        "d": ("sha512", "1"),
    }
    with pytest.raises(ApplianceError):
        manifest.parse(b"MD5(a)= 00", "x")
