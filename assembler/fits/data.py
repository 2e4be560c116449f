"""Data units side by side: what each sums up to, and where their bytes differ."""

import hashlib
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from assembler.core.exposure import SubFits
from assembler.errors import InputError
from assembler.fits.blocks import fill, open_fits
from assembler.fits.pace import Pace, at_once
from assembler.fits.sums import fold, word_sum

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A data unit: its file, and offset and length in the FITS content of that [bytes]."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDifference:
    """What two data units sum up to, how many of their bytes differ, and which is the first, from 0; None where none does.

    Where one is longer, what it has more differs.
    """

    old_sum: int
    new_sum: int
    count: int
    first: int | None


def sum_data(span: Span, pace: Pace = at_once) -> int:
    """Return what a data unit sums up to, read at a pace.

    Raises
    ------
    InputError
        When it cannot be read to its end.
    """
    return compare_data(span, span, pace).old_sum


def digest_of(sub: SubFits, pace: Pace = at_once) -> str:
    """Return the SHA-256 of a sub-FITS's content in hexadecimal digits, read at a pace.

    Raises
    ------
    InputError
        When it cannot be read to its end.
    """
    span = Span(path=sub.path, offset=0, length=sub.content_length)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BUFFER))
    with open_fits(sub.path) as (stream, _):
        for at in range(0, span.length, _BUFFER):
            pace(min(_BUFFER, span.length - at))
            digest.update(_part(stream, span, at, buffer))
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as it is on the disk, in hexadecimal digits.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare_data(old: Span, new: Span, pace: Pace = at_once) -> DataDifference:
    """Read two data units side by side, at a pace.

    Raises
    ------
    InputError
        When one cannot be read to its end.
    """
    same = old == new
    sums, count, first = [0, 0], 0, None
    with ExitStack() as stack:
        streams = [stack.enter_context(open_fits(span.path))[0] for span in ([old] if same else [old, new])]
        buffers = [memoryview(bytearray(_BUFFER)) for _ in streams]
        for at in range(0, max(old.length, new.length), _BUFFER):
            pace(min(_BUFFER, max(old.length, new.length) - at))
            parts = [_part(stream, span, at, buffer) for stream, span, buffer in zip(streams, (old, new), buffers, strict=False)]
            for number, part in enumerate(parts):
                sums[number] = fold(sums[number] + word_sum(part)) if part else sums[number]
            if same:
                continue
            shared = min(map(len, parts))
            if parts[0][:shared] != parts[1][:shared]:
                differs = np.frombuffer(parts[0][:shared], "u1") != np.frombuffer(parts[1][:shared], "u1")
                first = at + int(differs.argmax()) if first is None else first
                count += int(np.count_nonzero(differs))
            if len(parts[0]) != len(parts[1]):
                first = at + shared if first is None else first
                count += max(map(len, parts)) - shared
    return DataDifference(old_sum=sums[0], new_sum=sums[0] if same else sums[1], count=count, first=first)


def _part(stream: IO[bytes], span: Span, at: int, buffer: memoryview) -> memoryview:
    wanted = max(0, min(len(buffer), span.length - at))
    try:
        stream.seek(span.offset + at)
        part = fill(stream, buffer[:wanted])
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{span.path}: cannot be read: {error}", path=span.path, retry=True) from error
    if len(part) < wanted:
        raise InputError(f"{span.path}: became shorter while it was read", path=span.path, reason="still-growing", retry=True)
    return part
