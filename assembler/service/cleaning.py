"""Which sub-FITS of a night nobody needs any more: an archive has their L0, and that gives them back byte for byte, at this moment.

Everything is looked at before anything is removed. Where an L0 or an archive's copy is not what its receipt says, somebody has to look
at the disk first, and nothing of the night is removed.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from assembler.core.cards import printable_text
from assembler.core.instants import parse_iso
from assembler.core.instrument import Instrument
from assembler.core.places import Place, place_of
from assembler.core.primary import HEADERS_ALONE
from assembler.core.receipts import Content, Receipt
from assembler.core.versions import is_version
from assembler.errors import InputError, OutputError
from assembler.fits.blocks import scan_primary
from assembler.fits.data import file_digest
from assembler.fits.writer import sync_directory
from assembler.service.archive import read_receipt
from assembler.service.archive_work import RICE_SUFFIX
from assembler.service.destination import Destination, is_itself
from assembler.service.recorded import Recording, read_recording
from assembler.service.splitting import given_back
from assembler.service.survey import Task, l0s_in, survey_night

State = Literal["removable", "removed", "kept", "damaged"]

Signature = tuple[int, int, int, int, int]
"""Size [bytes], modification time [ns], inode, device and time of the last change [ns] of a file; the last nobody can set back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may become of the sub-FITS of an exposure, or what became of them.

    Attributes
    ----------
    label : str
        What people call the exposure; of an L0 that no exposure could be told from, its name.
    state : str
        ``removable``; ``removed``; ``kept``, for a reason that is nobody's fault; ``damaged``: somebody has to look.
    reason : str
        Why they are kept.
    l0 : str
        Path of the L0; empty where there is none.
    archived : str
        Where the archive has it.
    files : tuple of str
        Paths of the sub-FITS.
    size : int
        Theirs [bytes].
    """

    label: str
    state: State
    reason: str = ""
    l0: str = ""
    archived: str = ""
    files: tuple[str, ...] = ()
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for.

    Attributes
    ----------
    instrument : Instrument
    out : Path
        Where the L0s are.
    destination : Destination
        The archive.
    template : str
        Where in it L0s are.
    before : int
        Sub-FITS that were written to since stay [ns].
    """

    instrument: Instrument
    out: Path
    destination: Destination
    template: str
    before: int


class _KeptError(Exception):
    """The sub-FITS of an exposure stay."""


class _DamagedError(Exception):
    """A file is not what it was."""


def clean_night(night: Path, order: Order, *, delete: bool, told: Callable[[Verdict], None] = lambda _: None) -> tuple[Verdict, ...]:
    """Say of every exposure of a night whether its sub-FITS may be removed; remove them, where that is asked for and nothing is damaged.

    Parameters
    ----------
    night : Path
    order : Order
    delete : bool
    told : callable
        Is told each verdict once it is the last word.

    Raises
    ------
    InputError
        When there is no such night.
    OutputError
        When the archive cannot be asked, or a sub-FITS cannot be removed.
    """
    survey = survey_night(order.instrument, night)
    l0s = l0s_in(order.out, order.instrument)
    checked = [*_strangers(order, l0s), *(_check(task, l0s, order) for task in survey.tasks)]
    whole = all(verdict.state != "damaged" for verdict, _ in checked)
    verdicts = []
    for verdict, signatures in checked:
        final = verdict
        if delete and verdict.state == "removable":
            reason = "something else of this night is damaged, so nothing is removed"
            final = _remove(verdict, signatures) if whole else replace(verdict, state="kept", reason=reason)
        told(final)
        verdicts.append(final)
    return tuple(verdicts)


def _strangers(order: Order, l0s: Mapping[str, Sequence[str]]) -> Iterator[tuple[Verdict, Mapping[str, Signature]]]:
    """Yield the files among the L0s that no exposure can be told from: what they were, nobody knows."""
    known = {path for some in l0s.values() for path in some}
    for path in sorted(order.out.glob("*.fits")):
        if str(path) not in known and not path.name.startswith("."):
            try:
                if scan_primary(str(path)).hdus[0].value(HEADERS_ALONE) is not None:
                    continue  # headers without pixels are nobody's L0
                told = "is no L0 of this instrument under its own name"
            except InputError as error:
                told = str(error)
            yield Verdict(label=path.name, state="damaged", reason=f"{path}: {told.removeprefix(f'{path}: ')}", l0=str(path)), {}


def _check(task: Task, l0s: Mapping[str, Sequence[str]], order: Order) -> tuple[Verdict, Mapping[str, Signature]]:
    """Look at the sub-FITS of an exposure, its L0, and the archive."""
    origins = {o.name: o for o in order.instrument.origins}
    paths = dict(sorted(task.paths, key=lambda told: origins[told[0]].match != "time"))  # what tells no frame goes first, see _remove
    verdict = Verdict(label=task.label, state="kept", files=tuple(paths.values()))
    if task.missing:  # somebody may still mend it, and would need the others
        return replace(verdict, reason=task.missing[0].message), {}
    mine = l0s.get(task.name(order.instrument).key, ())
    if len(mine) != 1:
        reason = "it has several L0s" if mine else f"it has no L0 in {order.out}"
        return replace(verdict, reason=reason), {}
    verdict = replace(verdict, l0=mine[0])
    try:
        signatures = {path: _signature(path) for path in (mine[0], *paths.values())}
        verdict = replace(verdict, size=sum(signatures[path][0] for path in paths.values()))
        _check_age(paths.values(), signatures, order.before)
        recording = read_recording(Path(mine[0]))
        receipt, place = _receipt(Path(mine[0]), recording, order)
        verdict = replace(verdict, archived=order.destination.url(place))
        _check_archived(Path(mine[0]), receipt, place, order.destination)
        _check_sub_fits(recording, paths, signatures)
        _check_unchanged(signatures)
    except _KeptError as error:
        return replace(verdict, reason=str(error)), {}
    except (_DamagedError, InputError) as error:
        return replace(verdict, state="damaged", reason=str(error)), {}
    return replace(verdict, state="removable"), signatures


