"""Patterns for text of unknown origin: regular expressions that no text can make slow.

A pattern may try one way to match after the other, and some have more ways than anybody lives to see. Here the ways of a pattern are
counted before it is used: each unbounded repetition has as many as a text may have characters, and no group is repeated, so that
they only multiply.
"""

import re
import warnings

LONGEST = 1000
"""Characters of a text that is compared; a longer one fits no pattern."""

MOST_WAYS = 2_000_000
"""Ways to match that a pattern may have: those of two unbounded repetitions."""

_TOKEN = re.compile(
    r"(?P<escaped>\\(?:[dDwWsS]|[^A-Za-z0-9]))|(?P<one>\[\^?\]?(?:\\.|[^\]\\])*\]|[^][\\*+?{}()|])|(?P<either>\|)"
    r"|(?P<open>\((?:\?:|(?!\?)))|(?P<close>\))|(?P<many>(?:[*+?]|\{(?P<least>\d{1,4})(?P<more>,(?P<most>\d{1,4})?)?\})(?P<how>[+?]?))",
    re.ASCII,
)


def pattern_fault(pattern: str) -> str:
    r"""Say what is wrong with a pattern, or nothing.

    >>> pattern_fault(r"\d{4}-\d\d-\d\d(\.\d+)?"), pattern_fault("(a+)+")
    ('', 'a group may be repeated by ? only')
    """
    ways, place, group = 1, 0, False
    while place < len(pattern):
        found = _TOKEN.match(pattern, place)
        if not found:
            return f"{pattern[place : place + 8]!r} is not known here; to mean such a character, write \\ before it"
        if found["many"] and group and found["many"][0] != "?":
            return "a group may be repeated by ? only"
        if found["many"] and found["how"] != "+":  # a possessive one gives nothing back, so there is one way
            ways *= _ways(found)
        elif found["either"]:
            ways *= 2
        if ways > MOST_WAYS:
            return f"there are more than {MOST_WAYS} ways to match it; repeat without bound at most twice, or with *+ or ++"
        group = found["close"] is not None
        place = found.end()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what a later Python will read otherwise
            re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"is no regular expression: {error}"
    return ""


def fits_pattern(pattern: str, text: str) -> bool:
    r"""Tell whether a whole text fits a pattern that has no fault.

    >>> fits_pattern(r"\d\d:\d\d", "08:00"), fits_pattern(r"\d\d:\d\d", "08:00:32")
    (True, False)
    """
    return len(text) <= LONGEST and re.fullmatch(pattern, text, re.ASCII) is not None


def _ways(found: re.Match[str]) -> int:
    """Return how many times a repetition may choose from."""
    if found["least"] is None:
        return 2 if found["many"][0] == "?" else LONGEST + 1
    if not found["more"]:
        return 1
    return max((int(found["most"]) if found["most"] else LONGEST) - int(found["least"]) + 1, 1)
