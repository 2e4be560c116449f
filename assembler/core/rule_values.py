"""Values of cards as an archive sees them: their types, their widths, and which are none."""

import math
from collections.abc import Iterable
from typing import Literal

from assembler.core.cards import Value, shown, text_of

ValueKind = Literal["text", "integer", "real", "logical"]
KIND_NAMES = {"text": "text", "integer": "a whole number", "real": "a number", "logical": "T or F"}
"""What a value of each type is called."""

_LONGEST_VALUE = 100


def is_of_kind(kind: ValueKind, value: Value) -> bool:
    """Tell whether a value is of a type; a whole number is a real one too (FITS Standard 4.2.4).

    >>> is_of_kind("real", 2000), is_of_kind("integer", 0.0), is_of_kind("integer", True)
    (True, False, False)
    """
    if kind == "text":
        return isinstance(value, str)
    if isinstance(value, bool) or kind == "logical":
        return isinstance(value, bool) and kind == "logical"
    return isinstance(value, int) or (kind == "real" and isinstance(value, float) and math.isfinite(value))


def width_of(value: Value, decimals: int) -> int:
    """Return how many characters an archive stores a value with: a text without trailing blanks, a real with so many decimals.

    >>> width_of("KPF  ", 5), width_of(-7, 5), width_of(0.5879529999999999, 5)
    (3, 2, 7)
    """
    if isinstance(value, float):
        return len(f"{value:.{decimals}f}")
    return len(value.rstrip()) if isinstance(value, str) else len(str(value))


def is_undefined(value: Value) -> bool:
    """Tell whether there is no value; a text of nothing is none to a database.

    >>> is_undefined(""), is_undefined(None), is_undefined(0)
    (True, True, False)
    """
    return value is None or (isinstance(value, str) and not value.strip())


def is_same(value: Value, expected: Value) -> bool:
    """Tell whether two values are the same; 1 and 1.0 are, 1 and T are not.

    >>> is_same(1, 1.0), is_same(1, True), is_same("KPF", "Kpf")
    (True, False, False)
    """
    return isinstance(value, bool) == isinstance(expected, bool) and value == expected


def any_of(values: Iterable[Value]) -> str:
    """Return several values as people are told them.

    >>> any_of(["YES", "NO"])
    "'YES' or 'NO'"
    """
    return " or ".join(map(value_told, values))


def value_told(value: Value) -> str:
    """Return a value as people are told it, as much of it as is of use.

    >>> value_told("KPF"), value_told(True), value_told(None)
    ("'KPF'", 'T', 'undefined')
    """
    if isinstance(value, str):
        value = value[:_LONGEST_VALUE] + "..." if len(value) > _LONGEST_VALUE else value
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is too large"
    return shown(text_of(value))
