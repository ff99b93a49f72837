"""Lowering: a family's syntax trees to the model of one target, behaviours as IR.

family.py        declarations by name
entities.py      what names stand for, elaborated
state.py         registers, enums, traps, contexts, prefixes
operands.py      operand classes in use; linear.py: addresses of one shape; models.py: their models
pictures.py      encodings; texts.py: assembler texts
body.py          behaviours: base, widths, expressions, places, calls, statements build on each other
functions.py     shared functions and banks
forms.py         instructions
target.py        all together
"""
