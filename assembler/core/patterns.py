"""Patterns of sub-FITS: ``*`` is anything and ``{frame}`` the frame number, in a file's own name."""

import re


def pattern_of(text: str) -> re.Pattern[str]:
    """Return a pattern of the YAML as a regular expression, whose group ``frame`` is the frame number where it tells one."""
    parts = re.split(r"(\*|\{frame\})", text)
    told = {"*": "[^/]*", "{frame}": r"(?P<frame>\d{1,18})"}
    return re.compile("".join(told.get(part, re.escape(part)) for part in parts), re.DOTALL)


def path_fits(pattern: str, path: str) -> bool:
    """Tell whether a path ends as a pattern says, with as many directories as the pattern has.

    >>> path_fits("Green/kpf_{frame}.fits", "/data/2024apr21/Green/kpf_215921.fits")
    True
    """
    depth = pattern.count("/") + 1
    return bool(pattern_of(pattern).fullmatch("/".join(path.split("/")[-depth:])))
