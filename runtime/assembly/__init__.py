"""Assembler and disassembler, driven by the tables in ``generated/<target>/syntax.py``.

`tables` says what the tables hold, `expressions` evaluates and inverts their decode-time expressions,
`disassembler`
turns bytes into text, `encoder` fields into bytes, `matcher` text into fields, and `program` whole source
files into
images.
"""
