"""Lark's reductions to syntax-tree nodes: one method a grammar rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lark import Token, Transformer

from generator.language import syntax as s
from generator.language.source import Pos, Source

MAX_DIGITS = 2500
TOO_LARGE = 1 << 8200  # stands for numbers with more digits: it fits nowhere


def number(text: str, base: int = 10) -> int:
    """The value of digits; those of absurdly many are not computed."""
    return int(text, base) if len(text) <= MAX_DIGITS else TOO_LARGE


def unquote(token: Token) -> str:
    return str(token)[1:-1]


def _start(child: Any) -> int:
    """Where a token, node or sequence of them starts; -1: it has no place."""
    if isinstance(child, Token):
        return child.start_pos or 0
    if isinstance(child, s.Node):
        return child.at.start
    if isinstance(child, (list, tuple)):
        for part in child:
            at = _start(part)
            if at >= 0:
                return at
    return -1


def _end(child: Any) -> int:
    if isinstance(child, Token):
        return (child.start_pos or 0) + len(child)
    if isinstance(child, s.Node):
        return child.at.end
    if isinstance(child, (list, tuple)):
        for part in reversed(child):
            at = _end(part)
            if at >= 0:
                return at
    return -1


class _Attr(s.Node):
    """A key and a value on their way to the item that carries them."""

    __slots__ = ("key", "value")

    def __init__(self, at: Pos, key: str, value: Any) -> None:
        super().__init__(at)
        self.key = key
        self.value = value


def _collect(attributes: list[Any]) -> dict[str, Any]:
    """Attributes by key; a repeated key keeps the last."""
    return {a.key: a.value for a in attributes}


class TreeBuilder(Transformer[Token, Any]):
    """Builds the tree of `source`."""

    def __init__(self) -> None:
        super().__init__()
        self.source = Source("", "")

    def _at(self, children: Sequence[Any]) -> Pos:
        """From the first child's start to the last one's end."""
        return Pos(self.source, _start(children), _end(children))

    def _token_at(self, token: Token) -> Pos:
        start = token.start_pos or 0
        return Pos(self.source, start, start + len(token))

    def _ident(self, token: Token) -> s.Ident:
        return s.Ident(self._token_at(token), str(token))

    # --- lists -------------------------------------------------------------------------------

    def start(self, c: list[Any]) -> list[s.Item]:
        items: list[s.Item] = []
        for child in c:
            if isinstance(child, list):
                items.extend(child)
            elif isinstance(child, s.Node):
                items.append(child)  # type: ignore[arg-type]
        return items

    def names(self, c: list[Any]) -> tuple[s.Ident, ...]:
        return tuple(self._ident(t) for t in c)

    def exprs(self, c: list[Any]) -> tuple[s.Expr, ...]:
        return tuple(c)

    # --- what is described -------------------------------------------------------------------

    def attr_flag(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), str(c[0]), True)

    def attr_value(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), str(c[0]), str(c[1]))

    def isa(self, c: list[Any]) -> s.IsaItem:
        values = _collect(c[1:])
        return s.IsaItem(
            self._token_at(c[0]),
            str(c[0]),
            tuple(k for k, v in values.items() if v is True),
            {k: v for k, v in values.items() if v is not True},
        )

    def set(self, c: list[Any]) -> s.SetItem:
        values = _collect(c[1:-1])
        return s.SetItem(
            self._token_at(c[0]),
            str(c[0]),
            tuple(k for k, v in values.items() if v is True),
            {k: v for k, v in values.items() if v is not True},
            c[-1],
        )

    def binding(self, c: list[Any]) -> tuple[s.Ident, s.Expr]:
        return self._ident(c[0]), c[1]

    def target(self, c: list[Any]) -> s.TargetItem:
        attributes = _collect([x for x in c if isinstance(x, _Attr)])
        bindings = tuple(x for x in c if isinstance(x, tuple))
        return s.TargetItem(
            self._token_at(c[0]),
            str(c[0]),
            bindings,
            attributes.get("elf"),
            attributes.get("features", ()),
            attributes.get("gdb", ""),
        )

    def target_elf(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "elf", (number(c[0]), number(c[1]), str(c[2] or "")))

    def target_features(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "features", c[0])

    def target_gdb(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "gdb", unquote(c[0]))

    def param(self, c: list[Any]) -> s.ParamItem:
        return s.ParamItem(self._token_at(c[0]), str(c[0]), c[1])

    def featureattr(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), str(c[0]), c[1])

    def feature(self, c: list[Any]) -> s.FeatureItem:
        attributes = _collect(c[2:])
        return s.FeatureItem(
            self._token_at(c[0]),
            str(c[0]),
            unquote(c[1]) if c[1] else "",
            attributes.get("requires", ()),
            attributes.get("excludes", ()),
            attributes.get("implies", ()),
        )

    def cpu(self, c: list[Any]) -> s.CpuItem:
        name, title, like, features = c
        return s.CpuItem(
            self._token_at(name), unquote(name), unquote(title), unquote(like) if like else "", features or ()
        )

    def section(self, c: list[Any]) -> s.SectionItem:
        return s.SectionItem(self._at(c), c[0])

    def first(self, c: list[Any]) -> s.FirstItem:
        return s.FirstItem(self._at(c), self._as_block(c[0]))

    def only(self, c: list[Any]) -> s.OnlyItem:
        return s.OnlyItem(self._at(c), c[0])

    def little(self, c: list[Any]) -> s.LittleItem:
        return s.LittleItem(self._at(c), c[0])

    def enum(self, c: list[Any]) -> s.EnumItem:
        rows = tuple(x for x in c[2:] if isinstance(x, s.EnumRowNode))
        return s.EnumItem(self._token_at(c[0]), str(c[0]), c[1], rows, self._accepted(c[-1]))

    def enumrow(self, c: list[Any]) -> s.EnumRowNode:
        return s.EnumRowNode(
            self._token_at(c[0]), str(c[0]), c[1], unquote(c[2]) if c[2] is not None else None
        )

    def trap(self, c: list[Any]) -> s.TrapItem:
        return s.TrapItem(self._token_at(c[0]), str(c[0]), c[1] or (), c[2], unquote(c[3]) if c[3] else "")

    # --- state -------------------------------------------------------------------------------

    def regs(self, c: list[Any]) -> s.RegItem:
        return self._register(c[0], c[2], c[1], (), c[3:])

    def reg(self, c: list[Any]) -> list[s.RegItem]:
        names, type_, fields, *attributes = c
        return [self._register(n, type_, None, fields or (), attributes) for n in names]

    def _register(
        self,
        name: Any,
        type_: s.Type,
        count: s.Expr | None,
        fields: tuple[s.FieldDef, ...],
        attributes: list[Any],
    ) -> s.RegItem:
        at = name.at if isinstance(name, s.Ident) else self._token_at(name)
        label = name.name if isinstance(name, s.Ident) else str(name)
        return s.RegItem(at, label, type_, count, fields, **_collect(attributes))

    def fields(self, c: list[Any]) -> tuple[s.FieldDef, ...]:
        return tuple(x for x in c if isinstance(x, s.FieldDef))

    def fielddef(self, c: list[Any]) -> s.FieldDef:
        return s.FieldDef(self._at(c), str(c[0]), c[1], c[2])

    def reg_zero(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "zero", number(c[0]))

    def reg_names(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "names", unquote(c[0]))

    def reg_accept(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "accept", self._accepted(c[1]))

    def _accepted(self, token: Token | None) -> s.TextNode | None:
        return None if token is None else s.TextNode(self._token_at(token), "", unquote(token))

    def reg_lazy(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "lazy", s.LazyDef(self._at(c), str(c[0]), c[1], c[2]))

    def reg_window(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "window", (str(c[0]), number(c[1]), number(c[2])))

    def reg_reset(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "reset", c[0])

    def reg_hidden(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "hidden", True)

    def vindex(self, c: list[Any]) -> s.Param:
        return s.Param(self._at(c), str(c[0]), c[1])

    def view_simple(self, c: list[Any]) -> tuple[s.ViewCase, ...]:
        return (s.ViewCase(self._at(c), None, c[0], None),)

    def view_cases(self, c: list[Any]) -> tuple[s.ViewCase, ...]:
        return tuple(x for x in c if isinstance(x, s.ViewCase))

    def vcase(self, c: list[Any]) -> s.ViewCase:
        return s.ViewCase(self._at(c), c[0], c[1], str(c[2]) if c[2] else None)

    def view(self, c: list[Any]) -> s.ViewItem:
        return s.ViewItem(self._token_at(c[0]), str(c[0]), c[1] or (), c[2], c[3], c[4])

    def genargs(self, c: list[Any]) -> tuple[str, ...]:
        return tuple(i.name for i in c[0])

    def bank(self, c: list[Any]) -> s.BankItem:
        name, index, index_type, type_, otherwise, *rows = c
        return s.BankItem(
            self._token_at(name),
            str(name),
            s.Param(self._token_at(index), str(index), index_type),
            type_,
            self._as_block(otherwise),
            tuple(x for x in rows if isinstance(x, s.BankRowNode)),
        )

    def bankrow(self, c: list[Any]) -> s.BankRowNode:
        attributes = _collect(c[3:])
        return s.BankRowNode(
            self._at(c),
            c[0],
            c[1],
            str(c[2]),
            attributes.get("when"),
            attributes.get("needs", ()),
            attributes.get("read"),
            attributes.get("write"),
        )

    def bank_when(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "when", c[0])

    def bank_needs(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "needs", c[0])

    def bank_read(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "read", c[0])

    def bank_write(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "write", self._as_block(c[0]))

    def context(self, c: list[Any]) -> s.ContextItem:
        a = _collect(c[2:])
        return s.ContextItem(
            self._token_at(c[0]), str(c[0]), c[1], a.get("is"), a.get("next"), a.get("rest"), a.get("in", ())
        )

    def ctx_is(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "is", c[0])

    def ctx_next(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "next", c[0])

    def ctx_rest(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "rest", c[0])

    def ctx_domain(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "in", c[0])

    def prefix(self, c: list[Any]) -> s.PrefixItem:
        return s.PrefixItem(
            self._token_at(c[0]), str(c[0]), tuple(x for x in c[1:] if isinstance(x, s.PrefixRowNode))
        )

    def prow(self, c: list[Any]) -> s.PrefixRowNode:
        picture, name, value, *attributes = c
        when = next((a.value for a in attributes if a.key == "when"), None)
        accept = next((a.value for a in attributes if a.key == "accept"), None)
        flags = tuple(a.key for a in attributes if a.key not in ("when", "accept"))
        return s.PrefixRowNode(self._at(c), picture, str(name), value, flags, when, accept)

    def prefix_flag(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), str(c[0]), True)

    def prefix_accept(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "accept", self._accepted(c[1]))

    def prefix_when(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "when", c[0])

    def bits_type(self, c: list[Any]) -> s.Type:
        return s.Type(self._at(c), (c[0],))

    def bool_type(self, c: list[Any]) -> s.Type:
        at = self._at(c)
        return s.Type(at, (s.Number(at, 1, None),))

    def tuple_type(self, c: list[Any]) -> s.Type:
        return s.Type(self._at(c), tuple(w for t in c for w in t.widths), is_tuple=True)

    # --- operands ----------------------------------------------------------------------------

    def operand(self, c: list[Any]) -> list[s.OperandItem]:
        names, generics, fields, type_, (simple, cases) = c
        return [
            s.OperandItem(n.at, n.name, generics or (), fields or (), type_, cases, simple) for n in names
        ]

    def opfields(self, c: list[Any]) -> tuple[tuple[s.Ident, s.Expr], ...]:
        return tuple(c)

    def opfield(self, c: list[Any]) -> tuple[s.Ident, s.Expr]:
        return self._ident(c[0]), c[1]

    def op_simple(self, c: list[Any]) -> tuple[bool, tuple[s.CaseNode, ...]]:
        return True, (s.CaseNode(self._at(c), None, None, tuple(c[1:]), c[0]),)

    def op_cases(self, c: list[Any]) -> tuple[bool, tuple[s.CaseNode, ...]]:
        return False, tuple(x for x in c if isinstance(x, s.CaseNode))

    def asmtext(self, c: list[Any]) -> s.TextNode:
        use, dialect, text = c
        return s.TextNode(self._token_at(text), str(dialect or ""), unquote(text), str(use or ""))

    def casetexts(self, c: list[Any]) -> tuple[s.TextNode, ...]:
        return (self.asmtext([None, None, c[0]]), *c[1:])

    def accepted_text(self, c: list[Any]) -> s.TextNode:
        return self.asmtext(c)

    def other_text(self, c: list[Any]) -> s.TextNode:
        return self.asmtext([None, *c])

    def opcase(self, c: list[Any]) -> s.CaseNode:
        return s.CaseNode(self._at(c), c[1], c[2], c[3] or (), c[4])

    # --- instructions ------------------------------------------------------------------------

    def rows(self, c: list[Any]) -> s.RowsItem:
        return s.RowsItem(self._token_at(c[0]), str(c[0]), tuple(x for x in c[1:] if isinstance(x, s.Row)))

    def mnemonic(self, c: list[Any]) -> s.Ident:
        token = c[0]
        return s.Ident(self._token_at(token), unquote(token) if token.type == "STRING" else str(token))

    def formals(self, c: list[Any]) -> tuple[s.Ident, ...]:
        names: tuple[s.Ident, ...] = c[0]
        return names

    def axis_values(self, c: list[Any]) -> s.Axis:
        return s.Axis(self._at(c), self._ident(c[0]), None, (), c[1])

    def axis_pairs(self, c: list[Any]) -> s.Axis:
        bit, name, *pairs = c
        return s.Axis(
            self._at(c),
            self._ident(name),
            self._ident(bit),
            tuple(p[0] for p in pairs),
            tuple(p[1] for p in pairs),
        )

    def axpair(self, c: list[Any]) -> tuple[s.Expr, s.Expr]:
        return c[0], c[1]

    def each_rows(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "rows", tuple(x for x in c if isinstance(x, s.Row)))

    def each_name(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "name", self._ident(c[0]))

    def row(self, c: list[Any]) -> s.Row:
        return s.Row(self._at(c), c[0], tuple(c[1:]))

    def insn(self, c: list[Any]) -> s.InsnItem:
        name, formals, *rest = c
        each = rest.pop()
        item = s.InsnItem(name.at, name, formals or (), tuple(x for x in rest if isinstance(x, s.Axis)))
        clauses = [x for x in rest if isinstance(x, _Attr)]

        def all_of(key: str) -> tuple[Any, ...]:
            return tuple(x.value for x in clauses if x.key == key)

        item.bits, item.texts, item.whens = all_of("bits"), all_of("asm"), all_of("when")
        item.needs = tuple(n for names in all_of("needs") for n in names)
        item.guards, item.allows, item.undefined = all_of("guard"), all_of("allow"), all_of("undefined")
        item.before = tuple(n for names in all_of("before") for n in names)
        item.restartable = bool(all_of("restartable"))
        item.doc = "\n".join(all_of("doc"))
        item.execs = all_of("exec")
        if each is not None:
            if each.key == "rows":
                item.rows = each.value
            else:
                item.rows_name = each.value
        return item

    def bits_clause(self, c: list[Any]) -> _Attr:
        at = self._at(c)
        return _Attr(at, "bits", s.BitsClause(at, c[0], c[1] or ()))

    def asm_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "asm", self.asmtext(c))

    def when_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "when", c[0])

    def needs_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "needs", c[0])

    def guard_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "guard", c[0])

    def allow_clause(self, c: list[Any]) -> _Attr:
        at = self._at(c)
        return _Attr(at, "allow", s.AllowClause(at, c[0], c[1]))

    def undefined_clause(self, c: list[Any]) -> _Attr:
        at = self._at(c)
        return _Attr(at, "undefined", s.UndefinedClause(at, c[0], c[1]))

    def before_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "before", tuple(c))

    def restartable_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "restartable", True)

    def doc_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "doc", unquote(c[0]))

    def exec_clause(self, c: list[Any]) -> _Attr:
        return _Attr(self._at(c), "exec", self._as_block(c[0]))

    def withs(self, c: list[Any]) -> tuple[tuple[s.Ident, s.OperandRef], ...]:
        return tuple(c)

    def withdef(self, c: list[Any]) -> tuple[s.Ident, s.OperandRef]:
        return self._ident(c[0]), c[1]

    def picture(self, c: list[Any]) -> s.Picture:
        return s.Picture(self._at(c), tuple(c))

    def pic_no_prefix(self, c: list[Any]) -> s.PicNoPrefix:
        return s.PicNoPrefix(self._at(c))

    def pic_bits(self, c: list[Any]) -> s.PicFixed:
        return s.PicFixed(self._at(c), len(c[0]), int(c[0], 2), False)

    def pic_byte(self, c: list[Any]) -> s.PicFixed:
        return s.PicFixed(self._at(c), 8, int(c[0], 16), True)

    def pic_ignored(self, c: list[Any]) -> s.PicIgnored:
        return s.PicIgnored(self._at(c), len(c[0]), 0)

    def pic_should_be(self, c: list[Any]) -> s.PicIgnored:
        return s.PicIgnored(self._at(c), len(c[0]), int(c[0], 2))

    def pic_appended(self, c: list[Any]) -> s.PicAppended:
        return s.PicAppended(self._at(c))

    def pic_field(self, c: list[Any]) -> s.PicField:
        return s.PicField(self._at(c), str(c[0]), c[1] or (), c[2])

    def raw_width(self, c: list[Any]) -> s.Expr:
        return s.Number(self._at(c), number(c[0]), None)

    def raw_width_expr(self, c: list[Any]) -> Any:
        return c[0]

    def operand_ref(self, c: list[Any]) -> s.OperandRef:
        return s.OperandRef(self._at(c), str(c[0]), c[1] or ())

    def slice(self, c: list[Any]) -> tuple[tuple[int, int], ...]:
        return tuple(c)

    def range(self, c: list[Any]) -> tuple[int, int]:
        first = number(c[0])
        return first, number(c[1]) if c[1] is not None else first

    def alias(self, c: list[Any]) -> s.AliasItem:
        use, dialect, text, expansion, when, unless = c
        return s.AliasItem(
            self._at(c),
            str(use or ""),
            str(dialect or ""),
            s.TextNode(self._token_at(text), "", unquote(text)),
            s.TextNode(self._token_at(expansion), "", unquote(expansion)),
            when,
            None if unless is None else s.TextNode(self._token_at(unless), "", unquote(unless)),
        )

    def example(self, c: list[Any]) -> s.ExampleItem:
        dialect, text, data, when = c
        return s.ExampleItem(
            self._at(c),
            str(dialect or ""),
            s.TextNode(self._token_at(text), "", unquote(text)),
            bytes.fromhex(str(data)),
            when,
        )

    def debug(self, c: list[Any]) -> s.DebugItem:
        rows = tuple(x for x in c[1:] if isinstance(x, s.DebugRow))
        return s.DebugItem(self._at(c), s.TextNode(self._token_at(c[0]), "", unquote(c[0])), rows)

    def debugrow(self, c: list[Any]) -> s.DebugRow:
        name, names, is_float = c
        text = None if names is None else s.TextNode(self._token_at(names), "", unquote(names))
        return s.DebugRow(self._token_at(name), self._ident(name), text, is_float is not None)

    # --- behaviour ---------------------------------------------------------------------------

    def fn(self, c: list[Any]) -> s.FnItem:
        shared, name, generics, params, result, restartable, body = c
        if not isinstance(body, s.BlockStmt):
            body = s.BlockStmt(body.at, (s.ReturnStmt(body.at, body),))
        return s.FnItem(
            self._token_at(name),
            str(name),
            shared is not None,
            generics or (),
            params or (),
            result,
            body,
            restartable is not None,
        )

    def pdecls(self, c: list[Any]) -> tuple[s.Param, ...]:
        return tuple(c)

    def pdecl(self, c: list[Any]) -> s.Param:
        return s.Param(self._at(c), str(c[0]), c[1])

    def _as_block(self, node: Any) -> s.BlockStmt:
        return node if isinstance(node, s.BlockStmt) else s.BlockStmt(node.at, (node,))

    def block(self, c: list[Any]) -> s.BlockStmt:
        return s.BlockStmt(self._at(c), tuple(x for x in c[1:] if isinstance(x, s.Node)))  # type: ignore[misc]

    def lhs(self, c: list[Any]) -> tuple[bool, tuple[s.Ident, ...]]:
        return len(c) > 1, tuple(self._ident(t) for t in c)

    def let(self, c: list[Any]) -> s.LetStmt:
        _, (is_tuple, names), type_, value = c
        return s.LetStmt(self._at(c), names, is_tuple, type_, value)

    def var(self, c: list[Any]) -> s.VarStmt:
        return s.VarStmt(self._at(c), self._ident(c[1]), c[2], c[3])

    def return_(self, c: list[Any]) -> s.ReturnStmt:
        return s.ReturnStmt(self._at(c), c[1])

    def assign(self, c: list[Any]) -> s.AssignStmt:
        return s.AssignStmt(self._at(c), c[0], str(c[1])[:-1], c[2])

    def if_(self, c: list[Any]) -> s.IfStmt:
        otherwise = None if c[3] is None else self._as_block(c[3])
        return s.IfStmt(self._at(c), c[1], c[2], otherwise)

    def match_stmt(self, c: list[Any]) -> s.MatchStmt:
        return s.MatchStmt(self._at(c), c[1], tuple(x for x in c[1:] if isinstance(x, s.StmtArm)))

    def stmtarm(self, c: list[Any]) -> s.StmtArm:
        return s.StmtArm(self._at(c), c[0], self._as_block(c[1]))

    def patterns(self, c: list[Any]) -> tuple[Any, ...]:
        return tuple(None if x is _OTHERWISE else x for x in c)

    def otherwise(self, c: list[Any]) -> Any:
        return _OTHERWISE

    def goto(self, c: list[Any]) -> s.GotoStmt:
        return s.GotoStmt(self._at(c), c[1], c[2] is not None, c[3])

    def annul(self, c: list[Any]) -> Any:
        return c[0]

    def skip(self, c: list[Any]) -> s.SkipStmt:
        return s.SkipStmt(self._at(c), c[1])

    def raise_(self, c: list[Any]) -> s.RaiseStmt:
        return s.RaiseStmt(self._at(c), self._ident(c[1]), c[2] or ())

    def for_range(self, c: list[Any]) -> s.ForRangeStmt:
        return s.ForRangeStmt(self._at(c), self._ident(c[1]), c[2], c[3], c[4], c[5])

    def for_set(self, c: list[Any]) -> s.ForSetStmt:
        return s.ForSetStmt(self._at(c), self._ident(c[1]), c[2], c[3], c[4])

    def atomic(self, c: list[Any]) -> s.AtomicStmt:
        return s.AtomicStmt(self._at(c), c[1], c[2])

    def call_stmt(self, c: list[Any]) -> s.ExprStmt:
        return s.ExprStmt(self._at(c), self.call(c))

    # --- expressions -------------------------------------------------------------------------

    def name(self, c: list[Any]) -> s.Name:
        return s.Name(self._token_at(c[0]), str(c[0]))

    def generic(self, c: list[Any]) -> s.Name:
        return s.Name(self._at(c), str(c[0]), c[1])

    def call(self, c: list[Any]) -> s.Call:
        return s.Call(self._at(c), c[0], c[1] or ())

    def mem(self, c: list[Any]) -> s.Mem:
        return s.Mem(self._at(c), str(c[0]), c[1], c[2])

    def member(self, c: list[Any]) -> s.Member:
        return s.Member(self._at(c), c[0], str(c[1]))

    def index(self, c: list[Any]) -> s.Index:
        return s.Index(self._at(c), c[0], c[1])

    def slice_(self, c: list[Any]) -> s.SliceOf:
        return s.SliceOf(self._at(c), c[0], c[1], c[2])

    def slice_from(self, c: list[Any]) -> s.SliceFrom:
        return s.SliceFrom(self._at(c), c[0], c[1], c[2])

    def unary(self, c: list[Any]) -> s.UnaryOp:
        return s.UnaryOp(self._at(c), str(c[0]), c[1])

    def binary(self, c: list[Any]) -> s.BinaryOp:
        return s.BinaryOp(self._at(c), str(c[1]), c[0], c[2])

    def ternary(self, c: list[Any]) -> s.Ternary:
        return s.Ternary(self._at(c), c[0], c[1], c[2])

    def foldop(self, c: list[Any]) -> str:
        return str(c[0])

    def lanes(self, c: list[Any]) -> s.Lanes:
        return s.Lanes(self._at(c), c[1] or "@", c[2], c[3], c[4], c[5])

    def lanes_index(self, c: list[Any]) -> s.Lanes:
        return s.Lanes(self._at(c), c[1] or "@", (self._ident(c[2]),), None, (c[3], c[4]), c[5])

    def tuple_(self, c: list[Any]) -> s.TupleOf:
        return s.TupleOf(self._at(c), tuple(c))

    def paren(self, c: list[Any]) -> Any:
        return c[0]

    def literal(self, c: list[Any]) -> s.Number:
        token = c[0]
        text = str(token).replace("_", "")
        at = self._token_at(token)
        if text.startswith("0x"):
            digits = text[2:] or "0"
            return s.Number(at, number(digits, 16), 4 * len(digits))
        if text.startswith("0b"):
            digits = text[2:] or "0"
            return s.Number(at, number(digits, 2), len(digits))
        return s.Number(at, number(text), None)

    def string(self, c: list[Any]) -> s.Str:
        return s.Str(self._token_at(c[0]), unquote(c[0]))

    def match_expr(self, c: list[Any]) -> s.MatchOf:
        return s.MatchOf(self._at(c), c[1], tuple(x for x in c[2:] if isinstance(x, s.Arm)))

    def arm(self, c: list[Any]) -> s.Arm:
        return s.Arm(self._at(c), c[0], c[1])


_OTHERWISE = object()
