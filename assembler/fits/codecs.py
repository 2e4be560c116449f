"""Tiles of pixels to bytes and back: Rice by cfitsio, GZIP_2 by zlib, both to the last bit.

cfitsio is given pixels as they are stored, in a file of its own in memory, and no card of the L0: BZERO, BSCALE and BLANK
would have it change them. Floats it does not keep to the bit, as it has ideas about NaN and denormal numbers; what GZIP_2 asks for is
a line of numpy.
"""

import os
import zlib
from collections.abc import Sequence

import numpy as np

from assembler.core.cards import CARD_LENGTH, Value, text_of, write_card
from assembler.core.tiles import RICE, Tiling, compressed_cards, is_wide
from assembler.fits.blocks import padded

Tiles = Sequence[bytes | memoryview]

_LEVEL = 4  # noise gets 0.2 % longer than with 6, in half the time
_GZIP_WINDOW = 31  # of zlib: the largest window, in a gzip frame
_KINDS = {8: "u1", 16: "i2", 32: "i4"}


def encode_run(tiling: Tiling, pixels: memoryview, columns: int, rows: int) -> Tiles:
    """Compress a run of tiles.

    Parameters
    ----------
    tiling : Tiling
    pixels : memoryview
        As in a data unit.
    columns, rows : int
        What the run has of them; see `Tiling.runs`.

    Raises
    ------
    ValueError
        When cfitsio does not compress them.
    """
    return (_encode_rice if tiling.method == RICE else _encode_gzip)(tiling, pixels, columns, rows)


def decode_run(tiling: Tiling, tiles: Tiles, columns: int, rows: int) -> bytes:
    """Return the pixels of a run, as in a data unit.

    Raises
    ------
    ValueError
        When the tiles are not what compressing pixels gives.
    """
    return (_decode_rice if tiling.method == RICE else _decode_gzip)(tiling, tiles, columns, rows)


def render_plain(cards: Sequence[str]) -> bytes:
    """Return a header as it is in a file, without checksums of its own."""
    text = "".join((*cards, "END".ljust(CARD_LENGTH)))
    return text.ljust(padded(len(text))).encode("ascii")


def descriptors(lengths: Sequence[int], *, wide: bool) -> bytes:
    """Return the table of a compressed image: of each tile its length and its offset in the heap, one after the other."""
    kind = ">i8" if wide else ">i4"
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.stack((lengths, ends - lengths), axis=1).astype(kind).tobytes()


def _encode_rice(tiling: Tiling, pixels: memoryview, columns: int, rows: int) -> Tiles:
    import fitsio  # costs 0.1 s, and only whoever compresses needs it

    kind = _KINDS[tiling.bitpix]
    array = np.frombuffer(pixels, f">{kind}").astype(kind).reshape(rows, columns)
    count = rows * -(-columns // tiling.unit)
    try:
        with fitsio.FITS("mem://", "rw") as file:
            file.write(array, compress="rice", tile_dims=(1, min(tiling.unit, columns)))
            content = memoryview(file.read_raw())
            start = file[-1].get_offsets()["data_start"]
    except (OSError, RuntimeError) as error:
        raise _refused(error) from error
    table = np.frombuffer(content[start : start + 8 * count], ">i4").reshape(count, 2)
    heap = start + 8 * count
    return [content[heap + offset : heap + offset + length] for length, offset in table.tolist()]


def _decode_rice(tiling: Tiling, tiles: Tiles, columns: int, rows: int) -> bytes:
    import fitsio

    axes, kind = (columns, rows), _KINDS[tiling.bitpix]
    run = Tiling(method=RICE, bitpix=tiling.bitpix, axes=axes, tile=(min(tiling.unit, columns), 1))
    primary = _cards(SIMPLE=True, BITPIX=8, NAXIS=0, EXTEND=True)
    image = _cards(XTENSION="IMAGE", BITPIX=tiling.bitpix, NAXIS=2, NAXIS1=columns, NAXIS2=rows, PCOUNT=0, GCOUNT=1)
    lengths = [len(tile) for tile in tiles]
    table = compressed_cards(image, run, heap=sum(lengths), longest=max(lengths))
    content = b"".join((render_plain(primary), render_plain(table), descriptors(lengths, wide=is_wide(run)), *tiles))
    descriptor = os.memfd_create("tiles", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content.ljust(padded(len(content)), b"\0"))
        with fitsio.FITS(f"/proc/self/fd/{descriptor}") as opened:
            array = opened[1].read()
    except (OSError, RuntimeError) as error:
        raise _refused(error) from error
    finally:
        os.close(descriptor)
    if array.shape != (rows, columns) or array.dtype.newbyteorder("=") != kind:
        raise ValueError(f"cfitsio gives {array.dtype} {array.shape}")
    return bytes(array.astype(f">{kind}").tobytes())


def _refused(error: Exception) -> ValueError:
    """Say in one line what cfitsio has to say."""
    return ValueError(" ".join(ascii(str(error))[1:-1].split()))


def _cards(**values: Value) -> list[str]:
    return [write_card(keyword, text_of(value))[0] for keyword, value in values.items()]


def _encode_gzip(tiling: Tiling, pixels: memoryview, columns: int, rows: int) -> Tiles:
    tiles, place = [], 0
    for count in _counts(tiling, columns, rows):
        tile = np.frombuffer(pixels[place : place + count * tiling.width], "u1")
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        tiles.append(packer.compress(tile.reshape(count, tiling.width).T.tobytes()) + packer.flush())
        place += count * tiling.width
    return tiles


def _decode_gzip(tiling: Tiling, tiles: Tiles, columns: int, rows: int) -> bytes:
    parts = []
    for tile, count in zip(tiles, _counts(tiling, columns, rows), strict=True):
        length = count * tiling.width
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        try:
            plain = unpacker.decompress(tile, length + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if len(plain) != length or not unpacker.eof:
            raise ValueError(f"a tile has not the {length} bytes that it should have")
        parts.append(np.frombuffer(plain, "u1").reshape(tiling.width, count).T.tobytes())
    return b"".join(parts)


def _counts(tiling: Tiling, columns: int, rows: int) -> list[int]:
    """Return how many pixels each tile of a run has."""
    row = [min(tiling.unit, columns - first) for first in range(0, columns, tiling.unit)]
    return row * rows
