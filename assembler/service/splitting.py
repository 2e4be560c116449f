"""An L0 taken apart into its sub-FITS again: headers from the ledger, data units from its extensions, and SHA-256 to prove it."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import IO, Literal

from assembler.core.cards import CARD_LENGTH
from assembler.core.delivered import Delivered
from assembler.core.exposure import Hdu
from assembler.core.ledger import LedgerRow
from assembler.errors import InputError, OutputError, VerificationError
from assembler.fits.blocks import data_length, fill, open_fits, padded
from assembler.fits.data import Span, file_digest, sum_data
from assembler.fits.writer import draft, publish, remove_abandoned
from assembler.service.recorded import Recording, read_recording

State = Literal["same", "explained", "unrecorded", "differs", "lost"]

LOSSES = ("compressed", "header-padding", "trailing-bytes", "data-fill")
"""Codes of findings that tell why an L0 cannot give a sub-FITS back to the last byte; of the last, one that was packed and unpacked."""

_BUFFER = 1 << 20
_ORIGIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,19}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One HDU of a sub-FITS: its header as it was, and the HDU of the L0 that has its data; None where it has none."""

    header: bytes
    data: Hdu | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A sub-FITS as an L0 gives it back.

    Attributes
    ----------
    origin, file : str
        As the ledger has them.
    state : str
        ``same``, byte for byte by its SHA-256; ``explained``, a finding tells why it is not; ``unrecorded``, the L0 does not tell
        what it was, as one that an older assembler made; ``differs``, nothing explains it; ``lost``, it cannot be put together.
    length : int
        Of what is given back [bytes].
    digest : str
        SHA-256 of that.
    recorded : Delivered or None
        What the L0 tells that it was.
    findings : tuple of str
        Codes of `LOSSES` that the L0 has for it.
    path : str
        Where it was written; empty where it was not.
    problem : str
        What is wrong, in words.
    """

    origin: str
    file: str
    state: State
    length: int = 0
    digest: str = ""
    recorded: Delivered | None = None
    findings: tuple[str, ...] = ()
    path: str = ""
    problem: str = ""

    @property
    def is_given_back(self) -> bool:
        """Whether it is what it was, or a finding tells what it lacks."""
        return self.state in ("same", "explained")


def split_l0(path: Path, directory: Path) -> tuple[Given, ...]:
    """Write the sub-FITS of an L0 into directories of their origins; none is written that is not what it was without an explanation.

    What is there already and is the same is left alone.

    Raises
    ------
    InputError
        When it is no L0.
    OutputError
        When another file is there, or the disk does not take it.
    """
    recording = read_recording(path)
    return tuple(_write(one, recording, pieces, directory) for one, pieces in _given(recording))


def given_back(recording: Recording) -> tuple[Given, ...]:
    """Tell what an L0 gives back, and write nothing."""
    return tuple(one for one, _ in _given(recording))


def content(recording: Recording, pieces: Sequence[Piece]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a sub-FITS, each part valid until the next is asked for.

    Raises
    ------
    InputError
        When the L0 cannot be read.
    """
    path = recording.found.path
    buffer = memoryview(bytearray(_BUFFER))
    with open_fits(path) as (stream, _):
        for piece in pieces:
            yield piece.header
            if piece.data is None:
                continue
            try:
                stream.seek(piece.data.offset)
                for at in range(0, piece.data.length, _BUFFER):
                    wanted = min(_BUFFER, piece.data.length - at)
                    part = fill(stream, buffer[:wanted])
                    if len(part) < wanted:
                        raise InputError(f"{path}: became shorter while it was read", path=path, retry=True)
                    yield part
            except OSError as error:
                raise InputError(f"{path}: cannot be read: {error.strerror}", path=path, retry=True) from error


def _given(recording: Recording) -> Iterator[tuple[Given, Sequence[Piece]]]:
    """Yield each sub-FITS in the order of the ledger, with what it is put together of."""
    told = {one.origin: one for one in recording.sources}
    in_ledger: set[str] = set()
    for origin, rows in groupby(recording.ledger, key=lambda row: row.origin):
        if origin in in_ledger:
            raise InputError(f"{recording.found.path}: CARDS has {origin!a} in two places, so it is no ledger", path=recording.found.path)
        in_ledger.add(origin)
        yield _one(recording, origin, list(rows), told.get(origin))
    for origin, one in told.items():
        if origin not in in_ledger:
            yield Given(origin=origin, file=one.file, state="lost", recorded=one, problem="CARDS has none of its cards"), ()


def _one(recording: Recording, origin: str, rows: Sequence[LedgerRow], recorded: Delivered | None) -> tuple[Given, Sequence[Piece]]:
    codes = tuple(code for code in LOSSES if any(f.code == code and f.origin == origin for f in recording.findings))
    given = partial(Given, origin=origin, file=rows[0].file, recorded=recorded, findings=codes)
    try:
        pieces = _pieces(recording, origin, rows)
    except InputError as error:
        return given(state="lost", problem=str(error)), ()
    hashed = hashlib.sha256()
    length = 0
    for part in content(recording, pieces):
        hashed.update(part)
        length += len(part)
    digest = hashed.hexdigest()
    state, problem = _judged(digest, length, recorded, codes)
    if state == "explained" and (damaged := _damaged(recording, pieces)):
        state, problem = "differs", f"{problem}; and {damaged} does not sum up to its DATASUM"
    return given(state=state, length=length, digest=digest, problem=problem), pieces


