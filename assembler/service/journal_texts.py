"""How the journal holds texts, file names, signatures and short lists, and how they are read again without trust."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Signature = tuple[int, int, int]
"""Size [bytes], modification time [ns] and inode, as of `assembler.core.exposure.SubFits`."""


def bound(text: str) -> str | bytes:
    """Return a text as SQLite holds it: as it is, or as bytes where it is a file name that is no UTF-8."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text if text.isascii() or raw == text.encode("utf-8", "replace") else raw


def format_signature(signature: Signature | None) -> str | None:
    """Write a signature as text, since an inode may need all 64 bits, of which SQLite's numbers have 63."""
    return None if signature is None else " ".join(map(str, signature))


def read_signature(text: object) -> Signature | None:
    """Return what `format_signature` wrote; raise a ValueError or TypeError for what is none."""
    if text is None:
        return None
    size, modified, inode = map(int, as_text(text).split(" "))
    return size, modified, inode


def format_json(value: Sequence[str] | Mapping[str, str]) -> str:
    """Write origins, or why they are missing, in ASCII, so that no name is too strange for SQLite."""
    return json.dumps(value)


def read_awaited(text: object) -> tuple[str, ...]:
    """Return the origins that `format_json` wrote; raise a ValueError or TypeError for what is none."""
    read = _read_json(text)
    if not isinstance(read, list):
        raise TypeError(f"{text!r} is no list of origins")
    return tuple(map(as_text, read))


def read_missing(text: object) -> dict[str, str]:
    """Return by origin what `format_json` wrote; raise a ValueError or TypeError for what is none."""
    read = _read_json(text)
    if not isinstance(read, dict):
        raise TypeError(f"{text!r} does not tell which origins are missing")
    return {origin: as_text(reason) for origin, reason in read.items()}


def _read_json(text: object) -> Any:
    try:
        return json.loads(as_text(text))
    except RecursionError:
        raise ValueError("a text that is nested without end") from None


def as_text(value: object) -> str:
    """Return a text that SQLite holds, as `bound` gave it; raise a TypeError for what is none."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
