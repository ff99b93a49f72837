"""The boards `virt` and `virt32`: described, started, deterministic; firmware that we didn't write runs."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from isagen import ConsoleTimeout, Machine
from isagen.generated import is_built
from isagen.machine import build
from machines.machine import Ending
from machines.settings import load_settings, settings_from
from runtime.errors import IsagenError
from runtime.state.snapshot import Snapshot, SnapshotError
from tests.machines.boards import HELLO, POWER_OFF, board, text_of

UBOOT = Path("/usr/lib/u-boot/qemu-riscv64/u-boot.bin")
UBOOT_SUPERVISOR = Path("/usr/lib/u-boot/qemu-riscv64_smode/uboot.elf")
OPENSBI = Path("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin")


@pytest.mark.parametrize("name", ("virt", "virt32"))
def test_a_program_prints_and_ends_the_machine(tmp_path, name):
    machine = board(tmp_path, HELLO, board=name)
    text = text_of(machine)
    outcome = machine.machine.run(10_000)
    assert outcome.ending is Ending.OFF and outcome.status == 0
    assert text == b"Hi"


def test_each_hart_gets_its_number_and_the_tree(tmp_path):
    """Hart n writes n and the tree's magic to words of its own; the last one to arrive ends the machine."""
    machine = board(
        tmp_path,
        """
        li    t0, 0x80100000
        slli  t1, a0, 3
        add   t1, t1, t0
        lw    t2, 0(a1)
        sw    t2, 4(t1)
        sw    a0, 0(t1)
        addi  t3, zero, 1
        addi  t0, t0, 0x100
        amoadd.w t4, t3, (t0)
        addi  t5, zero, 3
        beq   t4, t5, last
wait:   wfi
        j     wait
last:
"""
        + POWER_OFF,
        smp=4,
    )
    assert machine.machine.run(100_000).ending is Ending.OFF
    memory = machine.machine.memory
    for hart in range(4):
        place = 0x80100000 + 8 * hart
        assert int.from_bytes(memory.read(place, 4), "little") == hart
        assert memory.read(place + 4, 4) == b"\xd0\x0d\xfe\xed"


TIMER = (
    """
        li    s0, 0x2004000         # mtimecmp of hart 0
        li    s1, 0x200bff8         # mtime
        ld    t0, 0(s1)
        lui   t1, 0x2
        add   t0, t0, t1            # 8192 ticks: 819 us
        sd    t0, 0(s0)
        addi  t2, zero, 0x80
        csrrs zero, mie, t2
        wfi
        csrrs s2, mip, zero
        csrrs s3, time, zero
        li    t3, 0x80100000
        sd    s2, 0(t3)
        sd    s3, 8(t3)
        sd    t0, 16(t3)
"""
    + POWER_OFF
)


@pytest.mark.parametrize(("clock", "threads"), [("host", "turns"), ("counted", "turns"), ("host", "host")])
def test_waiting_ends_when_the_timer_goes_off(tmp_path, clock, threads):
    machine = board(tmp_path, TIMER, clock=clock, threads=threads)
    assert machine.machine.run(100_000).ending is Ending.OFF
    words = machine.machine.memory.read(0x80100000, 24)
    pending, now, due = (int.from_bytes(words[n : n + 8], "little") for n in (0, 8, 16))
    assert pending & 0x80 and due <= now < due + 10_000_000
    if clock == "counted":
        assert now < due + 100


@pytest.mark.parametrize("threads", ["turns", "host"])
def test_code_that_another_hart_writes_is_seen(tmp_path, threads):
    """Hart 1 runs a function over and over until hart 0 has replaced its first instruction."""
    machine = board(
        tmp_path,
        """
        li    s0, 0x80100000
        bne   a0, zero, other
ready:  lw    t0, 0(s0)             # hart 1 has run the function many times
        addi  t1, zero, 100
        blt   t0, t1, ready
        la    t2, function
        lw    t3, 4(t2)
        sw    t3, 0(t2)             # its second instruction over its first
        addi  t4, zero, 1
        sw    t4, 8(s0)
done:   wfi
        j     done
other:  addi  s1, zero, 0
again:  addi  s1, s1, 1
        sw    s1, 0(s0)
        addi  a1, zero, 0
        jal   ra, function
        fence.i
        addi  t1, zero, 2
        bne   a1, t1, again
"""
        + POWER_OFF
        + """
function:
        addi  a1, a1, 0
        addi  a1, a1, 1
        jalr  zero, 0(ra)
""",
        smp=2,
        threads=threads,
    )
    assert machine.machine.run(None if threads == "host" else 10_000_000).ending is Ending.OFF