def _judged(digest: str, length: int, recorded: Delivered | None, codes: Sequence[str]) -> tuple[State, str]:
    """Say what is to be thought of a sub-FITS that is given back."""
    if recorded is None or not recorded.digest:
        return "unrecorded", "this L0 does not tell its SHA-256"
    if digest == recorded.digest:
        return (
            ("explained", "compressed: it is given back unpacked, its FITS content is the same") if "compressed" in codes else ("same", "")
        )
    if lost := [code for code in codes if code != "compressed"]:
        return "explained", f"{' and '.join(lost)}: that is not in this file, all else is"
    if length != recorded.length:
        return "differs", f"{length} bytes, and it had {recorded.length}; the L0 is damaged or was changed"
    return "differs", f"SHA-256 is {digest}, and was {recorded.digest}; the L0 is damaged or was changed"


def _damaged(recording: Recording, pieces: Sequence[Piece]) -> str:
    """Return the name of an HDU that is not what its DATASUM tells, of those that a sub-FITS is put together of; empty for none."""
    ledger = [hdu for hdu in recording.found.hdus if hdu.extname == "CARDS"]
    for hdu in [*ledger, *(piece.data for piece in pieces if piece.data)]:
        span = Span(path=recording.found.path, offset=hdu.offset, length=hdu.length)
        if str(hdu.value("DATASUM")).strip() != str(sum_data(span)):
            return hdu.extname
    return ""


def _pieces(recording: Recording, origin: str, rows: Sequence[LedgerRow]) -> tuple[Piece, ...]:
    """Put headers together from the ledger, and find the data that they ask for.

    Raises
    ------
    InputError
        When the ledger has no lawful header, or the L0 has other data than that.
    """
    pieces = []
    for place, (number, some) in enumerate(groupby(rows, key=lambda row: row.hdu)):
        cards = list(some)
        where = f"HDU {number} of {origin}"
        if number != place or [row.number for row in cards] != list(range(1, len(cards) + 1)):
            raise InputError(f"CARDS lacks cards of {where}")
        text = "".join(row.card for row in cards)
        if len(text) != CARD_LENGTH * len(cards) or not all(ord(c) < 256 for c in text):
            raise InputError(f"CARDS has a card of {where} that is none")
        header = text.encode("latin-1")
        length = padded(data_length(header, recording.found.path, number))
        pieces.append(Piece(header=_whole(header), data=_data(recording.extensions, origin, number, length)))
    return tuple(pieces)


def _data(extensions: Mapping[tuple[str, int], Hdu], origin: str, number: int, length: int) -> Hdu | None:
    if not length:
        return None
    hdu = extensions.get((origin, number))
    if hdu is None:
        raise InputError(f"the L0 lacks the data of HDU {number} of {origin}")
    if hdu.length != length:
        hint = "; it is tile-compressed, unpack the L0 first, with funpack" if hdu.value("ZIMAGE") is True else ""
        raise InputError(f"{hdu.extname} has {hdu.length} bytes of data, HDU {number} of {origin} had {length}{hint}")
    return hdu


def _whole(cards: bytes) -> bytes:
    """Return a header with END and its padding."""
    header = cards + b"END".ljust(CARD_LENGTH)
    return header.ljust(padded(len(header)))


def _write(one: Given, recording: Recording, pieces: Sequence[Piece], directory: Path) -> Given:
    """Write a sub-FITS under its name, read it again, and say where it is."""
    if not pieces or one.state == "differs":
        return one
    name = one.file.removesuffix(".gz") if "compressed" in one.findings else one.file
    if not _ORIGIN.fullmatch(one.origin) or name in ("", ".", "..") or "/" in name or not name.isprintable():
        return replace(one, state="lost", problem=f"{one.origin!a} and {one.file!a} are no names to write a file under")
    folder = directory / one.origin
    path = folder / name
    remove_abandoned(folder, name)
    if os.path.lexists(path):
        try:
            is_same = not path.is_symlink() and path.is_file() and file_digest(path) == one.digest
        except OSError as error:
            raise OutputError(f"{path} is there, and cannot be read: {error.strerror}; name another directory") from error
        if not is_same:
            raise OutputError(f"{path} is there and is another file; nothing is overwritten, name another directory", retry=False)
        return replace(one, path=str(path))
    with draft(folder, name) as target:
        try:
            with open(target.path, "r+b", buffering=0) as file:
                for part in content(recording, pieces):
                    _write_whole(file, part)
                os.fsync(file.fileno())
            written = file_digest(target.path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        if written != one.digest:
            raise VerificationError(f"{path}: was read again, and is not what was written; look after the disk, or who changes the L0")
        publish(target, name)
    return replace(one, path=str(path))


def _write_whole(file: IO[bytes], part: bytes | memoryview) -> None:
    view = memoryview(part)
    while view:
        view = view[file.write(view) :]
