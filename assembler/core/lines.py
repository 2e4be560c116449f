"""Text of unknown origin as one line that may go anywhere: a terminal, a log, a status, a page."""

LONGEST = 2000
_MORE = "..."


def as_line(text: object, longest: int = LONGEST) -> str:
    r"""Return text, or whatever it is, as one line of printable characters.

    What a terminal would act on, what ends a line, and what no encoding has (a lone surrogate, as in the name of a file that is not
    UTF-8) is written as Python would escape it. What cannot tell its text is named by its type: this never raises.

    Parameters
    ----------
    text : object
    longest : int
        How many characters of it are kept.

    >>> as_line("two\nlines \x1b[31m"), as_line(b"caf\xe9"), as_line("x" * 9, longest=5)
    ('two\\nlines \\x1b[31m', 'caf\\xe9', 'xx...')
    """
    line = _text(text)
    if len(line) > longest:
        line = line[: longest - len(_MORE)] + _MORE
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    return line if len(line) <= longest else line[: longest - len(_MORE)] + _MORE


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - of a stranger's object; what tells of trouble must not be more of it
        return f"<{type(value).__name__}>"
