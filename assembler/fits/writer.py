"""Plan to bytes: one pass over the data, checksums on the fly, and a file that is there whole or not at all.

The file is written under a temporary name in the output directory, synced, closed, and given to whoever verifies it;
only then does link(2) put it under its final name, which fails where that name is taken.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assembler.core.cards import CARD_LENGTH, VALUE_COLUMN, text_of, write_card
from assembler.core.plan import Plan, PlannedHdu, Source, conclude
from assembler.core.tables import Table
from assembler.errors import OutputError
from assembler.fits.blocks import padded
from assembler.fits.copying import DataUnit, copy_inputs
from assembler.fits.pace import Pace, at_once
from assembler.fits.sums import encode, fold, word_sum

_SUFFIX = ".part"
_DRAFT = re.compile(rf"\..+\.[0-9a-f]{{16}}{_SUFFIX}", re.DOTALL)
_ZEROS = "0" * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An L0 under its temporary name.

    Attributes
    ----------
    path : Path
    lock : file
        Open for reading only, and locked as long as the draft is in use. What is written goes through a descriptor of its own,
        which is closed before anybody verifies: over a network, only what was closed is told of all its errors.
    """

    path: Path
    lock: IO[bytes]

    def is_gone(self) -> bool:
        """Tell whether somebody removed it, by scanning the directory: a network file system remembers names that are gone."""
        with suppress(OSError), os.scandir(self.path.parent) as entries:
            return all(entry.name != self.path.name for entry in entries)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A draft while it is written."""

    path: Path
    descriptor: int


@contextmanager
def draft(directory: Path, filename: str) -> Iterator[Draft]:
    """Make a file of a unique hidden name beside the target; remove it on the way out, whatever happens.

    Raises
    ------
    OutputError
        When the directory cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f".{filename}.{os.urandom(8).hex()}{_SUFFIX}"
        lock = open(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise OutputError(f"{directory}: cannot write here: {error.strerror}") from error
    try:
        # Shared, as NFS locks what is open for reading; who asks for the lock alone is refused all the same.
        # Some file systems have no locks; then abandoned drafts stay.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield Draft(path=path, lock=lock)
    finally:
        with suppress(OSError):
            lock.close()  # first: a file that is removed while it is open stays for a while over a network
        with suppress(OSError):
            path.unlink()


def write_l0(plan: Plan, target: Draft, pace: Pace = at_once) -> tuple[Plan, dict[str, int]]:
    """Write a plan into a draft, sync it, and close it.

    Parameters
    ----------
    plan : Plan
    target : Draft
    pace : callable
        What copying the data keeps to.

    Returns
    -------
    plan : Plan
        With what reading the data told.
    sums : dict of str to int
        By HDU, the sum of its data unit: of an extension from a sub-FITS, that of the bytes that were read there.

    Raises
    ------
    InputError
        When a sub-FITS cannot be read, or is not the one that was planned with any more.
    OutputError
        When the disk does not take it.
    """
    starts = _layout(plan.hdus)
    try:
        with open(target.path, "r+b", buffering=0) as file:
            opened = _Opened(path=target.path, descriptor=file.fileno())
            plan, sums = _transfer(plan, starts, opened, pace)
            for hdu, start in zip(plan.hdus, starts, strict=True):
                write_at(opened.descriptor, render_header(hdu.cards, sums[hdu.name]), start)
            os.fsync(opened.descriptor)
    except OSError as error:
        raise _cannot_write(target, error) from error
    return plan, sums


def sum_l0(plan: Plan, pace: Pace = at_once) -> tuple[Plan, dict[str, int]]:
    """Return what `write_l0` would, without writing anything: the sub-FITS are read and summed."""
    return _transfer(plan, [0] * len(plan.hdus), None, pace)


def publish(target: Draft, filename: str) -> Path:
    """Put a draft under its final name, never over a file that has it.

    Raises
    ------
    OutputError
        When the name is taken, or the directory cannot be written to.
    """
    final = target.path.parent / filename
    try:
        try:
            os.link(target.path, final)
        except OSError as error:
            # Over a network the answer may be lost though the link was made; the number of links tells.
            if target.path.stat().st_nlink != 2 or not final.exists() or not final.samefile(target.path):
                if isinstance(error, FileExistsError):
                    raise OutputError(f"{final} exists, and an L0 is never overwritten") from error
                raise
        target.lock.close()
        with suppress(FileNotFoundError):  # somebody took it for abandoned, now that it is not locked
            target.path.unlink()
        sync_directory(final.parent)
    except OSError as error:
        raise OutputError(f"{final}: cannot be published: {error.strerror}") from error
    return final


def render_header(cards: Sequence[str], datasum: int) -> bytes:
    """Return a header as it is in the file: cards, checksums, END, fill.

    Parameters
    ----------
    cards : sequence of str
    datasum : int
        The sum of the data unit.
    """
    sums = write_card("DATASUM", text_of(str(datasum)), "data unit checksum")
    end = "END".ljust(80)

    text = "".join((*cards, *write_card("CHECKSUM", f"'{_ZEROS}'", "HDU checksum"), *sums, end))
    header = text.ljust(padded(len(text))).encode("ascii")
    start = CARD_LENGTH * len(cards) + VALUE_COLUMN + 1
    return header[:start] + encode(fold(word_sum(header) + datasum)).encode("ascii") + header[start + len(_ZEROS) :]


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of it at an offset."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def header_length(hdu: PlannedHdu) -> int:
    """Return the length of an HDU's header in the file [bytes]."""
    return padded(80 * (len(hdu.cards) + 3))


def _layout(hdus: Sequence[PlannedHdu]) -> list[int]:
    """Return where each HDU starts [bytes]; nothing depends on the length of the last one."""
    starts, position = [], 0
    for hdu in hdus:
        starts.append(position)
        position += header_length(hdu)
        if isinstance(hdu.data, Source):
            position += hdu.data.length
        elif hdu.data:
            position += padded(sum(hdu.data.widths()) * hdu.data.count)
    return starts


def _transfer(plan: Plan, starts: Sequence[int], target: _Opened | None, pace: Pace) -> tuple[Plan, dict[str, int]]:
    """Copy the data units of the sub-FITS, conclude the plan, write its tables; return the sum of every data unit."""

    def write(part: memoryview, offset: int) -> None:
        assert target is not None
        try:
            write_at(target.descriptor, part, offset)
        except OSError as error:  # the disk's, not the sub-FITS's
            raise _cannot_write(target, error) from error

    copied, digests = copy_inputs(plan.inputs, _units(plan, starts), target.descriptor if target else None, write, pace)
    sums = {hdu.name: copied.get(number, 0) for number, hdu in enumerate(plan.hdus)}
    plan = conclude(plan, sums, digests)
    for hdu, start in zip(plan.hdus, starts, strict=True):
        if isinstance(hdu.data, Table):
            data = hdu.data.data()
            data = data.ljust(padded(len(data)), b"\0")
            sums[hdu.name] = word_sum(data)
            if target:
                write_at(target.descriptor, data, start + header_length(hdu))
    return plan, sums


def _units(plan: Plan, starts: Sequence[int]) -> dict[str, list[DataUnit]]:
    """Return by sub-FITS which data units are to be copied, and where to."""
    units: dict[str, list[DataUnit]] = {}
    for number, (hdu, start) in enumerate(zip(plan.hdus, starts, strict=True)):
        if isinstance(hdu.data, Source):
            unit = DataUnit(offset=hdu.data.offset, length=hdu.data.length, hdu=number, target=start + header_length(hdu))
            units.setdefault(hdu.data.path, []).append(unit)
    return units


def _cannot_write(target: Draft | _Opened, error: OSError) -> OutputError:
    return OutputError(f"{target.path.parent}: the L0 cannot be written: {error.strerror}")


def drafts_of(directory: Path, filename: str = "") -> list[str]:
    """Return the paths of the drafts of an L0, or of all L0s, whoever's they are.

    Raises
    ------
    OSError
        When the directory cannot be read.
    """
    start = f".{filename}." if filename else "."
    return [os.path.join(directory, name) for name in os.listdir(directory) if name.startswith(start) and _DRAFT.fullmatch(name)]


def remove_abandoned(directory: Path, filename: str = "") -> None:
    """Remove the drafts of an L0, or of all L0s, that a killed process left behind: those that nobody locks."""
    found = []
    with suppress(OSError):
        found = drafts_of(directory, filename)
    for path in found:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
            finally:
                os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Bring to the disk which names a directory has."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
