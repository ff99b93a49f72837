"""The binary form of a target's decode tables, as `generator.emit.decoder` writes it and native code reads
it.

A table file is a header of 8-byte fields, then programs, tree nodes and lookup tables; positions are in
8-byte words from the file's start unless said otherwise. A program is a list of words

    op: 8 bits | d: 12 | a: 12 | w: 8 | b: 24, signed

over `REGISTERS` 64-bit registers; see `Op`. The generator has the same numbers (`generator.emit.program`): it
may not import the runtime; a test compares them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MAGIC: Final = 0x31544E4547415349
"""``ISAGENT1``, little-endian."""

# --- header: byte offsets of 8-byte fields ------------------------------------------------------------------

H_MAGIC: Final = 0
H_SIZE: Final = 8
H_UNIT: Final = 16
"""Bytes that instructions are aligned to."""
H_BIG: Final = 24
"""1: units are big-endian."""
H_RECORD_SIZE: Final = 32
"""The size of all records in targets with delay slots, else 0."""
H_DELAY: Final = 40
"""Delay slots: bytes from an instruction to the one behind it (npc at rest is pc + this), else 0."""
H_PC_MASK: Final = 48
H_MAX_LENGTH: Final = 56
"""Bytes of the longest instruction."""
H_KEY_PROGRAM: Final = 64
H_KEY_CONTEXTS: Final = 72
H_KEY_WORDS: Final = 80
"""The key program computes `KEY_WORDS` words into registers `R_FIRST` and up: the derived contexts, of which
there are `KEY_CONTEXTS`, then the inputs of address translation."""
H_STEPPED: Final = 88
"""Number of stepped contexts; their values are in the registers behind the key's contexts..."""
H_STEP_PROGRAM: Final = 96
"""... and this program computes the values behind the instruction, into the registers behind those."""
H_REST_PROGRAM: Final = 104
"""Computes their values at rest, likewise."""
H_STEP_OFFSETS: Final = 112
"""Position of a table: each stepped context's byte offset in the CPU block's registers."""
H_PREFIX_VARIABLES: Final = 120
"""First register and number (high half) of the prefix variables, 0 before each instruction."""
H_PREFIX_INDEX: Final = 128
"""Position of 256 bytes: 0: no prefix; else 1 + number of the first prefix row for that byte. 0: no prefixes.
"""
H_PREFIX_ROWS: Final = 136
H_PREFIX_COUNT: Final = 144
H_SETS: Final = 152
H_SET_COUNT: Final = 160
H_ILLEGAL_TRAP: Final = 168
H_ILLEGAL_CODE: Final = 176
H_ILLEGAL_ARGUMENT: Final = 184
"""1: the trap's first parameter is the instruction's bits; the code is `ILLEGAL_CODE`; 2: the code is the
bits, too.
"""
H_FIRST_FREE: Final = 192
H_TRAP_COUNT: Final = 200
H_UNIT_SHIFT: Final = 208
"""Binary logarithm of `H_UNIT`."""
H_WAITING: Final = 216
"""1 + byte offset of the register `waiting`; 0: there is none."""
HEADER_SIZE: Final = 256

# --- prefix rows: 8-byte words ------------------------------------------------------------------------------

PREFIX_MASK: Final = 0
PREFIX_PATTERN: Final = 8
PREFIX_WHEN: Final = 16
"""Program that computes `R_CONDITION`, or 0."""
PREFIX_VARIABLE: Final = 24
PREFIX_VALUE: Final = 32
PREFIX_LAST: Final = 40
PREFIX_FIELD_COUNT: Final = 48
PREFIX_FIELDS: Final = 56
"""Up to 4 words: register | width << 16 | low << 24."""
PREFIX_ROW_SIZE: Final = 88

# --- sets ---------------------------------------------------------------------------------------------------

SET_WHEN: Final = 0
"""Program that computes `R_CONDITION`, or 0: only where no set with a condition is chosen."""
SET_UNIT: Final = 8
SET_STREAM: Final = 16
SET_PREFIXES: Final = 24
SET_ROOT: Final = 32
SET_LENGTH_BITS: Final = 40
"""shift | bits << 8: the bits of the first unit that tell an encoding's length, legal or not: for what an
illegal instruction's bits are; and the position of the bytes with the lengths (0: unknown)."""
SET_LENGTHS: Final = 48
SET_ROW_SIZE: Final = 56

# --- tree nodes: a word, then 32-bit children ---------------------------------------------------------------
# word: kind (0 leaf, 1 node): 8 bits | unit: 8 | shift: 8 | bits: 8 | count: 32. A node's children are the
# positions of nodes; a leaf's, the positions of the programs to try in turn. Position 0: nothing matches.

