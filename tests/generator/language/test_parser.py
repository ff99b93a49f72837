"""Text to syntax trees: statement ends, places, recovery."""

from __future__ import annotations

from generator.errors import Diagnostic
from generator.language import syntax
from generator.language.parser import parse
from generator.language.source import Source


def parsed(text: str) -> tuple[list[syntax.Item], list[Diagnostic]]:
    diagnostics: list[Diagnostic] = []
    return parse(Source("t.isa", text), diagnostics), diagnostics


def function(body: str) -> syntax.FnItem:
    items, diagnostics = parsed(f"fn f() {{\n{body}\n}}\n")
    assert not diagnostics, diagnostics[0].render()
    (item,) = items
    assert isinstance(item, syntax.FnItem)
    return item


def test_newlines_end_statements_but_not_inside_brackets_or_behind_operators() -> None:
    body = function(
        "a = b +\n  c\nd = (e\n  + f)\ng = h[\n1\n]  # comment\n\n# more\ni = j\n  ? k\n  : l"
    ).body.body
    assert len(body) == 4


def test_a_backslash_joins_lines() -> None:
    assert len(function("a = b \\\n  + c").body.body) == 1


def test_newlines_count_again_inside_braces_inside_parentheses() -> None:
    (statement,) = function("a = (match b {\n 0 => c\n 1 => d\n}) ^ e").body.body
    assert isinstance(statement, syntax.AssignStmt) and isinstance(statement.value, syntax.BinaryOp)
    assert isinstance(statement.value.left, syntax.MatchOf) and len(statement.value.left.arms) == 2


def test_precedence() -> None:
    (statement,) = function("a = b | c & d == e + f << 1").body.body
    assert isinstance(statement, syntax.AssignStmt)
    comparison = statement.value
    assert isinstance(comparison, syntax.BinaryOp) and comparison.op == "=="
    assert isinstance(comparison.left, syntax.BinaryOp) and comparison.left.op == "|"
    shift = comparison.right
    assert isinstance(shift, syntax.BinaryOp) and shift.op == "<<"


def test_keywords_are_names_where_no_keyword_can_stand() -> None:
    (statement,) = function("next = features.rest + unit.mem").body.body
    assert isinstance(statement, syntax.AssignStmt)


def test_nodes_know_their_places() -> None:
    (statement,) = function("first = second[3:1] + third(4)").body.body
    assert isinstance(statement, syntax.AssignStmt) and isinstance(statement.value, syntax.BinaryOp)
    source = statement.at.source
    texts = [
        source.text[n.at.start : n.at.end] for n in (statement, statement.value.left, statement.value.right)
    ]
    assert texts == ["first = second[3:1] + third(4)", "second[3:1]", "third(4)"]


def test_each_broken_item_is_reported_and_the_others_are_parsed() -> None:
    items, diagnostics = parsed("reg a : bits(\nreg b : bits(1)\nreg c ; bits(1)\nreg d : bits(1)\n")
    assert [i.name for i in items if isinstance(i, syntax.RegItem)] == ["b", "d"]
    assert [(d.location.line, d.location.column) for d in diagnostics] == [(2, 1), (3, 7)] or [
        d.location.line for d in diagnostics
    ] == [1, 3]


def test_an_unfinished_item_is_called_so() -> None:
    _, diagnostics = parsed("reg a : bits(1)\ninsn t {\n    bits 0000\n")
    assert [d.message for d in diagnostics] == ["this item is not finished"]


def test_a_text_without_an_end() -> None:
    _, (diagnostic,) = parsed('feature A "without an end\nreg a : bits(1)\n')
    assert diagnostic.remedy == "a text ends on the line where it begins"


def test_deep_nesting_and_size_are_limited() -> None:
    assert "nest deeper" in parsed("reg a : bits(" + "(" * 300 + ")" * 300 + ")")[1][0].message
    assert "characters" in parsed("#" * 5_000_000)[1][0].message
