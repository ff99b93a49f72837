"""Every form with random operands: the evaluator against qemu-user (POWER8, and the 32-bit default).

Left out: what qemu-user cannot show (traps, invalid forms, jumps to absolute addresses), instructions on
several words (they would overwrite the harness), floating-point registers (the harness has none), and mtxer
(QEMU keeps reserved bits of XER; Book I 3.2.2 has them read as zeros).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from generator.ir.decode import Decoded
from generator.ir.evaluate import Completed
from generator.ir.state import SparseMemory, reset_state
from generator.model.target import Form
from tests.isa.ppc import peer
from tests.isa.ppc.machine import cr, evaluator, set_cr, set_xer, target, xer
from tests.isa.words import corner, disagreements, layout, put, sample

EACH = 6  # cases of a form
LEFT_OUT = {"lmw", "stmw", "dcbz", "mtxer", "stwcx.", "stdcx.", "stbcx.", "sthcx."}
OTHER_CPUS = {"vrsave", "pvr"}  # special registers that the peer's CPU lacks, or has with another value
POOL = range(3, 11)


def random_word(rng: random.Random, form: Form, memory: bool) -> int:
    pattern, mask, places = layout(form)
    word = rng.getrandbits(32) & ~mask | pattern
    classes = {operand.path: operand.operand_class for operand in form.operands}
    for name, bits in places.items():
        match classes.get(name):
            case "gpr" | "base":
                word = put(word, bits, 5 if memory and name == "rb" else rng.choice(POOL))
                if classes[name] == "base" and memory:
                    word = put(word, bits, 4)
                elif classes[name] == "base" and rng.random() < 0.3:
                    word = put(word, bits, 0)
            case "simm" if memory:
                word = put(word, bits, rng.randrange(-16, 17))
            case "disp4" if memory:
                word = put(word, bits, rng.randrange(-4, 5))
            case "to14" | "to24":
                word = put(word, bits, peer.TAKEN // 4)
    return word


def random_case(rng: random.Random, name: str, form: Form, word: int, number: int, memory: bool) -> peer.Case:
    width = target(name).pc_width
    registers = [corner(rng, width) for _ in POOL]
    special = {
        "xer": rng.getrandbits(3) << 29 | rng.getrandbits(7),
        "cr": rng.getrandbits(32),
        "ctr": rng.choice([0, 1, 2, corner(rng, width)]),
        "lr": corner(rng, width),
    }
    if memory:
        registers[1] = peer.memory_address(number, name) + 24
        registers[2] = rng.randrange(-16, 17) & (1 << width) - 1
    landing = peer.word_address(number) + peer.TAKEN + rng.randrange(4)
    if form.instruction.startswith(("bclr", "blr")):
        special["lr"] = landing
    if form.instruction.startswith(("bcctr", "bctr")):
        special["ctr"] = landing
    return peer.Case(word, registers, special, rng.randbytes(peer.MEMORY))


def execute(name: str, form: Form, case: peer.Case, number: int) -> peer.Case | None:
    """The evaluator's state after a case; None if it is another form, traps, is undefined or jumps away."""
    machine = evaluator(name)
    model = machine.target
    address, block = peer.word_address(number), peer.memory_address(number, name)
    memory = SparseMemory(model.pc_width)
    memory.map(address & ~0xFFF, 0x2000)
    memory.map(block & ~0xFFF, 0x2000)
    memory.poke(address, case.word.to_bytes(4, "big" if model.big_endian else "little"))
    memory.poke(block, case.memory)
    state = reset_state(model, memory)
    state.pc = address
    state.files["r"][3:11] = case.registers
    set_xer(state, case.special["xer"])
    set_cr(state, case.special["cr"])
    state.registers["ctr"], state.registers["lr"] = case.special["ctr"], case.special["lr"]
    decoded = machine.decode(state)
    if (
        not isinstance(decoded, Decoded)
        or decoded.form.name != form.name
        or machine.undefined(state, decoded)
    ):
        return None
    taken = {4: 0, peer.TAKEN: 1}
    if not isinstance(machine.execute(state, decoded), Completed) or state.pc - address not in taken:
        return None
    special = {"xer": xer(state), "cr": cr(state), "ctr": state.registers["ctr"], "lr": state.registers["lr"]}
    after = memory.read(block, peer.MEMORY)
    return peer.Case(case.word, state.files["r"][3:11], special, after, taken[state.pc - address])


def comparable(form: Form) -> bool:
    """Whether qemu-user can show what a form does."""
    if form.mnemonic in LEFT_OUT or form.mnemonic.removeprefix("mf").removeprefix("mt") in OTHER_CPUS:
        return False
    return all(operand.operand_class != "fpr" for operand in form.operands)


@pytest.mark.parametrize("name", ["ppc", "ppc64", "ppc64le"])
def test_every_form(name: str, require_tool: Callable[..., str], tmp_path: Path) -> None:
    tools = {tool: require_tool(f"powerpc-linux-gnu-{tool}") for tool in ("as", "ld")}
    tools["qemu"] = require_tool(f"qemu-{name}")
    rng = random.Random(name)

    def attempt(form: Form, memory: bool, number: int) -> tuple[peer.Case, peer.Case] | None:
        word = random_word(rng, form, memory)
        case = random_case(rng, name, form, word, number, memory)
        result = execute(name, form, case, number)
        return None if result is None else (case, result)

    found = sample((form for form in target(name).forms if comparable(form)), EACH, attempt)
    wrong = disagreements(found, peer.run(name, [case for _, case, _ in found], tools, tmp_path))
    forms = {form for form, _, _ in found}
    assert not wrong, f"{len(wrong)} of {len(found)}\n" + "\n".join(wrong[:20])
    assert len(forms) > (230 if name != "ppc" else 180), len(forms)
