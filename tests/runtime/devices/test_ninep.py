"""Shares: 9P2000.L by message, what can't be reached, and what survives a snapshot."""

from __future__ import annotations

import errno
import os
import random
import socket
import stat
import struct
from pathlib import Path

import pytest

from runtime.devices.ninep.fids import MOST_FILES
from runtime.devices.ninep.folder import Folder
from runtime.devices.ninep.server import Server
from runtime.devices.ninep.wire import HEADER, NO_FID, BadMessage, Kind, message, text
from runtime.devices.virtio import mmio
from runtime.devices.virtio.filesystem import FileSystem
from runtime.errors import IsagenError
from tests.runtime.devices.driver import Driver

ROOM = 1 << 20
READ_ONLY, WRITE_ONLY, READ_WRITE, EXCLUSIVE, TRUNCATE, APPEND = 0, 1, 2, 0o200, 0o1000, 0o2000


class Client:
    """Sends messages; `OSError` with the server's number for those that fail."""

    def __init__(self, server):
        self.server = server
        assert self.call(Kind.VERSION, "I", 65536, text(b"9P2000.L"))[4:] == text(b"9P2000.L")
        self.call(Kind.ATTACH, "II", 0, NO_FID, text(b"root") + text(b"") + struct.pack("<I", 0))

    def call(self, kind, form, *values):
        """`values` by `form`, and bytes behind them as they are."""
        numbers = len(form)
        body = struct.pack("<" + form, *values[:numbers]) + b"".join(values[numbers:])
        answer = self.server.answer(message(kind, 7, body), ROOM)
        size, number, tag = HEADER.unpack_from(answer)
        assert size == len(answer) and tag == 7
        if number == Kind.LERROR + 1:
            raise OSError(*struct.unpack("<I", answer[HEADER.size :]), "")
        assert number == kind + 1
        return answer[HEADER.size :]

    def walk(self, new, *names, fid=0):
        qids = self.call(Kind.WALK, "II", fid, new, struct.pack("<H", len(names)), *map(text, names))
        (count,) = struct.unpack_from("<H", qids)
        if count < len(names):
            raise OSError(errno.ENOENT, "")
        return [struct.unpack_from("<BIQ", qids, 2 + 13 * n) for n in range(count)]

    def open(self, fid, *names, flags=READ_ONLY):
        self.walk(fid, *names)
        self.call(Kind.LOPEN, "II", fid, flags)

    def create(self, fid, name, flags=READ_WRITE, mode=0o644):
        self.walk(fid)
        self.call(Kind.LCREATE, "I", fid, text(name) + struct.pack("<III", flags, mode, 0))

    def read(self, fid, size=65000, offset=0):
        return self.call(Kind.READ, "IQI", fid, offset, size)[4:]

    def write(self, fid, data, offset=0):
        return struct.unpack("<I", self.call(Kind.WRITE, "IQI", fid, offset, len(data), data))[0]

    def clunk(self, fid):
        self.call(Kind.CLUNK, "I", fid)

    def names(self, fid, count=60000):
        found, offset = [], 0
        while data := self.call(Kind.READDIR, "IQI", fid, offset, count)[4:]:
            while data:
                (offset, kind, size) = struct.unpack_from("<QBH", data, 13)
                found.append((data[24 : 24 + size], kind))
                data = data[24 + size :]
        return found

    def attributes(self, fid):
        values = struct.unpack("<Q13sIIIQQQQQqQqQqQ", self.call(Kind.GETATTR, "IQ", fid, 0x7FF)[:121])
        return dict(zip(("mode", "uid", "gid", "nlink", "rdev", "size"), values[2:8], strict=False)) | {
            "mtime": values[12] * 10**9 + values[13]
        }

    def set(self, fid, valid, *, mode=0, uid=0, gid=0, size=0, times=(0, 0, 0, 0)):
        self.call(Kind.SETATTR, "IIIIIQQQQQ", fid, valid, mode, uid, gid, size, *times)


def refused(number, call, *values, **named):
    with pytest.raises(OSError) as caught:
        call(*values, **named)
    assert caught.value.errno == number


