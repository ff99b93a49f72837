"""Every form with random operands: the evaluator against qemu-user.

Left out: what qemu-user cannot show (traps, privileged instructions), and window switches: see test_windows.
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
from tests.isa.sparc import peer
from tests.isa.sparc.machine import REGISTERS, evaluator, target
from tests.isa.words import corner, disagreements, layout, put, sample

EACH = 6  # cases of a form
LEFT_OUT = {"save", "restore", "return", "flushw"}
SPACES = {"load_alternate", "store_alternate", "ldda"}  # the peer's CPU has other address spaces
NUMBERS = [REGISTERS[name] for name in peer.NAMES]
ICC, XCC = ("n", "z", "v", "c"), ("xn", "xz", "xv", "xc")
PATHS = {(4, 8): 1, (4, 16): 3, (8, 12): 0, (16, 20): 2}  # pc and npc behind the word


def random_word(rng: random.Random, form: Form, memory: bool) -> int:
    pattern, mask, places = layout(form)
    word = rng.getrandbits(32) & ~mask | pattern
    classes = {operand.path: operand.operand_class for operand in form.operands}
    for name, bits in places.items():
        match classes.get(name):
            case "reg" if memory and name == "rs1":
                word = put(word, bits, REGISTERS["g1"])
            case "reg" if memory and name == "rd":
                word = put(word, bits, rng.choice([0, *NUMBERS[1:3], *NUMBERS[4:]]))  # pairs, but not %g4
            case "reg":
                word = put(word, bits, rng.choice([0, *NUMBERS]))
            case "ri" | "ri11" | "ri10":
                high = len(bits) - 1
                immediate = 1 << high | rng.choice(
                    [0, 1, (1 << high) - 1, 1 << high - 1, rng.getrandbits(high)]
                )
                word = put(word, bits, rng.choice([rng.choice([0, *NUMBERS]), immediate]))
            case "count5" | "count6" as kind:
                immediate = 1 << 12 | rng.getrandbits(int(kind[-1]))
                word = put(word, bits, rng.choice([rng.choice([0, *NUMBERS]), immediate]))
            case "address":  # %g1 and %g2, or %g1 and a number
                offset = 1 << 13 | 8 * rng.randrange(-2, 3) & 0x1FFF
                word = put(word, bits, REGISTERS["g1"] << 14 | rng.choice([REGISTERS["g2"], offset]))
            case str(kind) if kind.startswith("disp"):
                word = put(word, bits, peer.TAKEN // 4)
    return word


def random_case(rng: random.Random, name: str, form: Form, word: int, number: int, memory: bool) -> peer.Case:
    width = target(name).pc_width
    registers = [corner(rng, width) for _ in NUMBERS]
    if memory:
        registers[0] = peer.memory_address(number, width // 8) + 24
        registers[1] = 8 * rng.randrange(-2, 3) & (1 << width) - 1
    if form.mnemonic == "jmpl":
        registers[0], registers[1] = peer.word_address(number) + peer.TAKEN, 0
    codes = rng.choice([*peer.ADDENDS]) if width == 32 else rng.getrandbits(8)
    return peer.Case(word, registers, rng.getrandbits(32), codes, rng.randbytes(peer.MEMORY))


def execute(name: str, form: Form, case: peer.Case, number: int) -> peer.Case | None:
    """The evaluator's state after a case; None if it is another form, traps or jumps away."""
    machine = evaluator(name)
    width = machine.target.pc_width
    address, block = peer.word_address(number), peer.memory_address(number, width // 8)
    memory = SparseMemory(width)
    memory.map(address & ~0xFFF, 0x2000)
    memory.map(block & ~0xFFF, 0x2000)
    memory.poke(address, case.word.to_bytes(4))
    memory.poke(block, case.memory)
    state = reset_state(machine.target, memory)
    state.pc, state.contexts["npc"] = address, address + 4
    registers, file = state.registers, state.files["r"]
    for place, value in zip(NUMBERS, case.registers, strict=True):
        file[place] = value
    registers["y"] = case.y
    flags = ICC if width == 32 else XCC + ICC
    for bit, flag in enumerate(reversed(flags)):
        registers[flag] = case.codes >> bit & 1
    decoded = machine.decode(state)
    if not isinstance(decoded, Decoded) or decoded.form.name != form.name:
        return None
    if not isinstance(machine.execute(state, decoded), Completed):
        return None
    path = PATHS.get((state.pc - address, machine.context(state, "npc") - address))
    if path is None:
        return None
    codes = sum(registers[flag] << bit for bit, flag in enumerate(reversed(flags)))
    after = [file[place] for place in NUMBERS]
    return peer.Case(
        case.word, after, registers["y"], codes, memory.read(block, peer.MEMORY), path, file[REGISTERS["o7"]]
    )


@pytest.mark.parametrize("name", ["sparc", "sparc64"])
def test_every_form(name: str, require_tool: Callable[..., str], tmp_path: Path) -> None:
    tools = {tool: require_tool(f"sparc64-linux-gnu-{tool}") for tool in ("as", "ld")}
    tools["qemu"] = require_tool(f"qemu-{name}")
    rng = random.Random(name)

    def attempt(form: Form, memory: bool, number: int) -> tuple[peer.Case, peer.Case] | None:
        word = random_word(rng, form, memory)
        case = random_case(rng, name, form, word, number, memory)
        result = execute(name, form, case, number)
        return None if result is None else (case, result)

    shown = [f for f in target(name).forms if f.mnemonic not in LEFT_OUT and f.instruction not in SPACES]
    found = sample(shown, EACH, attempt)
    wrong = disagreements(found, peer.run(name, [case for _, case, _ in found], tools, tmp_path))
    forms = {form for form, _, _ in found}
    assert not wrong, f"{len(wrong)} of {len(found)}\n" + "\n".join(wrong[:20])
    assert len(forms) > (130 if name == "sparc64" else 68), len(forms)