def _check_age(paths: Iterable[str], signatures: Mapping[str, Signature], before: int) -> None:
    if any(signatures[path][1] >= before for path in paths):
        raise _KeptError("its sub-FITS are not old enough")


def _check_unchanged(signatures: Mapping[str, Signature]) -> None:
    for path, signature in signatures.items():
        if _signature(path) != signature:
            raise _KeptError(f"{path} changed while it was looked at")


def _receipt(path: Path, recording: Recording, order: Order) -> tuple[Receipt, Place]:
    """Find the receipt of an L0, and the place that it is of."""
    version = recording.values.get("L0VER")
    told = recording.text("DATE-BEG")
    try:
        place = place_of(order.template, path.name, parse_iso(told) if told else None, version if is_version(version) else None)
    except ValueError as error:
        raise _KeptError(f"the archive has no place for its L0: {error}") from None
    places = (place, place.beside(place.name + RICE_SUFFIX))
    receipts = [(receipt, at) for at in places if (receipt := _read(at, order)) is not None]
    if not receipts:
        raise _KeptError(f"{order.destination.url(place)} has no receipt, so its L0 is not archived")
    receipt, at = next(((r, at) for r, at in receipts if r.l0.version == version), receipts[0])
    if receipt.l0.version != version:
        raise _KeptError(f"version {receipt.l0.version} of its L0 is archived, and not version {version}")
    return receipt, at


def _read(place: Place, order: Order) -> Receipt | None:
    try:
        return read_receipt(order.destination, place)
    except ValueError as error:
        raise _DamagedError(f"{order.destination.url(place)}: its receipt is none: {error}") from error


def _check_archived(path: Path, receipt: Receipt, place: Place, destination: Destination) -> None:
    """Make sure that an L0, and what the archive has of it, are what the receipt says."""
    try:
        content = Content(size=os.stat(path).st_size, sha256=file_digest(path))
    except OSError as error:
        raise _DamagedError(f"{path}: cannot be read: {error.strerror}") from error
    if content != receipt.l0.content:
        raise _DamagedError(
            f"{path} is not what was archived: its SHA-256 is {content.sha256}, the receipt has {receipt.l0.content.sha256}"
        )
    if is_itself(path, destination, place):
        raise _KeptError(f"{destination.url(place)} is the L0 itself, and no copy of it")
    if destination.content(place) != receipt.content:
        raise _DamagedError(f"{destination.url(place)} is not what its receipt says, or is not there")


def _check_sub_fits(recording: Recording, paths: Mapping[str, str], signatures: Mapping[str, Signature]) -> None:
    """Make sure that an L0 gives back every sub-FITS that is there."""
    given = {one.origin: one for one in given_back(recording)}
    for one in given.values():
        if one.state in ("differs", "lost"):
            raise _DamagedError(f"{recording.found.path} does not give back {one.file} of {one.origin}: {one.problem}")
    for origin, path in paths.items():
        if origin not in given or printable_text(os.path.basename(path)) != given[origin].file:
            raise _KeptError(f"{path} is not in its L0")
        one = given[origin]
        if one.state != "same":
            raise _KeptError(f"its L0 does not give back {path}: {one.problem}")
        if signatures[path][0] != one.length or _digest(path) != one.digest:
            raise _KeptError(f"{path} is not what its L0 was made of")


def _digest(path: str) -> str:
    try:
        return file_digest(Path(path))
    except OSError as error:
        raise _KeptError(f"{path}: cannot be read: {error.strerror}") from error


def _signature(path: str) -> Signature:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise _KeptError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise _KeptError(f"{path} is no regular file, but a link to one or something else")
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, status.st_ctime_ns


def _remove(verdict: Verdict, signatures: Mapping[str, Signature]) -> Verdict:
    """Remove the sub-FITS of an exposure, if nothing changed since they were looked at.

    Those go first that tell no frame. Where a stop comes in between, the others still make the exposure known, so that the next
    time removes them.
    """
    try:
        _check_unchanged(signatures)
    except _KeptError as error:
        return replace(verdict, state="kept", reason=str(error))
    for path in verdict.files:
        if not os.access(os.path.dirname(path), os.W_OK | os.X_OK):  # known before the first of them is gone
            raise OutputError(f"{path}: cannot be removed: Permission denied")
    for path in verdict.files:
        try:
            os.unlink(path)
        except OSError as error:
            raise OutputError(f"{path}: cannot be removed: {error.strerror}") from error
    for directory in {os.path.dirname(path) for path in verdict.files}:
        try:
            sync_directory(Path(directory))
        except OSError as error:
            raise OutputError(f"{directory}: cannot be brought to the disk: {error.strerror}") from error
    return replace(verdict, state="removed")


def server_time(directory: Path) -> int:
    """Return the time by the clock that files of a directory are dated by [ns], from one that is made there and removed.

    Raises
    ------
    InputError
        When there is no such directory.
    OutputError
        When nothing can be made there.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such directory")
    path = directory / f".clock.{os.urandom(8).hex()}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\n")
            return os.fstat(descriptor).st_mtime_ns
        finally:
            os.close(descriptor)
            os.unlink(path)
    except OSError as error:
        raise OutputError(f"{directory}: cannot write here, so nothing can be removed: {error.strerror}") from error