@pytest.fixture
def folder(tmp_path):
    """The shared folder, beside things that aren't shared."""
    shared = tmp_path / "shared"
    (shared / "d" / "e").mkdir(parents=True)
    (shared / "a.txt").write_bytes(b"hello")
    (shared / "d" / "b.txt").write_bytes(b"deep")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (shared / "escape").symlink_to(tmp_path)
    (shared / "file").symlink_to(tmp_path / "secret")
    (shared / "d" / "up").symlink_to("../..")
    return shared


@pytest.fixture
def client(folder):
    made = Folder(folder)
    client = Client(Server(made))
    yield client
    client.server.reset()
    made.close()


def test_reading(client, folder):
    assert client.walk(1, b"d", b"b.txt")[0][0] == 0x80
    client.call(Kind.LOPEN, "II", 1, READ_ONLY)
    assert client.read(1) == b"deep" and client.read(1, 2, 1) == b"ee" and client.read(1, 10, 4) == b""
    attributes = client.attributes(1)
    real = (folder / "d" / "b.txt").stat()
    assert (
        attributes["mode"] == real.st_mode
        and attributes["size"] == 4
        and attributes["mtime"] == real.st_mtime_ns
    )
    client.clunk(1)
    refused(errno.EBADF, client.read, 1)
    client.walk(1, b"d", b"..", b".", b"a.txt")
    assert client.attributes(1)["size"] == 5
    refused(errno.ENOENT, client.walk, 2, b"nothing")
    refused(errno.EINVAL, client.walk, 1)  # in use


def test_listing(client, folder):
    for number in range(300):
        (folder / "d" / "e" / f"file {number:03}").touch()
    client.open(1, b"d", b"e")
    expected = [(b".", 4), (b"..", 4), *((f"file {n:03}".encode(), 8) for n in range(300))]
    assert client.names(1) == expected
    assert client.names(1, 200) == expected  # in many answers
    client.open(2)
    assert (b"escape", 10) in client.names(2) and (b"d", 4) in client.names(2)


def test_writing(client, folder):
    client.create(1, b"new", mode=0o6751)
    assert client.write(1, b"abcdef") == 6 and client.write(1, b"X", 2) == 1
    assert (folder / "new").read_bytes() == b"abXdef"
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o751  # never set-user-id
    refused(errno.EEXIST, client.create, 2, b"new", READ_WRITE | EXCLUSIVE)
    client.clunk(2)
    client.open(3, b"new", flags=WRITE_ONLY | APPEND)
    client.write(3, b"!", 0)
    assert (folder / "new").read_bytes() == b"abXdef!"
    client.open(4, b"new", flags=WRITE_ONLY | TRUNCATE)
    assert (folder / "new").read_bytes() == b""
    client.call(Kind.FSYNC, "II", 4, 0)
    refused(errno.EBADF, client.read, 4)
    client.open(5, b"a.txt")
    refused(errno.EBADF, client.write, 5, b"x")


def test_folders_links_and_names(client, folder):
    client.call(Kind.MKDIR, "I", 0, text(b"m") + struct.pack("<II", 0o750, 0))
    assert stat.S_IMODE((folder / "m").stat().st_mode) == 0o750
    client.call(Kind.SYMLINK, "I", 0, text(b"l") + text(b"../anywhere") + struct.pack("<I", 0))
    client.walk(1, b"l")
    assert client.call(Kind.READLINK, "I", 1) == text(b"../anywhere")
    client.walk(2, b"a.txt")
    client.call(Kind.LINK, "II", 0, 2, text(b"second"))
    assert (folder / "second").stat().st_nlink == 2
    client.open(3, b"d", b"b.txt")
    client.walk(4, b"d")
    client.call(Kind.RENAMEAT, "I", 0, text(b"d") + struct.pack("<I", 0) + text(b"moved"))
    assert client.read(3) == b"deep" and (folder / "moved" / "b.txt").exists()
    client.walk(5, b"e", fid=4)  # the fid went along
    client.call(Kind.RENAME, "II", 3, 0, text(b"up.txt"))
    assert (folder / "up.txt").read_bytes() == b"deep"
    refused(errno.ENOTEMPTY, client.call, Kind.UNLINKAT, "I", 0, text(b"moved") + struct.pack("<I", 0x200))
    client.call(Kind.UNLINKAT, "I", 0, text(b"up.txt") + struct.pack("<I", 0))
    assert client.read(3) == b"deep"  # open still
    assert client.attributes(3)["nlink"] == 0
    client.call(Kind.REMOVE, "I", 5)
    assert not (folder / "moved" / "e").exists()
    refused(errno.EBADF, client.clunk, 5)


