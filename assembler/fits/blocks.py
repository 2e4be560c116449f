"""Headers and data units of a FITS file, found without decoding either.

A file is told by its bytes, not by its name: what begins as gzip is read through gzip. Nothing in a header is
believed before it was compared with what is really there: no size is allocated, no loop is run on its word alone.
"""

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, cast

from assembler.core.cards import CARD_LENGTH, Value, is_printable, read_record
from assembler.core.exposure import Hdu, SubFits
from assembler.errors import InputError
from assembler.fits.sums import word_sum

BLOCK = 2880
LONGEST_HEADER = 64 << 20
_CHUNK = 1 << 20
_END = b"END".ljust(CARD_LENGTH)
_WHOLE = re.compile(rb"[A-Z0-9]+ *= +(\d+) *(?:/[ -~]*)?")
"""A card of a whole number, as those that size data nearly always are; others are read as any card is."""
_FIRST = b"SIMPLE  ="
_GZIP = b"\x1f\x8b"
_BITPIX = (8, 16, 32, 64, -32, -64)
_MOST_AXES = 999


def scan(path: str) -> SubFits:
    """Find the HDUs of a FITS file.

    Raises
    ------
    InputError
        When it cannot be opened, is no FITS file, or ends before its last HDU does.
    """
    with open_fits(path) as (stream, compressed):
        return scan_open(stream, compressed, path)


def scan_open(stream: IO[bytes], compressed: bool, path: str) -> SubFits:
    """Find the HDUs of a FITS file that `open_fits` gave; raise what `scan` does."""
    try:
        signature = signature_of(stream)
        hdus, trailing = _scan(stream, path, None if compressed else signature[0])
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the gzip stream is broken: {error}", path=path, reason="truncated") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", path=path, retry=True) from error
    return SubFits(path=path, compressed=compressed, hdus=hdus, trailing=trailing, signature=signature)


def scan_primary(path: str) -> SubFits:
    """Find the first HDU of a FITS file only; the rest of the file is not looked at."""
    with open_fits(path) as (stream, compressed):
        try:
            signature = signature_of(stream)
            hdu, _ = _read_header(stream, path, 0, 0, _first_block(stream, path))
        except (EOFError, zlib.error, OSError) as error:
            is_disk = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
            raise InputError(f"{path}: cannot be read: {error}", path=path, retry=is_disk) from error
    return SubFits(path=path, compressed=compressed, hdus=(hdu,), signature=signature)


@contextmanager
def open_fits(path: str) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a regular file for reading; yield its FITS content, and whether it is compressed.

    Raises
    ------
    InputError
        When it cannot be opened or read, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file", path=path, reason="absent") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path!a}: cannot be opened: {error}", path=path) from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        compressed = regular and os.pread(descriptor, 2, 0) == _GZIP
    except OSError as error:  # the disk fails, or another host removed the file right after it was opened
        os.close(descriptor)
        raise InputError(f"{path}: cannot be read: {error.strerror}", path=path, retry=True) from error
    if not regular:
        os.close(descriptor)
        raise InputError(f"{path}: is no regular file", path=path)
    with open(descriptor, "rb", buffering=0) as file:
        if not compressed:
            yield file, False
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(IO[bytes], unpacked), True


