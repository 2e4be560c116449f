"""A tile-compressed copy of an L0, and the L0 back from it, byte for byte.

Both go through a file by runs of tiles, so that neither needs more memory for a larger L0. A copy gets its name only
when the L0 came back from it.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from assembler.core.cards import CARD_LENGTH
from assembler.core.exposure import Hdu, SubFits
from assembler.core.tiles import Tiling, compressed_cards, is_compressed, is_wide, restored_cards, tiling_for, tiling_in
from assembler.errors import InputError, OutputError, VerificationError
from assembler.fits.blocks import fill, open_fits, padded, scan_open, signature_of
from assembler.fits.codecs import Tiles, decode_run, descriptors, encode_run, render_plain
from assembler.fits.sums import Total, fold, word_sum
from assembler.fits.threads import side_by_side
from assembler.fits.verifier import hdu_problems, sum_problems
from assembler.fits.writer import Draft, draft, publish, remove_abandoned, render_header, write_at

_RUN = 4 << 20
_BUFFER = 1 << 20
_SUM_CARDS = 2  # that render_header adds

Part = bytes | memoryview


def compress_l0(source: Path, target: Path) -> None:
    """Write a tile-compressed copy of an L0, from which it comes back byte for byte.

    The copy is made beside the target, under a hidden name, and synced. Then it is read anew and restored, and gets its
    name only if the SHA-256 of what comes of it is that of the source. The name is never taken from another file.

    Parameters
    ----------
    source : Path
        An L0, not compressed by gzip.
    target : Path
        Its directory is made where it is not there.

    Raises
    ------
    InputError
        When the source cannot be read, or was compressed already.
    OutputError
        When the target is there already, or the disk does not take it.
    VerificationError
        When a checksum of the source does not fit or is missing, or the source does not come back. There is no target then.
    """
    _make_way(target)
    with _opened(source) as (stream, found), draft(target.parent, target.name) as copy:
        for hdu in found.hdus:
            if is_compressed(hdu):
                raise InputError(f"{source}, HDU {hdu.index}: is tile-compressed by the assembler already", path=str(source))
        with _written(copy) as descriptor:
            os.ftruncate(descriptor, _compress(stream, found, descriptor))
        _check_unchanged(stream, found)
        _prove(stream, found, copy)
        publish(copy, target.name)


def decompress_l0(source: Path, target: Path) -> None:
    """Give back the L0 that `compress_l0` made a copy of.

    Parameters
    ----------
    source : Path
        The copy.
    target : Path
        Its directory is made where it is not there.

    Raises
    ------
    InputError
        When the source cannot be read.
    OutputError
        When the target is there already, or the disk does not take it.
    VerificationError
        When a checksum of the source or of what comes of it does not fit or is missing. There is no target then.
    """
    _make_way(target)
    with draft(target.parent, target.name) as copy:
        with _written(copy) as descriptor:
            position = 0
            for part in _restored(source):
                write_at(descriptor, part, position)
                position += len(part)
        publish(copy, target.name)


def _make_way(target: Path) -> None:
    """Raise early where the name is taken, as who publishes does; remove what a process left that was killed."""
    if os.path.lexists(target):
        raise OutputError(f"{target} exists, and an L0 is never overwritten", retry=False)
    remove_abandoned(target.parent, target.name)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], SubFits]]:
    """Open an L0, or a copy of one: every byte of it is under a checksum that fits."""
    with open_fits(str(path)) as (stream, gzipped):
        if gzipped:
            raise InputError(f"{path}: is compressed by gzip; unpack it first", path=str(path))
        found = scan_open(stream, gzipped, str(path))
        if problems := sum_problems(found):
            raise VerificationError(f"{path}: {problems[0]}; it is damaged, was changed, or is no L0")
        yield stream, found


@contextmanager
def _written(copy: Draft) -> Iterator[int]:
    """Give a descriptor to write to; then sync, close, and let the kernel forget what it has of it in memory."""
    try:
        with open(copy.path, "r+b", buffering=0) as file:
            yield file.fileno()
            os.fsync(file.fileno())
            with suppress(OSError):  # some file systems do not take advice
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise OutputError(f"{copy.path.parent}: the L0 cannot be written: {error.strerror}") from error


def _compress(stream: IO[bytes], found: SubFits, target: int) -> int:
    """Write every HDU, compressed where it gets shorter by that; return the length of it all [bytes]."""
    position = begin = 0
    for hdu in found.hdus:
        end = hdu.offset + hdu.length
        tiling = tiling_for(hdu) if hdu.offset - begin == padded(CARD_LENGTH * (len(hdu.images) + 1)) else None
        length = _compress_image(stream, found.path, hdu, tiling, target, position, end - begin) if tiling else None
        if length is None:
            length = end - begin
            _copy(stream, found.path, begin, length, target, position)
        position, begin = position + length, end
    return position


def _compress_image(stream: IO[bytes], path: str, hdu: Hdu, tiling: Tiling, target: int, position: int, longest: int) -> int | None:
    """Write a compressed image; return the length of its HDU [bytes], or None when it would not be shorter than it was."""
    wide = is_wide(tiling)
    header_length = padded(CARD_LENGTH * (len(compressed_cards(hdu.images, tiling, heap=0, longest=0)) + _SUM_CARDS + 1))
    start = header_length + tiling.count * (16 if wide else 8)
    lengths: list[int] = []
    heap, total, place = 0, Total(), hdu.offset
    for columns, rows in tiling.runs(_RUN // tiling.width):
        pixels = _read(stream, path, place, columns * rows * tiling.width)
        try:
            tiles = encode_run(tiling, pixels, columns, rows)
        except ValueError:
            return None
        joined = b"".join(tiles)
        if padded(start + heap + len(joined)) >= longest:
            return None
        write_at(target, joined, position + start + heap)
        total.add(joined)
        lengths.extend(map(len, tiles))
        heap, place = heap + len(joined), place + len(pixels)
    length = padded(start + heap)
    write_at(target, bytes(length - start - heap), position + start + heap)
    table = descriptors(lengths, wide=wide)
    write_at(target, table, position + header_length)
    cards = compressed_cards(hdu.images, tiling, heap=heap, longest=max(lengths))
    write_at(target, render_header(cards, fold(word_sum(table) + total.value)), position)
    return length


def _prove(stream: IO[bytes], found: SubFits, copy: Draft) -> None:
    """Raise `VerificationError` unless the source comes back from its copy; both are read anew."""
    size = found.signature[0]

    def digest(parts: Iterable[Part]) -> bytes:
        told = hashlib.sha256()
        for part in parts:
            told.update(part)
        return told.digest()

    def digest_restored(path: Path) -> bytes:
        try:
            return digest(_restored(path))
        except (InputError, VerificationError) as error:
            raise VerificationError(f"{found.path}: cannot be restored from its compressed copy: {error}") from error

    source, again = side_by_side(
        lambda path: digest_restored(path) if path else digest(_parts(stream, found.path, 0, size)), [None, copy.path]
    )
    _check_unchanged(stream, found)
    if source != again:
        raise VerificationError(f"{found.path}: its compressed copy gives back something else; there is no copy")


def _restored(path: Path) -> Iterator[Part]:
    """Yield the L0 that a copy was made of, part by part."""
    with _opened(path) as (stream, found):
        begin = 0
        for hdu in found.hdus:
            end = hdu.offset + hdu.length
            yield from _restored_image(stream, path, hdu) if is_compressed(hdu) else _parts(stream, found.path, begin, end - begin)
            begin = end
        _check_unchanged(stream, found)


def _restored_image(stream: IO[bytes], path: Path, hdu: Hdu) -> Iterator[Part]:
    """Yield header and pixels of an image; raise `VerificationError` when they are not what its checksums tell."""
    try:
        tiling = tiling_in(hdu)
        lengths, place = _lengths(stream, path, hdu, tiling)
        header = render_plain(restored_cards(hdu))
        yield header
        total, done = Total(), 0
        for columns, rows in tiling.runs(_RUN // tiling.width):
            count = rows * -(-columns // tiling.unit)
            tiles = _tiles(stream, path, place, lengths[done : done + count], columns * rows * tiling.width)
            pixels = decode_run(tiling, tiles, columns, rows)
            total.add(pixels)
            yield pixels
            done, place = done + count, place + sum(map(len, tiles))
    except ValueError as error:
        raise VerificationError(f"{path}, HDU {hdu.index}: cannot be decompressed: {error}") from error
    yield bytes(padded(tiling.length) - tiling.length)
    image = Hdu(index=hdu.index, images=restored_cards(hdu), offset=0, length=0, header_sum=word_sum(header))
    if problems := hdu_problems(image, total.value):
        raise VerificationError(f"{path}: decompressed, {problems[0]}")


def _lengths(stream: IO[bytes], path: Path, hdu: Hdu, tiling: Tiling) -> tuple[Sequence[int], int]:
    """Return the length of each tile, and where the first one is [bytes]."""
    wide = is_wide(tiling)
    size = tiling.count * (16 if wide else 8)
    if size > hdu.length:
        raise ValueError("the table of tiles is longer than the data unit")
    table = bytes(_read(stream, str(path), hdu.offset, size))
    lengths: Sequence[int] = np.frombuffer(table, ">i8" if wide else ">i4")[::2].tolist()
    if min(lengths) < 0 or sum(lengths) > hdu.length - size or descriptors(lengths, wide=wide) != table:
        raise ValueError("the tiles do not follow one another")
    return lengths, hdu.offset + size


def _tiles(stream: IO[bytes], path: Path, place: int, lengths: Sequence[int], plain: int) -> Tiles:
    """Read tiles that are so long when they are not compressed."""
    size = sum(lengths)
    if size > 2 * plain + 64 * len(lengths):
        raise ValueError("the tiles are longer than what is in them")
    heap = _read(stream, str(path), place, size)
    tiles, first = [], 0
    for length in lengths:
        tiles.append(heap[first : first + length])
        first += length
    return tiles


def _copy(stream: IO[bytes], path: str, start: int, length: int, target: int, position: int) -> None:
    for part in _parts(stream, path, start, length):
        write_at(target, part, position)
        position += len(part)


def _parts(stream: IO[bytes], path: str, start: int, length: int) -> Iterator[memoryview]:
    for offset in range(start, start + length, _BUFFER):
        yield _read(stream, path, offset, min(_BUFFER, start + length - offset))


def _read(stream: IO[bytes], path: str, offset: int, length: int) -> memoryview:
    view = memoryview(bytearray(length))
    try:
        stream.seek(offset)
        part = fill(stream, view)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", path=path, retry=True) from error
    if len(part) < length:
        raise InputError(f"{path}: became shorter while it was read", path=path, reason="still-growing", retry=True)
    return part


def _check_unchanged(stream: IO[bytes], found: SubFits) -> None:
    try:
        signature = signature_of(stream)
    except OSError as error:
        raise InputError(f"{found.path}: cannot be read: {error.strerror}", path=found.path, retry=True) from error
    if signature != found.signature:
        raise InputError(f"{found.path}: changed while it was read", path=found.path, reason="still-growing", retry=True)