def test_a_fence_of_another_mode_empties_what_was_filled_since_the_last(tmp_path):
    """Supervisor mode fences and reads through a page; machine mode maps another one there and fences."""
    machine = board(
        tmp_path,
        """
        la    t0, handler
        csrw  mtvec, t0
        addi  t0, zero, -1          # all memory for supervisor mode
        csrw  pmpaddr0, t0
        addi  t0, zero, 0x1f
        csrw  pmpcfg0, t0
        li    s0, 0x80200000        # the root: a table for 0, itself a gigapage at 2 GiB
        li    t0, 0x20080401        # table at 0x80201000
        sd    t0, 0(s0)
        li    t0, 0x200000cf
        sd    t0, 16(s0)
        li    s1, 0x80201000
        li    t0, 0x201000cf        # 0 is 0x80400000
        sd    t0, 0(s1)
        li    t0, 0x80400000
        addi  t1, zero, 11
        sw    t1, 0(t0)
        li    t0, 0x80600000
        addi  t1, zero, 22
        sw    t1, 0(t0)
        li    t0, 0x80200
        addi  t1, zero, 8
        slli  t1, t1, 60
        or    t0, t0, t1
        csrw  satp, t0
        la    t0, supervisor
        csrw  mepc, t0
        li    t0, 0x800
        csrw  mstatus, t0
        mret
supervisor:
        sfence.vma
        lw    s2, 0(zero)
        ecall
        lw    s3, 0(zero)
        addi  a7, zero, 1
        ecall
handler:
        bne   a7, zero, over
        li    t0, 0x201800cf        # 0 is 0x80600000
        sd    t0, 0(s1)
        sfence.vma
        csrr  t0, mepc
        addi  t0, t0, 4
        csrw  mepc, t0
        mret
over:
"""
        + POWER_OFF,
    )
    assert machine.machine.run(100_000).ending is Ending.OFF
    cpu = machine.machine.harts[0].cpu
    assert (cpu.get("x18"), cpu.get("x19")) == (11, 22)


def test_the_counted_clock_repeats_itself(tmp_path):
    runs = []
    for _ in range(2):
        machine = board(tmp_path, TIMER, clock="counted", seed=1)
        machine.machine.run(100_000)
        hart = machine.machine.harts[0]
        runs.append((machine.machine.executed, bytes(hart.cpu.state), machine.machine.clock.now()))
    assert runs[0] == runs[1]


def test_a_reset_starts_over(tmp_path):
    machine = board(
        tmp_path,
        """
        lui   t0, 0x100
        lui   t1, 0x7
        addi  t1, t1, 0x777
        sw    t1, 0(t0)
hang:   j     hang
""",
    )
    machine.machine.restarts = False
    assert machine.machine.run(10_000).ending is Ending.RESET
    machine.machine.restarts = True
    assert machine.machine.run(10_000).ending is Ending.LIMIT


@pytest.mark.parametrize("smp", (1, 8))
def test_dtc_accepts_the_tree(tmp_path, require_tool, smp):
    dtc = require_tool("dtc")
    machine = board(tmp_path, HELLO, smp=smp, append='console=ttyS0 x="y"')
    tree = tmp_path / "tree.dtb"
    tree.write_bytes(machine.device_tree((0x81000000, 0x82000000)))
    done = subprocess.run(
        [dtc, "-I", "dtb", "-O", "dts", str(tree)], capture_output=True, text=True, check=True
    )
    assert "Warning" not in done.stderr, done.stderr
    assert (
        'compatible = "riscv-virtio"' in done.stdout and "linux,initrd-end = <0x00 0x82000000>" in done.stdout
    )
    assert done.stdout.count('device_type = "cpu"') == smp


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"board": "pc"}, "board"),
        ({"board": "virt", "memory": "12x"}, "no size"),
        ({"board": "virt", "smp": 9}, "smp"),
        ({"board": "virt", "colour": 1}, "colour"),
        ({"board": "virt", "drive": [{"path": "x", "queues": 0}]}, "drive.0.queues"),
    ),
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(IsagenError, match=message):
        settings_from(settings)


