"""Changing the guest's data: writes, zeroes, discards, compressed writes (of one image, under its lock)."""

from __future__ import annotations

from runtime.block.errors import ImageCorrupt
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.header import COMPRESSED, COPIED, OFFSET_MASK, ZERO, Incompatible
from runtime.block.format.qcow2.mapping import HOLE, ZEROES, Cluster
from runtime.block.format.qcow2.reader import Reader
from runtime.block.format.qcow2.tables import L2Table
from runtime.block.node import FileRange, in_memory

_ZERO_STEP = 1 << 20


class Writer:
    """The writing half of one image."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.reader = Reader(core)

    # --- plain writes ---

    def write(self, offset: int, data: memoryview | FileRange) -> None:
        """Write `data` at guest offset `offset`, which lies inside of what the L1 table maps."""
        core = self.core
        if not data:
            return
        core.begin_write()
        core.note_dirty(offset, len(data))
        if core.cipher is not None and (offset | len(data)) & 511:
            offset, data = self._whole_sectors(offset, in_memory(data))
        mapping = core.mapping
        at, end = 0, len(data)
        while at < end:
            guest = offset + at
            table = core.tables.for_writing(guest >> mapping.l1_shift)
            index = (guest >> mapping.cluster_bits) & mapping.l2_mask
            inside = guest & (mapping.cluster_size - 1)
            limit = min(end - at, ((mapping.l2_mask + 1 - index) << mapping.cluster_bits) - inside)
            part = data[at : at + limit]
            done = self._in_place(table, index, inside, guest, part)
            if not done:
                if inside == 0 and limit >= mapping.cluster_size:
                    done = self._whole_clusters(table, index, guest, part)
                else:
                    done = self._part_of_cluster(table, index, inside, guest, part)
            at += done
        core.commit_if_pressed()

    def _whole_sectors(self, offset: int, data: memoryview) -> tuple[int, memoryview]:
        """The write widened to whole encrypted sectors."""
        start, end = offset & -512, -(-(offset + len(data)) // 512) * 512
        wide = bytearray(end - start)
        self.reader.read(self.core.tables, start, memoryview(wide))
        wide[offset - start : offset - start + len(data)] = data
        return start, memoryview(wide)

    def _put(self, host: int, guest: int, data: memoryview | FileRange) -> None:
        """Write guest data, encrypted if need be, at its place."""
        core = self.core
        if not core.external and core.refcounts.guard.overlaps(host, len(data)):
            self._mark_corrupt(host)
        if core.cipher is not None:
            data = memoryview(core.cipher.encrypt(host, guest, in_memory(data)))
        if core.checksums is not None:
            core.checksums.note(host, len(data))
        if isinstance(data, FileRange):
            core.data.pwrite_range(host, data)
        else:
            core.data.pwrite(host, data)

    def _mark_corrupt(self, host: int) -> None:
        """The entry that led here points at metadata: say so in the image, and write no more."""
        core = self.core
        if core.header.version >= 3:
            core.header.incompatible |= Incompatible.CORRUPT
            core.write_header()
            core.file.flush()
        core.fail()
        raise ImageCorrupt(
            "guest data would be written over metadata; the image is marked as corrupt",
            offset=host,
            field="host cluster of an L2 entry",
            where=core.name,
            remedy="run `isagen image check --repair all`",
        )

    def _in_place(
        self, table: L2Table, index: int, inside: int, guest: int, data: memoryview | FileRange
    ) -> int:
        """Write what starts in clusters of our own that hold data. Gives the bytes written, maybe 0."""
        mapping = self.core.mapping
        size = mapping.cluster_size
        if mapping.extended:
            cluster = mapping.cluster(table, index)
            part = data[: size - inside]
            if not self._own(cluster):
                return 0
            sub = mapping.subcluster_size
            touched = (2 << (inside + len(part) - 1) // sub) - (1 << inside // sub)
            if cluster.allocated & touched != touched:
                return 0
            self._put(cluster.host + inside, guest, part)
            return len(part)
        entries = table.entries
        entry = entries[index]
        if entry & (COPIED | COMPRESSED | ZERO) != COPIED:
            return 0
        host = entry & OFFSET_MASK
        if host & (size - 1):
            raise mapping.corrupt(table, index, "a data cluster's offset isn't a cluster's", entry)
        if not host and not mapping.external:
            return 0
        have = size - inside
        expected = entry + size
        while have < len(data):
            index += 1
            if index > mapping.l2_mask or entries[index] != expected:
                break
            expected += size
            have += size
        part = data[:have]
        self._put(host + inside, guest, part)
        return len(part)

    def _own(self, cluster: Cluster) -> bool:
        return cluster.copied and not cluster.packed

    def _whole_clusters(self, table: L2Table, index: int, guest: int, data: memoryview | FileRange) -> int:
        """Write whole clusters, as many as may go to one new place. Gives the bytes written."""
        core, mapping = self.core, self.core.mapping
        size = mapping.cluster_size
        first = mapping.cluster(table, index)
        if self._own(first):  # preallocated: the place is there
            self._put(first.host, guest, data[:size])
            mapping.store_run(table, index, 1, first.host)
            return size
        olds = [first]
        wanted = len(data) // size
        count = 1
        if first.present or mapping.extended:
            while count < wanted:
                cluster = mapping.cluster(table, index + count)
                if self._own(cluster):
                    break
                olds.append(cluster)
                count += 1
        else:
            entries = table.entries
            while count < wanted and entries[index + count] & ~ZERO == 0:
                count += 1
        if core.external:
            host, got = guest, count
        else:
            start, got = core.refcounts.allocate(count)
            host = start << mapping.cluster_bits
        try:
            self._put(host, guest, data[: got * size])
        except BaseException:
            if not core.external:
                core.refcounts.release(host >> mapping.cluster_bits, got)
            raise
        mapping.store_run(table, index, got, host)
        for cluster in olds[:got]:
            self._give_up(cluster)
        return got * size

    def _part_of_cluster(
        self, table: L2Table, index: int, inside: int, guest: int, data: memoryview | FileRange
    ) -> int:
        """Write into one cluster that isn't ready for it, and fill what it gains besides from below."""
        core, mapping = self.core, self.core.mapping
        size, sub = mapping.cluster_size, mapping.subcluster_size
        part = in_memory(data[: size - inside])
        cluster = mapping.cluster(table, index)
        base = guest - inside
        own = self._own(cluster)
        low, high = inside // sub * sub, -(-(inside + len(part)) // sub) * sub
        if not own and cluster.present and cluster.allocated:
            low, high = 0, size  # moves to another cluster, with all that it holds
        fresh = False
        if own:
            host = cluster.host
        elif core.external:
            host = base
        else:
            start, _ = core.refcounts.allocate(1)
            host = start << mapping.cluster_bits
            fresh = host >= core.file.length() and not core.file.fixed_length and core.cipher is None
        try:
            if fresh and self.reads_zero(base + low, high - low):
                self._put(host + inside, guest, part)  # the rest is a hole of the file
            else:
                whole = bytearray(high - low)
                self.reader.read(core.tables, base + low, memoryview(whole))
                whole[inside - low : inside - low + len(part)] = part
                self._put(host + low, base + low, memoryview(whole))
        except BaseException:
            if not own and not core.external:
                core.refcounts.release(host >> mapping.cluster_bits, 1)
            raise
        touched = (1 << high // sub) - (1 << low // sub)
        keep = 0 if cluster.packed else cluster.allocated
        mapping.store(table, index, host, keep | touched, cluster.zero & ~touched, present=True)
        if not own:
            self._give_up(cluster)
        return len(part)

    def reads_zero(self, offset: int, length: int) -> bool:
        """Whether the tables alone say that the range reads as zeroes."""
        core = self.core
        return all(
            run.kind == ZEROES or (run.kind == HOLE and self._nothing_below(run.offset))
            for run in core.mapping.runs(core.tables, offset, length)
        )

    def _nothing_below(self, offset: int) -> bool:
        backing = self.core.backing
        return backing is None or offset >= backing.length()

    def _give_up(self, cluster: Cluster, *, punch: bool = False) -> None:
        """Free what an entry pointed at, once the file doesn't say so any more."""
        core = self.core
        if not cluster.present or core.external:
            return
        if cluster.packed:
            first, count = core.mapping.packed_clusters(cluster.host)
            core.refcounts.defer(first, count)
        else:
            core.refcounts.defer(cluster.host >> core.mapping.cluster_bits, 1, punch=punch)

    # --- zeroes ---

    def write_zeroes(self, offset: int, length: int, *, unmap: bool) -> None:
        """Zeroes as flags of entries where whole (sub)clusters are meant, as data elsewhere."""
        core, mapping = self.core, self.core.mapping
        if not length:
            return
        core.begin_write()
        core.note_dirty(offset, length)
        end = offset + length
        unit = mapping.subcluster_size
        start = -(-offset // unit) * unit
        # A unit that the disk's end cuts counts as whole: nobody sees the rest.
        stop = -(-end // unit) * unit if end == core.length() else end // unit * unit
        if start >= stop:
            self._plain_zeroes(offset, end)
        else:
            self._plain_zeroes(offset, start)
            self._mapped_zeroes(start, stop, unmap)
            self._plain_zeroes(min(stop, end), end)
        core.commit_if_pressed()

    def _plain_zeroes(self, start: int, end: int) -> None:
        """Zeroes as data, where the range doesn't read as zeroes already."""
        core = self.core
        while start < end:
            part = min(end - start, _ZERO_STEP)
            for run in list(core.mapping.runs(core.tables, start, part)):
                if run.kind != ZEROES and not (run.kind == HOLE and self._nothing_below(run.offset)):
                    self.write(run.offset, memoryview(bytes(run.length)))
            start += part

    def map_zeroes(self, start: int, stop: int) -> None:
        """Let whole clusters read as zeroes, behind the disk's end too (version 3)."""
        self._mapped_zeroes(start, stop, True)

    def _mapped_zeroes(self, start: int, stop: int, unmap: bool) -> None:
        core, mapping = self.core, self.core.mapping
        flags = core.header.version >= 3
        if core.raw_external:
            core.data.write_zeroes(start, min(stop, max(start, core.data.length())) - start, unmap=unmap)
        while start < stop:
            number = start >> mapping.l1_shift
            end = min(stop, (number + 1) << mapping.l1_shift)
            nothing = self._nothing_below(start)
            if nothing and core.tables.get(number) is None:
                start = end
                continue
            if not flags and not nothing:
                self._plain_zeroes(start, min(end, core.length()))
                start = end
                continue
            table = core.tables.for_writing(number)
            while start < end:
                base = start & -mapping.cluster_size
                here = min(end, base + mapping.cluster_size)
                index = (start >> mapping.cluster_bits) & mapping.l2_mask
                if table.entries[index << mapping.extended] or not nothing or mapping.extended:
                    self._zero_cluster(table, index, base, start - base, here - base, unmap)
                start = here
            core.commit_if_pressed()

    def _zero_cluster(self, table: L2Table, index: int, base: int, low: int, high: int, unmap: bool) -> None:
        """Let subclusters [low, high) (bytes in the cluster) read as zeroes."""
        core, mapping = self.core, self.core.mapping
        cluster = mapping.cluster(table, index)
        sub = mapping.subcluster_size
        touched = (1 << high // sub) - (1 << low // sub)
        flags = core.header.version >= 3
        whole = touched == mapping.full
        if whole and not core.external and (unmap or not self._own(cluster)):
            zero = mapping.full if flags and (cluster.present or not self._nothing_below(base)) else 0
            mapping.store(table, index, 0, 0, zero if cluster.present else zero | cluster.zero, present=False)
            self._give_up(cluster, punch=unmap)
        elif not flags or cluster.packed or (cluster.present and not cluster.copied):
            self.write(base + low, memoryview(bytes(high - low)))  # no flag, or not ours to change
        else:
            mapping.store(
                table,
                index,
                cluster.host,
                cluster.allocated & ~touched,
                cluster.zero | touched,
                present=cluster.present,
            )

    # --- discards ---

    def discard(self, offset: int, length: int) -> None:
        """Unmap the whole clusters inside of the range."""
        core, mapping = self.core, self.core.mapping
        size = mapping.cluster_size
        end = offset + length
        start = -(-offset // size) * size
        stop = -(-end // size) * size if end == core.length() else end // size * size
        if start >= stop or (core.header.version < 3 and core.backing is not None):
            return  # (version 2 has nothing that could hide the backing file's old data)
        core.begin_write()
        core.note_dirty(start, min(stop, core.length()) - start)
        self.unmap(start, stop)
        core.commit_if_pressed()

    def unmap(self, start: int, stop: int, *, expose: bool = False) -> None:
        """Forget clusters. With `expose` what lies below appears, else they read as zeroes."""
        core, mapping = self.core, self.core.mapping
        if core.raw_external:
            end = min(stop, core.data.length())
            if end > start:
                core.data.write_zeroes(start, end - start)
        while start < stop:
            number = start >> mapping.l1_shift
            end = min(stop, (number + 1) << mapping.l1_shift)
            if core.tables.get(number) is None and (expose or self._nothing_below(start)):
                start = end
                continue
            table = core.tables.for_writing(number)
            while start < end:
                index = (start >> mapping.cluster_bits) & mapping.l2_mask
                zero = 0 if expose or self._nothing_below(start) else mapping.full
                if table.entries[index << mapping.extended] or zero or mapping.extended:
                    cluster = mapping.cluster(table, index)
                    if core.external and cluster.present and not core.raw_external:
                        core.data.discard(start, mapping.cluster_size)
                        zero = 0 if expose else mapping.full
                    mapping.store(table, index, 0, 0, zero, present=False)
                    self._give_up(cluster, punch=True)
                start += mapping.cluster_size
            core.commit_if_pressed()

    # --- compressed writes ---

    def store_packed(self, pieces: list[tuple[int, bytes]]) -> None:
        """Put compressed clusters (guest offset, bytes) one behind the other into the file, and link them."""
        done = 0
        while done < len(pieces):
            done += self._store_group(pieces[done:])

    def _store_group(self, pieces: list[tuple[int, bytes]]) -> int:
        """Store as many of `pieces` as fit into one run of host clusters. Gives their number."""
        core, size = self.core, self.core.mapping.cluster_size
        refcounts = core.refcounts
        sharing = refcounts.max >= 255  # narrow refcounts: a host cluster for each
        place = self.core.packed_end if sharing else 0
        room = -place % size
        uses: dict[int, int] = {}
        if room:
            uses[place // size] = before = refcounts.get(place // size)
            if not 0 < before < refcounts.max:
                room = 0
        total = sum(len(packed) for _, packed in pieces)
        limit = place + room
        first = got = 0
        if total > room:
            wanted = -(-(total - room) // size) if sharing else len(pieces)
            first, got = refcounts.allocate(wanted)
            if not room or first * size != limit:
                place, uses = first * size, {}
            limit = (first + got) * size
        old = dict(uses)
        group: list[tuple[int, int, bytes]] = []  # (guest, place, bytes)
        for guest, packed in pieces:
            if not sharing or uses.get(place // size, 0) >= refcounts.max:
                place = -(-place // size) * size
            if place + len(packed) > limit:
                break
            group.append((guest, place, packed))
            for cluster in range(place // size, (place + len(packed) - 1) // size + 1):
                uses[cluster] = uses.get(cluster, 0) + 1
            place += len(packed)
        try:
            if group:
                self._write_packed(group)
        except BaseException:
            if got:
                refcounts.release(first, got)
            raise
        for cluster in range(first, first + got):
            if uses.get(cluster, 0) == 0:
                refcounts.release(cluster, 1)
            elif uses[cluster] > 1:
                refcounts.add(cluster, 1, uses[cluster] - 1)
        for cluster, count in old.items():
            refcounts.add(cluster, 1, uses[cluster] - count)
        self.core.packed_end = place if group else 0
        mapping = core.mapping
        for guest, at, packed in group:
            table = core.tables.for_writing(guest >> mapping.l1_shift)
            index = (guest >> mapping.cluster_bits) & mapping.l2_mask
            cluster_before = mapping.cluster(table, index)
            mapping.store_packed(table, index, mapping.pack(at, len(packed)))
            self._give_up(cluster_before)
        return len(group)

    def _write_packed(self, group: list[tuple[int, int, bytes]]) -> None:
        file = self.core.file
        start = group[0][1]
        parts: list[bytes] = []
        end = start
        for _, at, packed in group:
            if at > end:
                parts.append(bytes(at - end))
            parts.append(packed)
            end = at + len(packed)
        data = b"".join(parts)
        if self.core.refcounts.guard.overlaps(start, len(data)):
            self._mark_corrupt(start)
        if self.core.checksums is not None:
            self.core.checksums.note(start, len(data))
        file.pwrite(start, data)
        whole = -(-end // 512) * 512  # descriptors count whole sectors
        if file.length() < whole and not file.fixed_length:
            file.resize(whole)