def test_attributes(client, folder):
    client.walk(1, b"a.txt")
    client.set(1, 1 | 8, mode=0o4600, size=2)
    assert (folder / "a.txt").read_bytes() == b"he"
    assert stat.S_IMODE((folder / "a.txt").stat().st_mode) == 0o600
    client.set(1, 0x10 | 0x20 | 0x80 | 0x100, times=(1, 2, 3, 4))
    found = (folder / "a.txt").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_002, 3_000_000_004)
    client.set(1, 0x20)
    assert (folder / "a.txt").stat().st_mtime_ns > 10**18
    values = struct.unpack("<IIQQQQQQI", client.call(Kind.STATFS, "I", 1))
    assert values[0] == 0x01021997 and values[2] == os.statvfs(folder).f_blocks


def test_extended_attributes(client, folder):
    try:
        os.setxattr(folder / "a.txt", "user.color", b"red")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    client.walk(1, b"a.txt")
    size = client.call(Kind.XATTRWALK, "II", 1, 2, text(b"user.color"))
    assert size == struct.pack("<Q", 3) and client.read(2) == b"red"
    client.call(Kind.XATTRWALK, "II", 1, 3, text(b""))
    assert client.read(3) == b"user.color\0"
    client.walk(4, b"a.txt")
    client.call(Kind.XATTRCREATE, "I", 4, text(b"user.size") + struct.pack("<QI", 5, 0))
    client.write(4, b"large")
    client.clunk(4)
    assert os.getxattr(folder / "a.txt", "user.size") == b"large"
    refused(errno.ENODATA, client.call, Kind.XATTRWALK, "II", 1, 5, text(b"security.selinux"))
    client.walk(6, b"a.txt")
    refused(
        errno.EOPNOTSUPP, client.call, Kind.XATTRCREATE, "I", 6, text(b"trusted.x") + struct.pack("<QI", 1, 0)
    )


def test_locks_are_granted(client):
    client.open(1, b"a.txt")
    lock = struct.pack("<BIQQI", 1, 0, 0, 0, 1) + text(b"guest")
    assert client.call(Kind.LOCK, "I", 1, lock) == b"\0"
    answer = client.call(Kind.GETLOCK, "I", 1, struct.pack("<BQQI", 1, 0, 0, 1) + text(b"guest"))
    assert answer[0] == 2 and answer.endswith(text(b"guest"))


# --- what a guest must not reach ----------------------------------------------------------------------------


def test_symbolic_links_are_never_followed(client, tmp_path):
    refused(errno.ENOENT, client.walk, 1, b"escape", b"secret")
    refused(errno.ENOENT, client.walk, 1, b"d", b"up", b"secret")
    for name in (b"escape", b"file"):
        client.walk(1, name)
        assert stat.S_ISLNK(client.attributes(1)["mode"])
        refused(errno.ELOOP, client.call, Kind.LOPEN, "II", 1, READ_ONLY)
        refused(errno.ELOOP, client.set, 1, 8, size=0)
        refused(errno.EOPNOTSUPP, client.set, 1, 1, mode=0o777)
        client.clunk(1)
    before = (tmp_path / "secret").stat()
    refused(errno.ELOOP, client.create, 2, b"file", WRITE_ONLY | TRUNCATE)
    client.walk(3, b"file")
    client.set(3, 0x20 | 0x100, times=(0, 0, 5, 0))  # the link's own times
    after = (tmp_path / "secret").stat()
    assert before == after and (tmp_path / "secret").read_text() == "secret"