def test_a_machine_from_a_file(tmp_path):
    file = tmp_path / "machine.toml"
    file.write_text('board = "virt"\nmemory = "64M"\nkernel = "Image"\n[[drive]]\npath = "a.qcow2"\n')
    settings = load_settings(file)
    assert settings.memory == 64 << 20 and settings.kernel == tmp_path / "Image"
    assert settings.drive[0].path == tmp_path / "a.qcow2"
    file.write_text("board = ")
    with pytest.raises(IsagenError, match="no TOML"):
        load_settings(file)


def firmware(path: Path, package: str) -> str:
    from tests.conftest import absent

    if not path.exists():
        absent(f"the package {package}")
    return str(path)


def test_uboot_reaches_its_prompt_in_machine_mode(uboot_machine):
    talk(uboot_machine({"bios": firmware(UBOOT, "u-boot-qemu")}))


def test_uboot_reaches_its_prompt_on_opensbi(uboot_machine):
    kernel = firmware(UBOOT_SUPERVISOR, "u-boot-qemu")
    text = talk(uboot_machine({"bios": firmware(OPENSBI, "opensbi"), "kernel": kernel}))
    assert b"OpenSBI" in text and b"Domain0 Next Mode         : S-mode" in text


def test_uboot_reaches_its_prompt_on_our_sbi(uboot_machine):
    kernel = firmware(UBOOT_SUPERVISOR, "u-boot-qemu")
    talk(uboot_machine({"bios": "sbi", "kernel": kernel, "smp": 2}))


# --- our SBI ------------------------------------------------------------------------------------------------

PAYLOAD = """
# In supervisor mode: start hart 1 with 42, have it interrupted and fenced, and keep what the calls return.
_start: li    s0, 0x80300000
        mv    s1, a0
        li    a7, 0x10              # base: probe HSM
        li    a6, 3
        li    a0, 0x48534d
        ecall
        sw    a0, 0(s0)
        sw    a1, 4(s0)
        li    a7, 0x48534d          # HSM: start hart 1
        li    a6, 0
        li    a0, 1
        la    a1, second
        li    a2, 42
        ecall
        sw    a0, 8(s0)
        li    a0, 7                 # a hart that isn't there
        la    a1, second
        ecall
        sw    a0, 12(s0)
wait:   lw    t0, 32(s0)
        beqz  t0, wait
        li    a7, 0x735049          # IPI to hart 1
        li    a6, 0
        li    a0, 2
        li    a1, 0
        ecall
        sw    a0, 16(s0)
wait2:  lw    t0, 36(s0)
        beqz  t0, wait2
        li    a7, 0x52464e43        # remote fences on all
        li    a6, 1
        li    a0, 0
        li    a1, -1
        ecall
        sw    a0, 20(s0)
        li    a7, 0x99              # nothing of that number
        ecall
        sw    a0, 24(s0)
        csrsi sie, 0
        li    t0, 0x20
        csrs  sie, t0
        csrr  a0, time              # the timer
        addi  a0, a0, 500
        li    a7, 0x54494d45
        li    a6, 0
        ecall
tick:   wfi
        csrr  t0, sip
        andi  t0, t0, 0x20
        beqz  t0, tick
        li    a7, 0x4442434e        # the console
        li    a6, 0
        li    a0, 3
        la    a1, text
        li    a2, 0
        ecall
        sw    a1, 28(s0)
        li    a7, 0x53525354        # off
        li    a6, 0
        li    a0, 0
        li    a1, 0
        ecall
text:   .ascii "ok!"
        .balign 4
second: li    s0, 0x80300000
        sw    a0, 40(s0)
        sw    a1, 32(s0)
        csrsi sie, 2
idle:   wfi
        csrr  t0, sip
        andi  t0, t0, 2
        beqz  t0, idle
        csrci sip, 2
        sw    t0, 36(s0)
        j     idle
"""


