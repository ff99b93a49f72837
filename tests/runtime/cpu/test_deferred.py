"""What of a template may be made later."""

from runtime.cpu.translator.deferred import ENTRY, MANY, deferral_of, reaches
from runtime.cpu.translator.template import Template


def template(text: str, *, ends: tuple[str, ...] = ("next",)) -> Template:
    text = text.replace("@", "\x01").replace("<", "\x02").replace(">", "\x03")
    return Template(1, 16, text, ((2, "register"),), (2,), (2,), (), (8, 16), ends, (), False, 0, 0, ())


SUBTRACTION = """@a:
%@b = load i64, ptr %g<r2>, align 8
%@c = sub i64 %@b, <n4>
store i64 %@c, ptr %g<r2>, align 8
%@d = lshr i64 %@c, 63
store i64 %@d, ptr %g8, align 8
store i64 0, ptr %g16, align 8
<end next>
"""


def test_flags_are_made_of_what_was_read():
    found = deferral_of(template(SUBTRACTION))
    assert found is not None
    assert found.leaves == {"b": "i64"}
    assert list(found.lines.values()) == [
        "%%%(p)sc = sub i64 %%%(p)sb, %(s4)s",
        "%%%(p)sd = lshr i64 %%%(p)sc, 63",
    ]
    assert found.values == {8: "%%%(p)sd", 16: "0"}
    assert found.needs == {8: {"b", "c", "d"}, 16: set()}


def test_branches_and_what_they_lead_to_stay():
    branching = SUBTRACTION.replace("<end next>", "br i1 true, label %@x, label %@x\n@x:\n<end next>")
    assert deferral_of(template(branching)) is None
    assert deferral_of(template(SUBTRACTION.replace("<end next>", "<end taken0>"), ends=("taken0",))) is None


def test_results_of_calls_stay():
    called = SUBTRACTION.replace("%@d = lshr i64 %@c, 63", "\x07sf_add\x04%@d\x04@e\x04i64 %@b\x06")
    found = deferral_of(template(called))
    assert found is not None and set(found.values) == {16}


def test_who_wrote_last():
    #        0 -> 1 -> 2 -> 1, 2 -> 3; 1 writes the register 8, 3 writes 16
    writes = {1: {8: 7}, 3: {16: 9}}
    before, after = reaches([[1], [2], [1, 3], []], [0], [8, 16], lambda number: writes.get(number, {}))
    assert before[0] == {8: ENTRY, 16: ENTRY}
    assert before[1] == {8: MANY, 16: ENTRY}
    assert before[2] == after[1] == {8: 7, 16: ENTRY}
    assert after[3] == {8: 7, 16: 9}
