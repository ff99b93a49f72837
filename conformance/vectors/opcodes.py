"""Decode rows that name an opcode instead of a text (iced's decoder tests): what is no instruction is
refused, lengths agree, and so do mnemonics, but for the names that the tools have for the same encoding.
"""

from __future__ import annotations

import re

from conformance.known import matching
from conformance.results import Failure, Row
from conformance.vectors import reader
from conformance.vectors.decoding import FEATURES, DecodeRows, repeat

_OPTION = re.compile(r"\bdecopt=")
_PREFIX = re.compile(r"^(?:(?:lock|rep\w*) )+")
ALIASES = frozenset(
    (
        *(("sal", "shl"), ("xlatb", "xlat"), ("mov", "movabs")),
        *(("call", "lcall"), ("jmp", "ljmp"), ("fstpnce", "fstp")),
    )
)
"""Names of the same encodings: theirs, ours without a size."""


class Opcodes(DecodeRows):
    """Rows with `code` (INVALID: not an instruction), `mnemonic` and `detail`; `decopt=` there tells of a
    CPU, or of a decoder that was told to take anything.
    """

    def check(self, row: Row, data: reader.Row) -> None:
        mode = data["mode"]
        if mode not in self.modes or self.target in FEATURES:
            row.count("other mode")
            return
        if _OPTION.search(data["detail"] or ""):
            row.count("with options of a decoder")
            return
        code = bytes.fromhex(data["bytes"])
        line = self._disassembler("").line(code, 0, contexts=self.modes[mode])
        problem = ""
        if data["code"] == "INVALID":
            problem = "" if line.form is None else "it is no instruction"
        elif line.form is None:
            row.count("not described")
            return
        elif line.length != len(code):
            problem = f"{line.length} bytes, not {len(code)}"
        else:
            name = _PREFIX.sub("", line.text).split()[0]
            if name.startswith(("nop", "prefetch", "wbinvd")) and name != data["mnemonic"].lower():
                row.count("shared with an extension not described")  # hints
                return
            problem = "" if named_alike(data["mnemonic"].lower(), name) else "another mnemonic"
        row.cases += 1
        if problem and not matching("vectors", self.target, data["id"]):
            details = (f"recorded: {data['code']}", f"ours: {line.text}", problem)
            row.fail(
                Failure("recorded opcode", f"{data['id']} {data['bytes']}", details, repeat(self.task, row))
            )


def named_alike(theirs: str, ours: str) -> bool:
    """Whether two mnemonics mean the same: ours may end in the operand size, or in a number that tells
    encodings apart; theirs in 64.
    """
    plain = ours.rstrip("0123456789")
    names = {ours, plain, *(name[:-1] for name in (ours, plain) if name[-1] in "bwdq")}
    return not names.isdisjoint({theirs, theirs.removesuffix("64")}) or any(
        (theirs, n) in ALIASES for n in names
    )