@pytest.mark.parametrize("name", ("virt", "virt32"))
def test_our_sbi_answers(tmp_path, name):
    from isagen.cli import main

    target = {"virt": "riscv64", "virt32": "riscv32"}[name]
    if not is_built(target):
        main(["build", target])
    source, image = tmp_path / "payload.s", tmp_path / "payload.bin"
    code = PAYLOAD.replace(
        "csrr  a0, time ", "csrr  a0, time " if name == "virt" else "csrr  a1, timeh\n        csrr  a0, time "
    )
    source.write_text(code)
    base = {"virt": "0x80200000", "virt32": "0x80400000"}[name]
    assert main(["asm", "--base", base, "--raw", "-o", str(image), target, str(source)]) == 0
    settings = {"board": name, "bios": "sbi", "kernel": str(image), "smp": 2, "clock": "counted"}
    machine = build(settings_from(settings))
    text = text_of(machine)
    assert machine.machine.run(10_000_000).ending is Ending.OFF
    words = [
        int.from_bytes(machine.machine.memory.read(0x80300000 + n, 4), "little", signed=True)
        for n in range(0, 44, 4)
    ]
    assert words == [0, 1, 0, -3, 0, 0, -2, 3, 42, 2, 1]
    assert text == b"ok!"


@pytest.fixture
def uboot_machine():
    return lambda settings: build(settings_from({"board": "virt", "clock": "counted", "seed": 1, **settings}))


def talk(machine) -> bytes:
    """Wait for the prompt, let U-Boot compute a checksum of the reset ROM, and power off."""
    text = text_of(machine)
    for _ in range(60):
        machine.machine.run(10_000_000)
        if b"Hit any key" in text:
            break
    machine.serial.feed(b"\ncrc32 1000 20\npoweroff\n")
    assert machine.machine.run(2_000_000_000).ending is Ending.OFF, text.decode(errors="replace")
    import zlib

    assert f"==> {zlib.crc32(machine.machine.memory.read(0x1000, 0x20)):08x}".encode() in text
    return bytes(text)


# --- snapshots ----------------------------------------------------------------------------------------------


def outcome_of(board, text) -> tuple[object, ...]:
    """What the rest of a run leads to."""
    start = len(text)
    ending = board.machine.run(3_000_000)
    harts = [bytes(hart.cpu.state) for hart in board.machine.harts]
    return ending, harts, board.machine.clock.now(), bytes(text[start:])


@pytest.fixture
def paused(uboot_machine):
    """U-Boot on OpenSBI, in the middle of its start."""
    kernel = firmware(UBOOT_SUPERVISOR, "u-boot-qemu")
    machine = uboot_machine({"bios": firmware(OPENSBI, "opensbi"), "kernel": kernel})
    text = text_of(machine)
    machine.machine.run(18_000_000)
    return machine, text


def test_a_restored_machine_goes_on_exactly(paused, tmp_path):
    machine, text = paused
    snapshot = machine.machine.snapshot()
    first = outcome_of(machine, text)
    machine.machine.restore(snapshot)
    assert outcome_of(machine, text) == first
    file = tmp_path / "state"
    snapshot.save(file)
    other = build(machine.settings)
    other_text = text_of(other)
    other.machine.restore(Snapshot.load(file))
    assert outcome_of(other, other_text) == first


def test_a_snapshot_of_another_machine_is_refused(paused):
    machine, _ = paused
    snapshot = machine.machine.snapshot()
    other = build(machine.settings.model_copy(update={"smp": 2, "memory": 64 << 20}))
    with pytest.raises(SnapshotError, match=r"board.smp \(1 there, 2 here\).*memory"):
        other.machine.restore(snapshot)


def test_a_snapshot_of_another_build_is_refused(paused, tmp_path):
    machine, _ = paused
    snapshot = machine.machine.snapshot()
    before = bytes(machine.machine.harts[0].cpu.state)
    for field, message in (
        ("target", "target"),
        ("spec", "layout of registers"),
        ("code", "build of the target"),
    ):
        build = snapshot.state.build.model_copy(update={field: "other"})
        file = tmp_path / field
        images = {name: (os.dup(opened), at) for name, (opened, at) in snapshot._images.items()}
        Snapshot(snapshot.state.model_copy(update={"build": build}), images).save(file)
        with pytest.raises(SnapshotError, match=rf"{message} \(other there, "):
            machine.machine.restore(Snapshot.load(file))
    assert bytes(machine.machine.harts[0].cpu.state) == before
    (tmp_path / "old").write_bytes(b"isagen machine 1\n" + file.read_bytes()[17:4096])
    with pytest.raises(SnapshotError, match="another version"):
        Snapshot.load(tmp_path / "old")


