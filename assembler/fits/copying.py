"""The data units of sub-FITS into an L0: each sub-FITS is read once, from its first byte to its last, summed and hashed on the way.

Threads take the next part of a file in turn. Reading, summing and writing go on side by side; the SHA-256 of a file can only
be told in the order of its bytes, so each thread waits for its turn with that.
"""

import ctypes
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Condition
from typing import IO

from assembler.core.delivered import Input
from assembler.errors import InputError
from assembler.fits.blocks import fill, open_fits, signature_of
from assembler.fits.pace import Pace
from assembler.fits.sums import fold, word_sum
from assembler.fits.threads import WORKERS, side_by_side

BUFFER = 1 << 20
SMALL = 8 << 20
"""Up to how many bytes in all a second thread costs more than it saves [bytes]."""

_WRITE_OUT = 2  # SYNC_FILE_RANGE_WRITE


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUnit:
    """A data unit to be copied: its place in the sub-FITS, the number of its HDU in the L0, and its place there [bytes]."""

    offset: int
    length: int
    hdu: int
    target: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a sub-FITS; those between data units have no HDU."""

    offset: int
    length: int
    hdu: int | None = None
    target: int = 0


Write = Callable[[memoryview, int], None]
"""Writes bytes at an offset of the L0."""


def copy_inputs(
    inputs: Sequence[Input], units: Mapping[str, Sequence[DataUnit]], descriptor: int | None, write: Write, pace: Pace
) -> tuple[dict[int, int], dict[str, str]]:
    """Read sub-FITS, and copy their data units.

    Parameters
    ----------
    inputs : sequence of Input
    units : mapping of str to sequence of DataUnit
        By path.
    descriptor : int or None
        The L0 that is written; None: they are read only.
    write : callable
    pace : callable
        What reading keeps to.

    Returns
    -------
    sums : dict of int to int
        By the number of the HDU in the L0, the sum of its data unit.
    digests : dict of str to str
        By origin, the SHA-256 of the sub-FITS.

    Raises
    ------
    InputError
        When a sub-FITS cannot be read, or is not the one that was planned with any more.
    """
    readings = [_Reading(one, tuple(_parts(one, units.get(one.path, ()))), descriptor, write, pace) for one in inputs]
    workers = 1 if sum(one.delivered.length for one in inputs) <= SMALL else WORKERS
    longest = min(BUFFER, max((one.delivered.length for one in inputs), default=0))

    def work(_number: int) -> list[tuple[int, int]]:
        buffer = memoryview(bytearray(longest))
        return [told for reading in readings for told in reading.take_part(buffer)]

    sums: dict[int, int] = {}
    for told in side_by_side(work, range(workers), workers=workers):
        for hdu, part in told:
            sums[hdu] = fold(sums.get(hdu, 0) + part)
    return sums, {reading.origin: reading.digest for reading in readings}


class _Reading:
    """A sub-FITS that is read from its first byte to its last, by as many threads as take part; one where it is compressed."""

    def __init__(self, one: Input, parts: Sequence[_Part], descriptor: int | None, write: Write, pace: Pace) -> None:
        self.origin = one.delivered.origin
        self._input = one
        self._parts = parts
        self._descriptor = descriptor
        self._write = write
        self._pace = pace
        self._hash = hashlib.sha256()
        self._changed = Condition()
        self._taken = 0
        self._hashed = 0
        self._is_closed = False

    @property
    def digest(self) -> str:
        """The SHA-256 of all that was read, in hexadecimal digits."""
        return self._hash.hexdigest()

    def take_part(self, buffer: memoryview) -> list[tuple[int, int]]:
        """Read parts until none is left; return the numbers of their HDUs and what they sum up to."""
        if not self._may_begin():
            return []
        path, sums = self._input.path, []
        try:
            with open_fits(path) as (stream, _):
                _check_unchanged(stream, self._input)
                for number in self._numbers():
                    part = self._parts[number]
                    view = self._read(stream, part, buffer)
                    self._add(number, view)  # before it is written: a disk that is slow to take it keeps nobody waiting
                    if part.hdu is not None:
                        sums.append((part.hdu, fold(word_sum(view))))
                        if self._descriptor is not None:
                            self._write(view, part.target)
                            if part.length == BUFFER:
                                _write_out(self._descriptor, part.target, part.length)
                _check_unchanged(stream, self._input)
        except BaseException:
            with self._changed:  # nobody waits for a part that will not come
                self._is_closed = True
                self._changed.notify_all()
            raise
        return sums

    def _may_begin(self) -> bool:
        """Tell whether another thread may take part: what is compressed has to be read from its start on."""
        with self._changed:
            if self._is_closed or (self._input.compressed and self._taken):
                return False
            if not self._input.compressed:
                return True
            self._taken = 1
            return True

    def _numbers(self) -> Iterator[int]:
        """Yield the numbers of the parts that this thread is to read."""
        if self._input.compressed:
            yield from range(len(self._parts))
            return
        while True:
            with self._changed:
                number = self._taken
                if self._is_closed or number >= len(self._parts):
                    return
                self._taken += 1
            yield number

    def _read(self, stream: IO[bytes], part: _Part, buffer: memoryview) -> memoryview:
        path = self._input.path
        self._pace(part.length)
        try:
            stream.seek(part.offset)
            view = fill(stream, buffer[: part.length])
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be read: {error}", path=path, retry=True) from error
        if len(view) < part.length:
            raise InputError(f"{path}: became shorter while it was read", path=path, reason="still-growing", retry=True)
        return view

    def _add(self, number: int, view: memoryview) -> None:
        """Hash a part when all before it are."""
        with self._changed:
            self._changed.wait_for(lambda: self._hashed == number or self._is_closed)
        if self._hashed == number:
            self._hash.update(view)
            with self._changed:
                self._hashed += 1
                self._changed.notify_all()


def _parts(one: Input, units: Sequence[DataUnit]) -> Iterator[_Part]:
    """Cut a sub-FITS into parts, in the order of its bytes: data units, and what is between them."""
    position = 0
    for unit in sorted(units, key=lambda u: u.offset):
        yield from _cut(_Part(position, unit.offset - position))
        yield from _cut(_Part(unit.offset, unit.length, unit.hdu, unit.target))
        position = unit.offset + unit.length
    yield from _cut(_Part(position, one.delivered.length - position))


def _cut(whole: _Part) -> Iterator[_Part]:
    for start in range(0, whole.length, BUFFER):
        yield _Part(whole.offset + start, min(BUFFER, whole.length - start), whole.hdu, whole.target + start)


def _check_unchanged(stream: IO[bytes], one: Input) -> None:
    try:
        signature = signature_of(stream)
    except OSError as error:  # its server went away, or another host removed it
        raise InputError(f"{one.path}: cannot be read: {error.strerror}", path=one.path, retry=True) from error
    if signature != one.signature:
        told = f"{one.path}: changed while it was assembled"
        raise InputError(told, path=one.path, reason="still-growing", retry=True)


def _write_out(descriptor: int, offset: int, length: int) -> None:
    """Ask the kernel to start writing a range to the disk, so that fsync finds little left to do.

    Only a hint: where there is no such call, or it fails, fsync does all of it and tells of every error.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _WRITE_OUT)


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        call.restype = ctypes.c_int
    return call


_sync_file_range = _find_sync_file_range()
