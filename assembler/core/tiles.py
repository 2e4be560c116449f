"""Tile compression as FITS Standard 4.0, section 10, has it: which images, cut how, and what becomes of their cards.

The compressed HDU is a binary table. Every card of the image is in its header, at its place and with all its characters; the
structural ones and the checksums are renamed, as the Standard asks. So the header of the image comes back by renaming alone.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assembler.core.cards import is_printable, keyword_of, text_of, write_card
from assembler.core.exposure import Hdu

RICE = "RICE_1"
GZIP = "GZIP_2"
MOST_PIXELS = 1 << 20
"""A tile has no more pixels, so that nobody needs the memory for a larger one."""
BLOCKSIZE = 32
"""Pixels that Rice takes together, as cfitsio has it."""

_METHODS = {8: RICE, 16: RICE, 32: RICE, -32: GZIP, -64: GZIP}
_FEWEST_PIXELS = {RICE: 2048, GZIP: 16384}
_LONGEST_ROW = 65536
_MOST_AXES = 3  # cfitsio decompresses no more
_LEAST = 2880  # a data unit of one block gets no shorter
_NARROW_HEAP = 1 << 30  # far from what an offset of 32 bits can tell, as a heap may be larger than the pixels

_SUMS = ("CHECKSUM", "DATASUM")
_RENAMED = {"XTENSION": "ZTENSION", "CHECKSUM": "ZHECKSUM", "DATASUM": "ZDATASUM"}
_RENAMED |= {keyword: f"Z{keyword}" for keyword in ("BITPIX", "NAXIS", "PCOUNT", "GCOUNT")}
_ORIGINAL = {renamed: keyword for keyword, renamed in _RENAMED.items()}
_AXIS = re.compile(r"NAXIS[0-9]+")
_Z_AXIS = re.compile(r"ZNAXIS[0-9]+")
_RESERVED = re.compile(
    r"Z(?:IMAGE|SIMPLE|TENSION|EXTEND|BLOCKED|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|HECKSUM|DATASUM|CMPTYPE|TILE\d+|NAME\d+|VAL\d+"
    r"|QUANTIZ|DITHER0|MASKCMP|SCALE|ZERO|BLANK|TABLE|TILELEN|THEAP|FORM\d+|CTYP\d+)"
    r"|T(?:FIELDS|HEAP|(?:TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL)\d+)|FZ[A-Z0-9]*|SIMPLE|EXTEND|BLOCKED|GROUPS|END"
)
"""Keywords that mean something to who reads a compressed image, so that in the header of one they would not be just cards."""

_MARK = write_card("ZIMAGE", text_of(True), "compressed by the L0 assembler, layout 1")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How an image is cut into tiles: each is a run of pixels that follow one another in the data unit.

    Attributes
    ----------
    method : str
        ``RICE_1`` or ``GZIP_2``.
    bitpix : int
    axes : tuple of int
        NAXISn.
    tile : tuple of int
        ZTILEn: whole axes first, then a part of one, then ones.
    """

    method: str
    bitpix: int
    axes: tuple[int, ...]
    tile: tuple[int, ...]

    @property
    def width(self) -> int:
        """Length of a pixel [bytes]."""
        return abs(self.bitpix) // 8

    @property
    def length(self) -> int:
        """Length of the pixels [bytes]."""
        return self.width * math.prod(self.axes)

    @property
    def unit(self) -> int:
        """Pixels of a tile; the last one of a period may have fewer."""
        return math.prod(self.tile)

    @property
    def period(self) -> int:
        """Pixels after which a tile begins in any case: those of the axes that tiles go along.

        >>> Tiling(method=RICE, bitpix=16, axes=(100, 50, 3), tile=(100, 21, 1)).period
        5000
        """
        along = max((n for n, part in enumerate(self.tile) if part > 1), default=0)
        return math.prod(self.axes[: along + 1])

    @property
    def count(self) -> int:
        """Number of tiles."""
        return math.prod(self.axes) // self.period * -(-self.period // self.unit)

    def runs(self, most: int) -> Iterator[tuple[int, int]]:
        """Cut the image into runs of whole tiles, each as wide and as many rows high as it says, of about so many pixels.

        Each row of a run is cut into tiles of `unit` pixels and what remains.

        >>> list(Tiling(method=RICE, bitpix=16, axes=(100, 50, 3), tile=(100, 21, 1)).runs(10000))
        [(5000, 2), (5000, 1)]
        >>> list(Tiling(method=RICE, bitpix=16, axes=(100, 50, 3), tile=(100, 21, 1)).runs(4300))[:2]
        [(4200, 1), (800, 1)]
        """
        periods = math.prod(self.axes) // self.period
        if self.period <= most:
            height = most // self.period
            for first in range(0, periods, height):
                yield self.period, min(height, periods - first)
            return
        step = max(most // self.unit, 1) * self.unit
        for _ in range(periods):
            for first in range(0, self.period, step):
                yield min(step, self.period - first), 1


def tiling_for(hdu: Hdu) -> Tiling | None:
    """Return how to cut an HDU; None when it has to stay as it is.

    An image extension may be compressed when its header has the order of the Standard, its cards are printable, none of
    them would mean something else in a compressed image, and its fill is what the Standard asks for: there is no other place
    to keep it.
    """
    axes, bitpix = hdu.value("NAXIS"), hdu.value("BITPIX")
    if hdu.value("XTENSION") != "IMAGE" or not isinstance(axes, int) or not 0 < axes <= _MOST_AXES:
        return None
    if not isinstance(bitpix, int) or bitpix not in _METHODS or (hdu.value("PCOUNT"), hdu.value("GCOUNT")) != (0, 1):
        return None
    if hdu.length <= _LEAST or not hdu.blank_padding or not hdu.clean_fill or not _is_plain(hdu.images, axes):
        return None
    lengths = tuple(n for n in (hdu.value(f"NAXIS{n}") for n in range(1, axes + 1)) if isinstance(n, int))
    method = _METHODS[bitpix]
    return Tiling(method=method, bitpix=bitpix, axes=lengths, tile=_tile(lengths, _FEWEST_PIXELS[method]))


def is_wide(tiling: Tiling) -> bool:
    """Tell whether the heap needs offsets of 64 bits."""
    return tiling.length > _NARROW_HEAP


def compressed_cards(images: Sequence[str], tiling: Tiling, *, heap: int, longest: int) -> tuple[str, ...]:
    """Return the cards of a compressed image, without CHECKSUM and DATASUM; how many there are does not depend on the heap.

    Parameters
    ----------
    images : sequence of str
        Those of the image.
    tiling : Tiling
    heap : int
        Length of all compressed tiles [bytes].
    longest : int
        Length of the longest of them [bytes].
    """
    wide = is_wide(tiling)
    cards = (
        _card("XTENSION", "BINTABLE", "binary table extension"),
        _card("BITPIX", 8, "8-bit bytes"),
        _card("NAXIS", 2, "2-dimensional binary table"),
        _card("NAXIS1", 16 if wide else 8, "width of table in bytes"),
        _card("NAXIS2", tiling.count, "number of tiles"),
        _card("PCOUNT", heap, "size of the compressed tiles in bytes"),
        _card("GCOUNT", 1, "one data group"),
        _card("TFIELDS", 1, "number of columns"),
        _card("TTYPE1", "COMPRESSED_DATA", "the compressed tiles"),
        _card("TFORM1", f"1{'Q' if wide else 'P'}B({longest})", "bytes of variable length"),
        _MARK,
        _card("ZCMPTYPE", tiling.method, "compression algorithm"),
        *(_card(f"ZTILE{n}", length, f"length of a tile along axis {n}") for n, length in enumerate(tiling.tile, 1)),
        *_parameters(tiling),
    )
    return (*cards, *(_renamed(image) for image in images))


def is_compressed(hdu: Hdu) -> bool:
    """Tell whether it was this module that compressed an HDU; others are not taken for it."""
    return hdu.index > 0 and _MARK in hdu.images


def restored_cards(hdu: Hdu) -> tuple[str, ...]:
    """Return the cards of the image that was compressed.

    >>> cards = tuple(c.ljust(80) for c in ("XTENSION= 'IMAGE   '", "BITPIX  = 16", "NAXIS   = 1", "NAXIS1  = 9", "GAIN    = 2"))
    >>> tiling = Tiling(method=RICE, bitpix=16, axes=(9,), tile=(9,))
    >>> table = (*compressed_cards(cards, tiling, heap=0, longest=0), "CHECKSUM".ljust(80), "DATASUM".ljust(80))
    >>> restored_cards(Hdu(index=1, images=table, offset=0, length=0, header_sum=0)) == cards
    True
    """
    first = next(n for n, image in enumerate(hdu.images) if image.startswith("ZTENSION"))
    return tuple(map(_original, hdu.images[first:-2]))


def tiling_in(hdu: Hdu) -> Tiling:
    """Return how an image was cut, as the header of the compressed one tells.

    Raises
    ------
    ValueError
        When it is none that `tiling_for` would have made.
    """
    values = hdu.values()
    method, bitpix, axes = values.get("ZCMPTYPE"), values.get("ZBITPIX"), values.get("ZNAXIS")
    if not isinstance(bitpix, int) or not isinstance(axes, int) or not 0 < axes <= _MOST_AXES or _METHODS.get(bitpix) != method:
        raise ValueError(f"ZCMPTYPE is {method!a}, ZBITPIX {bitpix!a}, ZNAXIS {axes!a}")
    numbers = range(1, axes + 1)
    lengths, tile = (tuple(_count(values.get(f"{k}{n}"), f"{k}{n}") for n in numbers) for k in ("ZNAXIS", "ZTILE"))
    tiling = Tiling(method=str(method), bitpix=bitpix, axes=lengths, tile=tile)
    along = next((n for n, (part, length) in enumerate(zip(tile, lengths, strict=True)) if part != length), axes)
    if any(part != 1 for part in tile[along + 1 :]) or any(map(int.__gt__, tile, lengths)) or tiling.unit > MOST_PIXELS:
        raise ValueError(f"the tiles are {' x '.join(map(str, tile))} pixels of {' x '.join(map(str, lengths))}")
    if (values.get("NAXIS1"), values.get("NAXIS2")) != (16 if is_wide(tiling) else 8, tiling.count):
        raise ValueError(f"NAXIS2 is {values.get('NAXIS2')!a}, the tiles are {tiling.count}")
    if not any(image.startswith("ZTENSION") for image in hdu.images):
        raise ValueError("there is no ZTENSION")
    return tiling


def _tile(axes: Sequence[int], fewest: int) -> tuple[int, ...]:
    """Return a row, a part of one where rows are long, or as many rows as make enough pixels."""
    tile = [min(axes[0], _LONGEST_ROW)]
    for length in axes[1:]:
        pixels = math.prod(tile)
        whole = all(part == axis for part, axis in zip(tile, axes, strict=False))
        tile.append(min(length, -(-fewest // pixels)) if whole and pixels < fewest else 1)
    return tuple(tile)


def _parameters(tiling: Tiling) -> tuple[str, ...]:
    if tiling.method == GZIP:
        return (_card("ZQUANTIZ", "NONE", "lossless, without quantization"),)
    return (
        _card("ZNAME1", "BLOCKSIZE", "compression block size"),
        _card("ZVAL1", BLOCKSIZE, "pixels per block"),
        _card("ZNAME2", "BYTEPIX", "bytes per pixel"),
        _card("ZVAL2", tiling.width, "bytes per pixel"),
    )


def _card(keyword: str, value: str | int, comment: str) -> str:
    return write_card(keyword, text_of(value), comment)[0]


def _is_plain(images: Sequence[str], axes: int) -> bool:
    """Tell whether cards come back when they are renamed, and mean in a compressed image what they mean in this one."""
    keywords = [keyword_of(image) for image in images]
    structure = ["XTENSION", "BITPIX", "NAXIS", *(f"NAXIS{n}" for n in range(1, axes + 1)), "PCOUNT", "GCOUNT"]
    others = keywords[len(structure) :]
    return (
        keywords[: len(structure)] == structure
        and not any(k in structure or _AXIS.fullmatch(k) or _RESERVED.fullmatch(k) for k in others)
        and all(others.count(k) < 2 for k in _SUMS)
        and is_printable("".join(images))
    )


def _renamed(image: str) -> str:
    keyword = keyword_of(image)
    if _AXIS.fullmatch(keyword):
        return f"{'Z' + keyword:8}{image[8:]}"
    return f"{_RENAMED.get(keyword, keyword):8}{image[8:]}"


def _original(image: str) -> str:
    keyword = keyword_of(image)
    if _Z_AXIS.fullmatch(keyword):
        return f"{keyword[1:]:8}{image[8:]}"
    return f"{_ORIGINAL.get(keyword, keyword):8}{image[8:]}"


def _count(value: object, keyword: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{keyword} is {value!a}")
    return value
