"""Keys by name, and as Linux's input layer numbers them (include/uapi/linux/input-event-codes.h); the names
are QEMU's (`sendkey`, `QKeyCode`).
"""

from __future__ import annotations

from typing import Final

_ROWS: Final = {
    1: "esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab",
    16: "q w e r t y u i o p bracket_left bracket_right ret ctrl",
    30: "a s d f g h j k l semicolon apostrophe grave_accent shift",
    43: "backslash z x c v b n m comma dot slash shift_r",
    55: "kp_multiply alt spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock kp_7 kp_8 kp_9",
    74: "kp_subtract kp_4 kp_5 kp_6 kp_add kp_1 kp_2 kp_3 kp_0 kp_decimal",
    86: "less f11 f12 ro",
    96: "kp_enter ctrl_r kp_divide sysrq alt_r",
    102: "home up pgup left right end down pgdn insert delete",
    113: "audiomute volumedown volumeup power kp_equals",
    119: "pause",
    121: "kp_comma",
    124: "yen meta_l meta_r compose stop again",
}
KEYS: Final[dict[str, int]] = {
    name: first + place for first, names in _ROWS.items() for place, name in enumerate(names.split())
}
"""The number of each key."""

_PLAIN: Final = {
    "\n": "ret",
    "\t": "tab",
    " ": "spc",
    "\b": "backspace",
    "\x1b": "esc",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    "\\": "backslash",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
_SHIFTED: Final = dict(zip('!@#$%^&*()_+{}:"~|<>?', "1234567890-=[];'`\\,./", strict=True))


def chord(character: str) -> list[str] | None:
    """The keys that type a character on an American keyboard, in the order in which they go down; None: there
    are none.
    """
    if character in _SHIFTED:
        plain = _SHIFTED[character]
        return ["shift", _PLAIN.get(plain, plain)]
    if character in _PLAIN:
        return [_PLAIN[character]]
    if not (character.isascii() and character.isalnum()):
        return None
    return ["shift", character.lower()] if character.isupper() else [character]
