"""Behaviours, pictures, operands and state: specs to IR and models."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator.ir.nodes import DECODE, Load, kind_of
from generator.load import load_target
from tests.generator.lower.ir_text import show, show_block
from tests.generator.lower.specs import form, kitchen, toy, toy_body

ISA = Path(__file__).resolve().parents[3] / "isa"


# --- statements and expressions


def test_an_assignment_reads_operands_where_it_stands() -> None:
    assert toy_body("rd = rs1 + rs2 * 3") == "x[$rd.n] = (x[$rs1.n] + (x[$rs2.n] * 3'32))"


def test_literals_take_the_other_sides_width_and_fold() -> None:
    assert toy_body("rd = 2 + 3 * 4") == "x[$rd.n] = 0xe'32"
    assert toy_body("rd = rs1 & ~0xff") == "x[$rd.n] = (x[$rs1.n] & 0xffffff00'32)"
    assert toy_body("rd = rs1 + -1") == "x[$rd.n] = (x[$rs1.n] + 0xffffffff'32)"


def test_first_begins_the_behaviours_below_it() -> None:
    enabled = "fn enabled() {\n    if flag == 0 { raise bad(1) }\n}\n"
    written = toy_body("enabled()\nrd = rs1", enabled)
    assert "raise" in written
    assert toy_body("rd = rs1", enabled + "first enabled()\n") == written
    assert toy_body("rd = rs1", enabled + "first enabled()\nfirst { }\n") == toy_body("rd = rs1")


def test_extensions_take_their_destinations_width() -> None:
    assert toy_body("let u : bits(33) = zext(rs1) + sext(rs2)\nrd = u[32:1]").splitlines() == [
        "let u:33 = (zext(x[$rs1.n], 33) + sext(x[$rs2.n], 33))",
        "x[$rd.n] = u[32:1]",
    ]


def test_slices_of_concatenations_and_extensions_disappear() -> None:
    assert toy_body("rd = (rs1 @ rs2)[31:0]") == "x[$rd.n] = x[$rs2.n]"
    assert toy_body("rd = zext(rs1, 64)[31:0]") == "x[$rd.n] = x[$rs1.n]"
    assert toy_body("rd = rs1[31:16] @ rs1[15:0]") == "x[$rd.n] = x[$rs1.n]"


def test_let_keeps_a_run_time_value_and_substitutes_a_decode_time_one() -> None:
    assert toy_body("let a = rs1\nlet b = rs2.n + 1\nrd = a + zext(b)").splitlines() == [
        "let a:32 = x[$rs1.n]",
        "x[$rd.n] = (a + zext(($rs2.n + 1'5), 32))",
    ]


def test_a_tuple_assignment_evaluates_all_right_sides_first() -> None:
    assert toy_body("(x[1], x[2]) = (x[2], x[1])").splitlines() == [
        "let value:32 = x[2'5]",
        "let value_2:32 = x[1'5]",
        "x[1'5] = value",
        "x[2'5] = value_2",
    ]


def test_slices_and_fields_are_written_by_merging() -> None:
    assert toy_body("word.low = 5") == "[word] = ([word][31:4] @ 5'4)"
    assert toy_body("word.top = 1") == "[word] = (1'1 @ [word][30:0])"
    assert toy_body("y[3][15:8] = 1") == "y[3'4] = (y[3'4][63:16] @ (1'8 @ y[3'4][7:0]))"


def test_memory_is_read_where_it_is_named_and_updated_at_one_address() -> None:
    assert toy_body("mem(8)[rs1 + 4] |= 1").splitlines() == [
        "let address:32 = (x[$rs1.n] + 4'32)",
        "load loaded:8 <- address (data, little=1'1, update)",
        "store address <- (loaded | 1'8) (data, little=1'1)",
    ]


def test_a_load_that_is_stored_back_later_is_an_update() -> None:
    lines = toy_body("let a = mem(32)[rs1]\nmem(32)[rs1] = a + 1").splitlines()
    assert lines[0].endswith("update)")
    assert not toy_body("let a = mem(32)[rs1]\nmem(32)[rs2] = a").splitlines()[0].endswith("update)")


def test_constant_decisions_leave_only_the_chosen_part() -> None:
    assert toy_body("if 1 == 2 { rd = nothing_such } else { rd = 1 }") == "x[$rd.n] = 1'32"


def test_match_is_a_chain_whose_last_arm_needs_no_condition() -> None:
    body = toy_body("rd = match mode { 0 => rs1\n1 => rs2\n2 => 7\n3 => 8 }")
    assert body == (
        "x[$rd.n] = select((%mode == 0'2), x[$rs1.n], "
        "select((%mode == 1'2), x[$rs2.n], select((%mode == 2'2), 7'32, 8'32)))"
    )


def test_functions_are_inlined_with_their_arguments_evaluated_once() -> None:
    declarations = "fn twice(a: bits(32)) -> bits(32) {\n    let b = a + a\n    return b ^ a\n}\n"
    assert toy_body("rd = twice(rs1 + 1)", declarations).splitlines() == [
        "let a:32 = (x[$rs1.n] + 1'32)",
        "let b:32 = (a + a)",
        "x[$rd.n] = (b ^ a)",
    ]


def test_generic_widths_are_inferred_from_arguments_and_results() -> None:
    declarations = "fn wide<w>(a: bits(w)) -> bits(w) = a + 1\nfn all<w>() -> bits(w) = ones(w)\n"
    assert toy_body("rd = wide(rs1) ^ all()", declarations) == "x[$rd.n] = not((x[$rs1.n] + 1'32))"


def test_early_returns_become_branches() -> None:
    declarations = (
        "fn f(a: bits(32)) -> bits(32) {\n    if a == 0 { raise bad(a) }\n"
        "    if a == 1 { return 5 }\n    return a\n}\n"
    )
    assert toy_body("rd = f(rs1)", declarations).splitlines() == [
        "let a:32 = x[$rs1.n]",
        "if (a == 0'32):",
        "    raise bad 2'64 (a)",
        "x[$rd.n] = select((a == 1'32), 5'32, a)",
    ]


def test_a_trap_in_one_branch_of_a_function_leaves_the_others_value() -> None:
    declarations = "fn f(a: bits(32)) -> bits(32) {\n    if a == 0 { return 1 } else { raise bad(a) }\n}\n"
    assert toy_body("rd = f(rs1)", declarations).splitlines() == [
        "let a:32 = x[$rs1.n]",
        "if (a != 0'32):",
        "    raise bad 2'64 (a)",
        "x[$rd.n] = 1'32",
    ]


def test_indices_of_single_bits_may_be_run_time_values() -> None:
    assert toy_body("flag = rs1[rs2[4:0]]") == "[flag] = (x[$rs1.n] >>u x[$rs2.n][4:0])[0:0]"


def test_pick_never_decides() -> None:
    assert (
        toy_body("rd = pick(mode == 1, rs1, rs2)") == "x[$rd.n] = pick((%mode == 1'2), x[$rs1.n], x[$rs2.n])"
    )


def test_shared_functions_see_registers_where_instructions_see_decode_time_values() -> None:
    target = toy("shared fn f() -> bits(32) {\n    pc = pc + 4\n    return zext(mode)\n}\n")
    (function,) = target.functions
    assert show_block(function.body).splitlines() == ["[pc] = ([pc] + 4'32)", "return zext([word][1:0], 32)"]


# --- the kitchen sink


def test_every_construct_lowers_for_both_targets() -> None:
    assert {f.name for f in kitchen("k64").forms} == {
        "addi",
        "beq",
        "b.x",
        "lw",
        "lwu",
        "add",
        "sub",
        "memory_op_8",
        "memory_op_32",
        "other",
        "sized_16",
        "sized_32",
        "call",
    }
    assert "lwu" not in {f.name for f in kitchen("k32").forms}


def test_operands_of_different_kinds_make_variants() -> None:
    add = form(kitchen(), "add")
    assert [v.choices for v in add.variants] == [(("b", 0),), (("b", 1),)]
    assert [show(v.condition) for v in add.variants if v.condition is not None] == [
        "not($b.b[12:12])",
        "($b.b[12:12] & ($b.b[11:0] != 0'12))",
    ]
    assert all(v.guard is not None and show(v.guard) == "[c]" for v in add.variants)


def test_lazy_flags_store_the_argument_of_their_definition() -> None:
    target = kitchen()
    body = show_block(form(target, "add").variants[0].body)
    assert "[zero_flag] = sum_2" in body
    register = next(r for r in target.registers if r.name == "zero_flag")
    assert register.lazy is not None and register.width == 64
    assert show(register.lazy.definition) == "(s == 0'64)"


def test_windows_index_the_physical_file() -> None:
    body = show_block(form(kitchen(), "sized_32").variants[0].body)
    assert "win[((zext([cwp], 7) * 0x10'7) + zext($i, 7))]" in body
    window = next(r for r in kitchen().registers if r.name == "win")
    assert (window.count, window.window and window.window.visible) == (128, 24)


def test_axes_over_a_context_condition_each_form() -> None:
    target = kitchen()
    conditions = [form(target, name).when for name in ("sized_16", "sized_32")]
    assert [show(c) for c in conditions if c is not None] == ["(%size == 0x10'7)", "(%size == 0x20'7)"]


def test_views_extend_where_they_say_so() -> None:
    body = show_block(form(kitchen(), "sized_32").variants[0].body).splitlines()
    assert body[0] == "gpr[$d.i] = zext((zext($p.i, 32) + zext($p.i[5:5], 32)), 64)"


def test_banks_become_functions_with_a_balanced_tree() -> None:
    target = kitchen()
    (bank,) = target.banks
    assert [(r.first, r.name, r.readable, r.writable) for r in bank.rows] == [
        (0x1, "status", True, True),
        (0x340, "scratch", True, True),
        *[(0x3B0 + n, f"row{n}", True, True) for n in range(4)],
        (0xF14, "hart", True, False),
    ]
    assert {f.name for f in target.functions} == {"find", "reset", "csr_read", "csr_write"}


def test_features_asked_for_are_contexts_over_one_register() -> None:
    target = kitchen()
    context = next(c for c in target.contexts if c.name == "has_Extra")
    assert context.value is not None and show(context.value) == "[features][1:1]"
    register = next(r for r in target.registers if r.name == "features")
    assert register.reset == 0b111  # Base, Extra, and More by implication


def test_pictures_texts_and_defaults() -> None:
    target = kitchen()
    beq = form(target, "beq")
    assert [(p.kind, p.name, p.high, p.low) for p in beq.picture if p.name == "to"] == [
        ("field", "to", 12, 12),
        ("field", "to", 10, 5),
        ("field", "to", 4, 1),
        ("field", "to", 11, 11),
    ]
    (text,) = form(target, "sized_16").texts
    hole = next(p for p in text.parts if not isinstance(p, str) and p.name == "f")
    assert (hole.prefix, hole.default, hole.format) == (", ", 7, "round")


def test_aliases_and_examples_depend_on_parameters() -> None:
    assert [a.use for a in kitchen("k64").aliases] == ["", "accept"]
    assert [a.use for a in kitchen("k32").aliases] == ["accept"]
    assert len(kitchen().aliases[-1].expansion) == 2
    assert kitchen().examples[0].bytes_ == bytes.fromhex("13051500")


# --- addresses of one shape

ADDRESSES = """
operand m (b: 8) : bits(64) {
    case 00 r:4 --   => y[r]
    case 01 r:4 i:2  => y[r] + (y[zext(i, 4)] << 2)
    case 10 d:6      => sext(d)
    case 11 r:4 d:2  => zext(d) + y[r]
}
insn t {
    bits 00000000 b:m rd rs1 000000
    exec rd = mem(32)[b + 8]
}
"""


def test_an_operand_of_one_address_shape_needs_no_variants() -> None:
    (only,) = toy(ADDRESSES).forms
    (operand,) = [o for o in only.operands if o.path == "b"]
    assert operand.linear is not None and operand.linear.register_file == "y"
    assert len(operand.linear.cases) == 4 and len(only.variants) == 1
    assert [show(c.base) for c in operand.linear.cases] == [
        "zext($b.b[5:2], 5)",
        "zext($b.b[5:2], 5)",
        "0x10'5",
        "zext($b.b[5:2], 5)",
    ]
    assert "y[$b.base]" in show_block(only.variants[0].body)
    load = only.variants[0].body[0]
    assert isinstance(load, Load) and kind_of(load.address) > DECODE


def test_registers_or_constants_alone_stay_choices() -> None:
    spec = ADDRESSES.replace("    case 01 r:4 i:2  => y[r] + (y[zext(i, 4)] << 2)\n", "").replace(
        "zext(d) + y[r]", "y[r]"
    )
    (only,) = toy(spec).forms
    assert all(o.linear is None for o in only.operands) and len(only.variants) == 3


# --- the families


@pytest.mark.parametrize("target", ["riscv32", "riscv64"])
def test_the_riscv_specs_load(target: str) -> None:
    model = load_target(ISA, "riscv", target)
    assert len(model.forms) > 200 and len({f.name for f in model.forms}) == len(model.forms)
