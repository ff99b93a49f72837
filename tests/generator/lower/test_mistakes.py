"""Wrong specs: what is said about them, that all of it is said at once, and that nothing crashes."""

from __future__ import annotations

import random
import re

import pytest

from generator.errors import SpecErrors
from generator.language.source import Source
from generator.load import load_sources
from tests.generator.lower.specs import HEADER, HEADER_LINES, KITCHEN, insn, mistakes


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ("rd = rs1[15:0]", "this has 16 bits, but 32 are wanted here"),
        ("rd = rs1 + rs2[15:0]", "`+` of 32 bits and 16 bits"),
        ("rd = rs1 == rs2[15:0] ? 1 : 2", "`==` of 32 bits and 16 bits"),
        ("rd = 0x100000000", "0x100000000 does not fit in 32 bits"),
        ("rd = rs3", "there is no `rs3` here"),
        ("let a = 5", "how wide is this number?"),
        ("let a = zext(rs1)", "`zext` to how many bits?"),
        ("rd = rs1 @ 5", "how wide is this part of the concatenation?"),
        ("if rs1 { rd = 1 }", "a condition is 1 bit, and this has 32"),
        ("rd = rs1[3:8]", "the slice 3:8 is upside down"),
        ("rd = zext(rs1[32])", "there is no bit 32 in a value of 32 bits"),
        ("rd = mem(24)[rs1]", "memory is accessed by 8, 16, 32, 64 or 128 bits, not by 24"),
        (
            "rd = flag == 1 ? mem(32)[rs1] : 0",
            "a memory access, call or assignment in a part that only sometimes runs",
        ),
        ("pc = 4", "`pc` cannot be assigned"),
        ("rd.n = 4", "the field `rd.n` cannot be assigned"),
        ("raise worse(1)", "there is no trap `worse`"),
        ("raise bad()", "trap `bad` takes 1 argument, not 0"),
        ("rd = match mode { 0 => 1\n1 => 2 }", "this `match` leaves out 2 of 4 values"),
        ("rd = match mode { 0 => 1\n0 => 2\nelse => 3 }", "0 has an arm already"),
        ("goto rs1[15:0]", "this has 16 bits, but 32 are wanted here"),
        ("rd = x", "`x` is a register file"),
        ("rd = x[32]", "`x` has the entries 0 to 31, not 32"),
        ("rd = x[rs1]", "an index of 32 bits into `x`, which has 32 entries"),
        ("rd = word.middle", "`word` has no field `middle`"),
        ("return 3", "`return` stands in functions only"),
        ("for i : bits(2) in 0..4 { rd = 1 }", "4 does not fit in 2 bits"),
        ("rd = rs1 / rs2", "`/` is for constants"),
        ("let (a, b) = rs1", "2 names for 1 value"),
        ("rd = fadd(33, rs1, rs2, 0)", "`fadd` knows no width of 33"),
    ],
)
def test_a_wrong_statement_says_what_is_wrong(statements: str, message: str) -> None:
    assert message in mistakes(insn(statements))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("insn t {\n    bits 0000000\n}\n", "the picture has 7 bits, which is no multiple of 32"),
        ('insn t {\n    asm "t"\n}\n', "`t` has no encoding"),
        ("insn t {\n    bits rd rd rd rd rd rd 00\n}\n", "a bit of `rd` is placed twice"),
        ("insn t {\n    bits q rd rd 0\n}\n", "how many bits has `q`?"),
        (
            "insn t[op, a] {\n    bits a:32\n} each {\n    t, 1, 2\n}\n",
            "this row has 3 columns, and the header 2",
        ),
        (
            "insn t[op, a] {\n    bits a:32\n} each {\n    t, rs1 + 1\n}\n",
            "the column `a` is no number in this row",
        ),
        (
            'insn t {\n    bits k:32\n    asm "t {j}"\n    exec {}\n}\n',
            "there is no `j` that this text could print",
        ),
        ('insn t {\n    bits k:32\n    asm "t {k"\n    exec {}\n}\n', "a single `{` in a text"),
        ("insn t {\n    bits k:32\n    needs Zip\n}\n", "there is no feature `Zip`"),
        ("reg flag : bits(2)\n", "`flag` is declared twice"),
        (
            "fn f() -> bits(32) {\n    if flag { return 1 }\n}\n" + insn("rd = f()"),
            "`f` does not return a value on every path",
        ),
        ("fn f(a: bits(32)) -> bits(32) = f(a)\n" + insn("rd = f(rs1)"), "`f` calls itself"),
        (
            'operand o (n: 4) {\n    case 111 "x"\n}\ninsn t {\n    bits o:o k:28\n}\n',
            "this case has 3 bits, and `o` has 4",
        ),
        ('regs z[4] : bits(32) names "a b c"\n', "3 names for 4 registers"),
        ("context a : bits(1) = b\ncontext b : bits(1) = a\n", "the context `a` is derived from itself"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(text: str, message: str) -> None:
    assert message in mistakes(text)


def test_mistakes_of_several_statements_rows_and_items_are_all_reported() -> None:
    text = insn("rd = nowhere\nrd = rs1[3:8]\nlet a = nowhere_else\nrd = a") + "reg flag : bits(3)\n"
    assert mistakes(text) == [
        "there is no `nowhere` here",
        "the slice 3:8 is upside down",
        "there is no `nowhere_else` here",
        "`flag` is declared twice",
    ]


def test_a_mistake_shows_its_line_with_a_caret_and_a_remedy() -> None:
    with pytest.raises(SpecErrors) as caught:
        load_sources([Source("toy.isa", HEADER + insn("rd = rs3 + 1"))], "toy")
    line = HEADER_LINES + 4
    assert caught.value.diagnostics[0].render().splitlines() == [
        f"toy.isa:{line}:6: error: there is no `rs3` here",
        f"   {line} | rd = rs3 + 1",
        "      |      ^^^",
        "      = did you mean `rs2`?",
    ]


def test_a_mistake_inside_a_function_says_where_it_is_called() -> None:
    with pytest.raises(SpecErrors) as caught:
        text = HEADER + "fn f<w>(a: bits(w)) -> bits(w) = a + x[1]\n" + insn("rd = zext(f(rs1[7:0]))")
        load_sources([Source("toy.isa", text)], "toy")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == "`+` of 8 bits and 32 bits"
    assert [label for _, label in diagnostic.related] == ["called here"]


def test_the_same_mistake_in_many_rows_is_reported_once_with_the_first_row() -> None:
    text = "insn t[op, n] {\n    bits n:32\n    exec nowhere = 1\n} each {\n    a, 1\n    b, 2\n}\n"
    with pytest.raises(SpecErrors) as caught:
        load_sources([Source("toy.isa", HEADER + text)], "toy")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.context == ("row `a`",)


DEEP = {
    "sum": "rd = " + " + ".join(["rs1"] * 20000),
    "parentheses": "rd = " + "(" * 5000 + "rs1" + ")" * 5000,
    "complements": "rd = " + "~" * 20000 + "rs1",
    "conditionals": "rd = " + "rs1 == 0 ? 1 : " * 3000 + "2",
    "otherwise": "if rs1 == 1 { rd = 2 } else " * 2000 + "{ rd = 3 }",
    "digits": "rd = " + "9" * 100000,
    "shift": "rd = 1 << 99999999999",
    "part": "rd = rs1.99999999",
    "loop": "for i : bits(32) in 0..4000000000 { rd = i }",
}


@pytest.mark.parametrize("name", DEEP)
def test_absurd_behaviours_are_mistakes(name: str) -> None:
    assert mistakes(insn(DEEP[name]))


def test_behaviours_that_explode_are_mistakes() -> None:
    functions = "fn f0(x: bits(32)) -> bits(32) = x + 1\n" + "".join(
        f"fn f{i}(x: bits(32)) -> bits(32) = f{i - 1}(x) ^ f{i - 1}(x + 1)\n" for i in range(1, 40)
    )
    assert mistakes(functions + insn("rd = f39(rs1)")) == ["this behaviour inlines more than 20000 calls"]


TOKENS = re.findall(r"\s+|\w+|[^\w\s]", KITCHEN)
INSERTED = [
    "0",
    "99999999999999999999",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    '"',
    "\0",
    "é",
    "0x",
    "mem",
    "<",
    "@",
    "..",
    "bits(0)",
    "bits(99999)",
    "1 << 4000",
    ".7",
]


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_a_spec_ends_in_a_model_or_in_messages(seed: int) -> None:
    chance = random.Random(seed)
    tokens = list(TOKENS)
    match seed % 4:
        case 0:
            tokens = tokens[: chance.randrange(len(tokens))]
        case 1:
            for _ in range(3):
                del tokens[chance.randrange(len(tokens))]
        case 2:
            one, other = chance.randrange(len(tokens)), chance.randrange(len(tokens))
            tokens[one], tokens[other] = tokens[other], tokens[one]
        case _:
            tokens.insert(chance.randrange(len(tokens)), chance.choice(INSERTED))
    try:
        load_sources([Source("kitchen.isa", "".join(tokens))], "k64")
    except SpecErrors as errors:
        assert all(d.location.line >= 1 and d.render() for d in errors.diagnostics)