def test_no_name_leads_outside(client, tmp_path):
    client.walk(1, b"..", b"..", b"d", b"..", b"..")
    assert (b"a.txt", 8) in (client.call(Kind.LOPEN, "II", 1, 0), client.names(1))[1]
    for name in (b"../secret", b"/etc/passwd", b"d/../../secret", b"", b"a\0b"):
        with pytest.raises(OSError):
            client.walk(2, name)
        new = name + struct.pack("<I", 0)
        for kind, body in (
            (Kind.LCREATE, text(name) + struct.pack("<III", READ_WRITE, 0o600, 0)),
            (Kind.MKDIR, text(name) + struct.pack("<II", 0o700, 0)),
            (Kind.SYMLINK, text(name) + text(b"x") + struct.pack("<I", 0)),
            (Kind.MKNOD, text(name) + struct.pack("<IIII", stat.S_IFREG | 0o600, 0, 0, 0)),
            (Kind.UNLINKAT, text(name) + struct.pack("<I", 0)),
            (Kind.RENAMEAT, text(b"a.txt") + struct.pack("<I", 0) + text(name)),
        ):
            with pytest.raises(OSError):
                client.call(kind, "I", 0, body)
        assert new
    for name in (b".", b".."):
        refused(errno.EINVAL, client.call, Kind.UNLINKAT, "I", 0, text(name) + struct.pack("<I", 0x200))
        refused(errno.EINVAL, client.call, Kind.MKDIR, "I", 0, text(name) + struct.pack("<II", 0o700, 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "secret", "shared"]


def test_a_folder_that_becomes_a_link_leads_nowhere(client, folder, tmp_path):
    """The host (or a second share of the guest) replaces a folder while the guest holds on to it."""
    client.walk(1, b"d", b"e")
    (folder / "d" / "e").rmdir()
    (folder / "d" / "e").symlink_to(tmp_path / "outside")
    refused(errno.ENOTDIR, client.call, Kind.LCREATE, "I", 1, text(b"x") + struct.pack("<III", 2, 0o600, 0))
    assert list((tmp_path / "outside").iterdir()) == []


def test_nothing_but_files_is_opened(client, folder):
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        for name in (b"fifo", b"socket"):
            client.walk(1, name)
            refused(errno.ENXIO, client.call, Kind.LOPEN, "II", 1, READ_WRITE)
            refused(errno.ENXIO, client.create, 2, name)
            client.clunk(1)
            client.clunk(2)
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        node = text(b"node") + struct.pack("<IIII", kind | 0o666, 1, 3, 0)
        refused(errno.EPERM, client.call, Kind.MKNOD, "I", 0, node)
    client.call(Kind.MKNOD, "I", 0, text(b"pipe") + struct.pack("<IIII", stat.S_IFIFO | 0o4644, 0, 0, 0))
    assert stat.S_IMODE((folder / "pipe").stat().st_mode) & 0o7000 == 0


def test_a_read_only_share_stays_as_it_is(folder):
    made = Folder(folder, read_only=True)
    client = Client(Server(made))
    client.open(1, b"a.txt")
    assert client.read(1) == b"hello"
    client.walk(2, b"a.txt")
    for flags in (WRITE_ONLY, READ_WRITE, TRUNCATE):
        refused(errno.EROFS, client.call, Kind.LOPEN, "II", 2, flags)
    refused(errno.EROFS, client.create, 3, b"x")
    refused(errno.EROFS, client.write, 1, b"x")
    refused(errno.EROFS, client.set, 2, 1, mode=0)
    for kind, body in (
        (Kind.MKDIR, text(b"x") + bytes(8)),
        (Kind.SYMLINK, text(b"x") + text(b"y") + bytes(4)),
        (Kind.MKNOD, text(b"x") + bytes(16)),
        (Kind.UNLINKAT, text(b"a.txt") + bytes(4)),
        (Kind.RENAMEAT, text(b"a.txt") + bytes(4) + text(b"x")),
        (Kind.XATTRCREATE, text(b"user.x") + bytes(12)),
    ):
        refused(errno.EROFS, client.call, kind, "I", 0, body)
    refused(errno.EROFS, client.call, Kind.LINK, "II", 0, 2, text(b"x"))
    refused(errno.EROFS, client.call, Kind.REMOVE, "I", 2)
    made.close()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(IsagenError, match="can't be shared: no such file"):
        Folder(tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(IsagenError, match="not a directory"):
        Folder(tmp_path / "file")


# --- limits, damage, snapshots ------------------------------------------------------------------------------


def host_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_many_open_files_need_few_of_the_host(client, folder):
    before = host_files()
    for number in range(3 * MOST_FILES):
        (folder / f"f{number}").write_bytes(b"%d" % number)
        client.open(100 + number, b"f%d" % number)
    assert host_files() <= before + MOST_FILES
    for number in range(3 * MOST_FILES):
        assert client.read(100 + number) == b"%d" % number
    client.server.reset()
    assert host_files() == before


def test_random_messages(folder):
    """No exception but for bytes that are no message at all, and nothing changes outside."""
    made = Folder(folder)
    generator = random.Random(5)
    server = Server(made)
    Client(server)
    kinds = [*Kind, 0, 99, 255]
    names = (b"a.txt", b"d", b"..", b"x", b"escape", b"file", b"/", b"\xff\xfe", b"n" * 300)
    for _ in range(6000):
        parts = []
        for _ in range(generator.randrange(8)):
            parts.append(
                generator.choice(
                    (
                        struct.pack("<I", generator.choice((0, 1, 2, 3, NO_FID))),
                        struct.pack("<Q", generator.choice((0, 1, 1 << 63, (1 << 64) - 1))),
                        text(generator.choice(names)),
                        generator.randbytes(generator.randrange(9)),
                        struct.pack("<H", generator.choice((0, 1, 2, 65535))),
                    )
                )
            )
        request = message(generator.choice(kinds), 1, b"".join(parts))
        if generator.random() < 0.1:
            request = request[: generator.randrange(len(request) + 1)]
        try:
            answer = server.answer(request, generator.choice((11, 30, 200, 70000)))
        except BadMessage:
            continue
        assert len(answer) == struct.unpack_from("<I", answer)[0]
        if generator.random() < 0.02:
            server.restore(server.save())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["outside", "secret", "shared"]
    assert (folder.parent / "secret").read_text() == "secret"
    server.reset()
    made.close()


def test_a_mounted_share_survives_a_snapshot(memory, folder):
    made = Folder(folder)
    device = FileSystem(made, "tag")
    driver = Driver(device, memory)
    assert driver.config(0, 5) == text(b"tag")

    class Guest:
        @staticmethod
        def answer(request, room):
            return driver.submit(request, 20000)[0][: driver_written()]

    def driver_written():
        size = struct.unpack("<I", memory.read(0x80100000 + last[0], 4))[0]
        return size

    last = [0]
    submit = driver.submit

    def remember(*buffers, **named):
        last[0] = len(buffers[0])
        return submit(*buffers, **named)

    driver.submit = remember
    client = Client(Guest)
    client.open(1, b"a.txt", flags=READ_WRITE)
    client.open(2, b"d")
    names = client.names(2)
    client.create(3, b"created", READ_WRITE | EXCLUSIVE)
    client.write(3, b"before")
    saved = driver.slot.save().model_dump_json()
    client.clunk(1)
    client.write(3, b"after!")
    driver.slot.restore(mmio.VirtioMmioState.model_validate_json(saved))
    driver.available, driver.seen = [driver.slot._queues[0].state.taken], [driver.slot._queues[0].state.used]
    memory.write(0x80001002, struct.pack("<H", driver.available[0]))
    memory.write(0x80002002, struct.pack("<H", driver.seen[0]))
    assert client.read(1) == b"hello" and client.write(1, b"J") == 1
    assert client.names(2) == names
    assert client.read(3) == b"after!"  # files aren't part of a snapshot
    assert (folder / "a.txt").read_bytes() == b"Jello"
    driver.write(mmio.STATUS, 0)
    made.close()


def test_bytes_that_are_no_message_break_the_device(memory, folder):
    made = Folder(folder)
    driver = Driver(FileSystem(made, "tag"), memory)
    memory.write(0x80100000, b"\xff" * 64)
    memory.write(0x80000000, struct.pack("<QIHHQIHH", 0x80100000, 64, 1, 1, 0x80101000, 64, 2, 0))
    driver.offer(0)
    assert driver.broken
    made.close()
