"""Lowering: a family's syntax trees to the model of one target, behaviours as IR.

family.py        declarations by name
linear.py        addresses of one shape; lazy.py: registers stored as what they are computed from
scope.py         what names stand for in a behaviour; entities.py: outside of all behaviours

draft.py         a body under way; flow.py: what blocks of it do
constants.py     values known to the generator; widths.py, signatures.py: how wide values and results are
places.py        what can be written; place_lowering.py: expressions as places
expressions.py   values; lanes.py, operand_lowering.py: those of `lanes` and of operands
calls.py         built-ins and functions; statements.py, returns.py: what stands in them
recursion.py     what those parts ask of later ones; body.py: all of them together

state.py         registers, enums, traps, contexts, prefixes
operands.py      operand classes in use; models.py: their models
pictures.py      encodings; texts.py: assembler texts
functions.py     shared functions and banks
forms.py         instructions
target.py        all together
"""