def signature_of(stream: IO[bytes]) -> tuple[int, int, int]:
    """Return size [bytes], modification time [ns] and inode of an open file."""
    status = os.fstat(stream.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ino


def fill(stream: IO[bytes], view: memoryview) -> memoryview:
    """Read into a whole view, and return it; less only at the end of the file."""
    done = 0
    while done < len(view) and (count := stream.readinto(view[done:])):  # type: ignore[attr-defined]
        done += count
    return view[:done]


def padded(length: int) -> int:
    """Return a length [bytes] rounded up to whole blocks.

    >>> padded(1), padded(2880)
    (2880, 2880)
    """
    return -(-length // BLOCK) * BLOCK


def _scan(stream: IO[bytes], path: str, size: int | None) -> tuple[tuple[Hdu, ...], int]:
    """Return the HDUs and the number of bytes after them; size is that of a file that is not compressed."""
    hdus: list[Hdu] = []
    position = 0
    block = _first_block(stream, path)
    while True:
        hdu, length = _read_header(stream, path, len(hdus), position, block)
        position = hdu.offset + hdu.length
        if size is None:
            there = _skip(stream, length)
        else:
            there = min(size - hdu.offset, length)
            stream.seek(hdu.offset + there)
        fill = _read(stream, hdu.length - length) if there == length else b""
        if there + len(fill) < hdu.length:
            told = f"{path}, HDU {hdu.index}: the header asks for {hdu.length} bytes of data, the file has {there + len(fill)}"
            raise InputError(told, path=path, reason="truncated")
        blank = b" " if read_record(0, hdu.images[0]).value == "TABLE" else b"\0"
        hdus.append(hdu if not fill.strip(blank) else replace(hdu, clean_fill=False))
        block = _read(stream, BLOCK)
        if not block:
            return tuple(hdus), 0
        if not b"XTENSION".startswith(block[:8]) and not block.startswith(b"XTENSION"):
            return tuple(hdus), len(block) + (size - position - len(block) if size is not None else _skip(stream, None))
        if len(block) < BLOCK:
            raise InputError(f"{path}, HDU {len(hdus)}: the file ends in its header", path=path, reason="truncated")


def _first_block(stream: IO[bytes], path: str) -> bytes:
    block = _read(stream, BLOCK)
    if not block:
        raise InputError(f"{path}: the file is empty", path=path, reason="truncated")
    if not block.startswith(_FIRST):
        begun = block[: len(_FIRST)].rstrip(b"\0")
        reason = "truncated" if begun and _FIRST.startswith(begun) else "unreadable"
        raise InputError(f"{path}: does not begin with SIMPLE, so it is no FITS file", path=path, reason=reason)
    if len(block) < BLOCK:
        raise InputError(f"{path}, HDU 0: the file ends in its header", path=path, reason="truncated")
    return block


def _read_header(stream: IO[bytes], path: str, index: int, position: int, block: bytes) -> tuple[Hdu, int]:
    """Read blocks up to END; return the HDU, and the length of its data without fill [bytes]."""
    blocks = [block]
    while (end := _find_card(block, _END)) < 0:
        length = len(blocks) * BLOCK
        if not _has_keywords(block):
            reason = "truncated" if block.endswith(b"\0") else "unreadable"  # space that was reserved and not yet written to
            raise InputError(f"{path}, HDU {index}: no END before byte {position + length}", path=path, reason=reason)
        if length > LONGEST_HEADER:
            raise InputError(f"{path}, HDU {index}: no END in {LONGEST_HEADER >> 20} MiB", path=path)
        block = _read(stream, BLOCK)
        if len(block) < BLOCK:
            raise InputError(f"{path}, HDU {index}: the file ends in its header", path=path, reason="truncated")
        blocks.append(block)
    header = b"".join(blocks)
    length = len(header)
    header_sum = word_sum(header) % 0xFFFFFFFF
    header = header[: length - BLOCK + end]
    text = header.decode("latin-1")
    images = tuple([text[i : i + CARD_LENGTH] for i in range(0, len(text), CARD_LENGTH)])
    data_bytes = data_length(header, path, index)
    hdu = Hdu(
        index=index,
        images=images,
        offset=position + length,
        length=padded(data_bytes),
        header_sum=header_sum,
        blank_padding=not block[end + CARD_LENGTH :].strip(b" "),
    )
    return hdu, data_bytes


def _find_card(header: bytes, begun: bytes) -> int:
    """Return where in a header the first card is that begins with some characters, or -1."""
    place = header.find(begun)
    while place % CARD_LENGTH and place >= 0:  # they are somewhere in a card
        place = header.find(begun, place + 1)
    return place


def _has_keywords(block: bytes) -> bool:
    """Tell whether a block may be one of a header: every card of it begins with something that is printable."""
    text = block.decode("latin-1")
    return is_printable(text) or all(is_printable(text[i : i + 8]) for i in range(0, BLOCK, CARD_LENGTH))


def data_length(header: bytes, path: str, index: int) -> int:
    """Return the length of the data unit of a header without END, without fill [bytes] (FITS Standard 4.4.1)."""

    def told(keyword: str, default: int | None = None) -> Value:
        place = _find_card(header, f"{keyword:8}".encode("ascii"))
        if place < 0:
            return default
        card = header[place : place + CARD_LENGTH]
        found = _WHOLE.fullmatch(card)
        return int(found.group(1)) if found else read_record(0, card.decode("latin-1")).value

    def whole(keyword: str, default: int | None = None) -> int:
        value = told(keyword, default)
        if not isinstance(value, int) or isinstance(value, bool) or (value < 0 and keyword != "BITPIX"):
            raise InputError(f"{path}, HDU {index}: {keyword} is {value!r}, not a count", path=path)
        return value

    bitpix, axes = whole("BITPIX"), whole("NAXIS")
    whole("TFIELDS", 0)
    if bitpix not in _BITPIX:
        raise InputError(f"{path}, HDU {index}: BITPIX is {bitpix}", path=path)
    if axes > _MOST_AXES:
        raise InputError(f"{path}, HDU {index}: NAXIS is {axes}; FITS has at most {_MOST_AXES} axes", path=path)
    if not axes:
        return 0
    lengths = [whole(f"NAXIS{axis}") for axis in range(1, axes + 1)]
    if index == 0 and lengths[0] == 0 and told("GROUPS") is True:
        raise InputError(f"{path}, HDU 0: random groups are not supported", path=path)
    elements = 1
    for length in lengths:
        elements *= length
    return abs(bitpix) // 8 * whole("GCOUNT", 1) * (whole("PCOUNT", 0) + elements)


def _read(stream: IO[bytes], length: int) -> bytes:
    """Read as many bytes as there are, up to a length."""
    parts = []
    while length and (part := stream.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _skip(stream: IO[bytes], length: int | None) -> int:
    """Read past a number of bytes, or to the end; return how many there were."""
    read = 0
    while part := stream.read(_CHUNK if length is None else min(_CHUNK, length - read)):
        read += len(part)
    return read
