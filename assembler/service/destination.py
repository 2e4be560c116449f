"""An archive's store: one protocol over a directory, SFTP and S3, and what all three have in common.

What a store must do is little: keep a whole file under a name that nobody has, show what it has, and replace the one small file
that is not kept as it is, SHA256SUMS.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from assembler.core.places import Place
from assembler.core.receipts import Content
from assembler.errors import InputError

CHUNK = 1 << 20
PART = ".part"
DAY = 86_400
"""How old the temporary file of an archiver must be to be nobody's any more, where a store has no locks [s]."""

_ABANDONED = re.compile(rf"\..+\.[0-9a-f]{{16}}{re.escape(PART)}")


class Destination(Protocol):
    """A store that L0s are archived in. What it cannot do for now raises `OutputError`."""

    def url(self, place: Place) -> str:
        """Return where a file is, for people and programs, without any password."""

    def names(self, folder: tuple[str, ...]) -> frozenset[str]:
        """Return the names in a folder; none where there is no such folder."""

    def read(self, place: Place, longest: int) -> bytes | None:
        """Return what a small file holds, or None where there is none; one that is longer [bytes] is an `OutputError`."""

    def content(self, place: Place) -> Content | None:
        """Read a file of any size from the store, and return what it holds; None where there is none."""

    def add(self, place: Place, stream: IO[bytes], content: Content) -> None:
        """Keep a file, and give it its name when it was read again and found to be right.

        Parameters
        ----------
        place : Place
            Its folders are made where they are not there.
        stream : file
            Open for reading; what counts is all of it, from its first byte.
        content : Content
            What it holds.

        Raises
        ------
        TakenError
            When the name is taken, whatever has it.
        InputError
            When the stream does not hold that any more.
        """

    def replace(self, place: Place, data: bytes) -> None:
        """Keep a small file under a name, in one step, whatever had it before."""

    def alone(self, folder: tuple[str, ...]) -> AbstractContextManager[None]:
        """Keep other archivers from replacing files in a folder, as far as the store can."""

    def tidy(self, folder: tuple[str, ...]) -> None:
        """Remove what killed archivers left in a folder, when it is nobody's any more."""

    def close(self) -> None:
        """Let go of the store."""


def chunks(stream: IO[bytes], content: Content, size: int = CHUNK) -> Iterator[bytes]:
    """Read a stream from its first byte on, in pieces [bytes].

    Raises
    ------
    InputError
        When it does not hold what is expected, after the last piece.
    """
    digest = hashlib.sha256()
    done = 0
    while piece := _read_at(stream, done, min(size, content.size + 1 - done)):
        done += len(piece)
        digest.update(piece)
        if done > content.size:
            break
        yield piece
    if Content(size=done, sha256=digest.hexdigest()) != content:
        raise InputError("it changed while it was copied", retry=True)


def read_content(read: Callable[[int], bytes]) -> Content:
    """Return what is read until there is no more."""
    digest = hashlib.sha256()
    size = 0
    while piece := read(CHUNK):
        size += len(piece)
        digest.update(piece)
    return Content(size=size, sha256=digest.hexdigest())


def is_itself(path: Path, destination: Destination, place: Place) -> bool:
    """Tell whether a file in an archive is the very file that a path names, by another name or the same; only a directory's can be."""
    try:
        return os.path.samefile(path, destination.url(place))
    except (OSError, ValueError):
        return False


def is_abandoned_name(name: str) -> bool:
    """Tell whether a name is that of an archiver's temporary file.

    >>> is_abandoned_name(".a.fits.0123456789abcdef.part"), is_abandoned_name("a.fits")
    (True, False)
    """
    return bool(_ABANDONED.fullmatch(name))


def _read_at(stream: IO[bytes], offset: int, size: int) -> bytes:
    """Read so many bytes; less only at the end."""
    parts = []
    try:
        stream.seek(offset)
        while size and (part := stream.read(size)):
            parts.append(part)
            size -= len(part)
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", retry=True) from error
    return b"".join(parts)