def test_damage_is_detected(paused, tmp_path):
    machine, _ = paused
    file = tmp_path / "state"
    machine.machine.snapshot().save(file)
    size = file.stat().st_size
    generator = random.Random(3)
    with file.open("r+b") as damaged:
        places = [0, 20, 40, 300]
        while len(places) < 24:
            place = generator.randrange(size)
            damaged.seek(place)
            places += [place] if damaged.read(1) != b"\0" else []
        for place in places:
            damaged.seek(place)
            good = damaged.read(1)
            for value in (good[0] ^ 0x10, good[0]):
                damaged.seek(place)
                damaged.write(bytes([value]))
                damaged.flush()
                if value != good[0]:
                    with pytest.raises(SnapshotError):
                        Snapshot.load(file)
        Snapshot.load(file)
        for length in (size // 2, 100, 25, 10, 0):
            damaged.truncate(length)
            with pytest.raises(SnapshotError):
                Snapshot.load(file)


@pytest.mark.parametrize("smp", (1, 3))
def test_how_a_run_is_cut_makes_no_difference(uboot_machine, smp):
    """Runs of odd lengths, with snapshots in between that another machine takes over: the same state."""
    kernel = firmware(UBOOT_SUPERVISOR, "u-boot-qemu")
    settings = {"bios": firmware(OPENSBI, "opensbi"), "kernel": kernel, "smp": smp}
    whole = uboot_machine(settings)
    whole_text = text_of(whole)
    whole.machine.run(24_000_000)
    cut = uboot_machine(settings)
    cut_text = text_of(cut)
    generator = random.Random(smp)
    total = 24_000_000
    while total:
        part = min(total, generator.choice((1, 7, 1000, 70_001, 3_333_333)))
        assert cut.machine.run(part).ending is Ending.LIMIT
        total -= part
        if generator.random() < 0.1:
            snapshot = cut.machine.snapshot()
            cut.machine.close()
            cut = uboot_machine(settings)
            cut.serial.output = cut_text.extend
            cut.machine.restore(snapshot)
    states = [
        (
            [(bytes(hart.cpu.state), hart.cpu.pc, hart.spent, hart.waiting) for hart in board.machine.harts],
            board.machine.clock.now(),
            board.machine.spent,
        )
        for board in (whole, cut)
    ]
    assert states[0] == states[1] and whole_text == cut_text


def test_translated_code_gives_the_same_run(uboot_machine):
    """With the counted clock the tier is invisible: state, time and console are alike to the instruction."""
    kernel = firmware(UBOOT_SUPERVISOR, "u-boot-qemu")
    runs = []
    for translated in (False, True):
        machine = uboot_machine({"bios": firmware(OPENSBI, "opensbi"), "kernel": kernel})
        text = text_of(machine)
        (hart,) = machine.machine.harts
        if translated:
            hart.cpu.translate()
        machine.machine.run(60_000_000)
        runs.append((bytes(hart.cpu.state), hart.cpu.pc, machine.machine.clock.now(), bytes(text)))
        hart.cpu.close()
    assert runs[0] == runs[1]


# --- from Python --------------------------------------------------------------------------------------------


def test_a_machine_is_talked_to_from_python():
    kernel = firmware(UBOOT_SUPERVISOR, "u-boot-qemu")
    with Machine("virt", bios="sbi", kernel=kernel, clock="counted", seed=1) as machine:
        machine.console.expect("Hit any key", limit=400_000_000)
        machine.console.send("\n")
        machine.console.expect("=> ", limit=200_000_000)
        saved = machine.snapshot()
        machine.console.send("crc32 1000 20\n")
        first = machine.console.expect(r"==> (\w+)", limit=10_000_000)
        child = machine.fork()
        machine.restore(saved)
        machine.console.send("crc32 1000 20\n")
        assert machine.console.expect(r"==> (\w+)", limit=10_000_000)[1] == first[1]
        assert child.registers()["pc"] and child.read(0x1000, 4) == machine.read(0x1000, 4)
        child.close()
        with pytest.raises(ConsoleTimeout, match="didn't appear"):
            machine.console.expect("no such text", limit=1_000_000)
        machine.console.send("poweroff\n")
        with pytest.raises(ConsoleTimeout, match=r"the machine ended \(off\)"):
            machine.console.expect("no such text")