# --- registers of the machine -------------------------------------------------------------------------------

REGISTERS: Final = 4096
R_PC: Final = 0
R_NEXT_PC: Final = 1
R_CURSOR: Final = 2
"""Bytes of the instruction read so far."""
R_LIMIT: Final = 3
"""Bytes that may be read."""
R_BUFFER: Final = 4
"""Host address of the instruction's first byte."""
R_MORE: Final = 5
"""1: something would have read beyond the limit."""
R_SEEN: Final = 6
"""Bytes looked at."""
R_UNIT: Final = 7
"""Bytes of the set's units."""
R_CONDITION: Final = 8
R_RECORD: Final = 9
R_SKIP: Final = 10
"""Host address of a guard's skip slot that waits for the size of the next record, or 0."""
R_PAGE: Final = 11
"""Address of the page's entry."""
R_FLAGS: Final = 12
"""Metadata flags for the next record."""
R_STEP: Final = 13
"""Number of the stepped contexts' values."""
R_PRIVATE: Final = 14
"""1: records are for one use: not in the map, in the scratch part of the arena."""
R_START: Final = 15
"""Bytes of prefixes."""
R_TABLES: Final = 16
"""Host address of the tables."""
R_LENGTH: Final = 17
"""Bytes of the instruction going by its first unit, legal or not; 0: unknown."""
R_RETURN: Final = 18
"""Where a routine goes back to."""
R_FIRST: Final = 19


class Op(IntEnum):
    """Operations of programs. Values are zero-extended to 64 bits; results are cut to w bits."""

    FAIL = 0
    """This program doesn't match."""
    DONE = 1
    """It did. w: 0 the next instruction follows, 1 nothing follows, 2 nothing follows the delay slot."""
    ILLEGAL = 2
    """The instruction is illegal; other programs don't matter."""
    JUMP = 3
    """Go on at position b."""
    JUMP_ZERO = 4
    """... if register a is 0."""
    JUMP_NONZERO = 5
    IMMEDIATE = 6
    """d = b, signed."""
    CONSTANT = 7
    """d = the next word."""
    MOVE = 8
    """d = a."""
    ADD = 9
    """d = a + register b, w bits."""
    SUB = 10
    MUL = 11
    AND = 12
    OR = 13
    XOR = 14
    SHL = 15
    LSHR = 16
    ASHR = 17
    ROTL = 18
    ROTR = 19
    UDIV = 20
    SDIV = 21
    UREM = 22
    SREM = 23
    EQ = 24
    """d = a == register b; comparisons' w is the operands' width."""
    NE = 25
    ULT = 26
    ULE = 27
    SLT = 28
    SLE = 29
    CONCAT = 30
    """d = a << w | register b."""
    SEXT = 31
    """d = a, sign-extended from b bits to w."""
    SLICE = 32
    """d = w bits of a, from bit b up."""
    DEPOSIT = 33
    """d |= (w bits of a, from bit b % 64 up) << (b / 64)."""
    CLZ = 34
    """d = leading zeros of a in w bits."""
    CTZ = 35
    POPCOUNT = 36
    BITREVERSE = 37
    BYTESWAP = 38
    REGISTER = 39
    """d = the 8 bytes at byte offset b of the CPU block's registers, w bits from bit a up."""
    WORD = 40
    """d = w units from the start of the opcode on, the lowest first; the cursor goes behind them. Fails
    without them.
    """
    MATCH = 41
    """Fails unless (a & next word) == the word after that."""
    UNITS = 42
    """d = w units at the cursor; more than one: little-endian units of 8 bits. The cursor goes behind them.
    """
    UNLESS = 43
    """Go on at position b unless (a & next word) == the word after that."""
    SEEK = 44
    """The cursor = register a."""
    TELL = 45
    """d = the cursor."""
    FEATURE = 46
    """Fails unless feature b is on."""
    NEXT_PC = 47
    """`R_NEXT_PC` = pc + cursor."""
    EMIT = 48
    """A record of w units of 8 bytes with op b."""
    SLOT16 = 49
    """Byte offset b of the record: the low 16 bits of a."""
    SLOT32 = 50
    SLOT64 = 51
    TARGET = 52
    """Byte offset b of the record: the record for the pc in a."""
    SKIP = 53
    """Byte offset b of the record: 16 bits for the size of the next record."""
    LOOKUP = 54
    """d = entry a of the table of 16-bit numbers at position b."""
    HAS = 55
    """d = whether feature b is on."""
    CALL = 56
    """Run the routine at position b, which calls none."""
    RETURN = 57
    """Go on behind the CALL."""
