"""One L0 into an archive: checked, copied, read again, and only then named; a receipt and a line in SHA256SUMS after it.

Each step that was done stays done, and is found by whoever comes again: the file first, which is what counts, then its receipt, which
says that the file is whole, then the line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from assembler.core import receipts
from assembler.core.checksum_lines import SHA256SUMS, contradicts, digests_in, with_digests
from assembler.core.instants import SECOND, format_iso
from assembler.core.lines import as_line
from assembler.core.places import Place
from assembler.core.receipts import SUFFIX, Content, Receipt, receipt_name
from assembler.errors import InputError, OutputError, TakenError
from assembler.service.archive_candidates import Candidate, Rules, examined
from assembler.service.archive_results import RefusalError, Result
from assembler.service.archive_work import RICE, RICE_SUFFIX, as_archived
from assembler.service.destination import Destination, read_content

_LONGEST_SUMS = 16 << 20
_MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What L0s are archived by.

    Attributes
    ----------
    destination : Destination
    template : str
        Where they go.
    rules : Rules or None
        None: only structure and checksums are checked.
    compress : bool
    version : str
        Of the assembler that archives.
    clock : callable
        Tells UNIX time [ns].
    told : callable or None
        Told of each L0 that is in the archive, whoever brought it there, after the file, its receipt and its line are: of a
        duplicate, too, since a stop may have come before whoever is told was.
    """

    destination: Destination
    template: str
    rules: Rules | None
    compress: bool
    version: str
    clock: Callable[[], int]
    told: Callable[[Result], None] | None = None


def archive_l0(path: Path, order: Order) -> Result:
    """Archive an L0, or find that it is there; what does not work is a result, too."""
    result = _result(path, lambda: _archive(path, order))
    if order.told is not None and result.state in ("accepted", "duplicate"):
        order.told(result)
    return result


def check_l0(path: Path, template: str, rules: Rules | None) -> Result:
    """Tell whether an archive with these rules would have an L0; nothing is copied, and nothing looked up."""

    def check() -> Result:
        with examined(path, rules) as candidate:
            candidate.place(template)
            return Result(l0=str(path), state="lawful", warnings=candidate.warnings)

    return _result(path, check)


def read_receipt(destination: Destination, place: Place) -> Receipt | None:
    """Return the receipt of a file in an archive, or None where there is none.

    Parameters
    ----------
    destination : Destination
    place : Place
        Of the file.

    Raises
    ------
    ValueError
        When what is there is no receipt of a file of this name.
    OutputError
        When it cannot be read.
    """
    text = destination.read(place.beside(receipt_name(place.name)), receipts.LONGEST)
    if text is None:
        return None
    receipt = receipts.from_json(text)
    if receipt.name != place.name:
        raise ValueError(f"it is that of {receipt.name}")
    if receipt.compressed is None and receipt.content != receipt.l0.content:
        raise ValueError("it is not compressed, and has another SHA-256 than its L0")
    return receipt


def _result(path: Path, work: Callable[[], Result]) -> Result:
    try:
        return work()
    except RefusalError as error:
        return Result(l0=str(path), state="refused", kind=error.kind, reason=_reason(path, error), broken=error.broken)
    except InputError as error:
        return Result(l0=str(path), state="failed" if error.retry else "refused", kind="input", reason=_reason(path, error))
    except OutputError as error:
        state, kind = ("failed", "storage") if error.retry else ("refused", "content")
        return Result(l0=str(path), state=state, kind=kind, reason=_reason(path, error))  # type: ignore[arg-type]


def _reason(path: Path, error: Exception) -> str:
    return as_line(str(error).removeprefix(f"{path}: "))


def _archive(path: Path, order: Order) -> Result:
    with examined(path, order.rules) as candidate:
        place = candidate.place(order.template)
        order.destination.tidy(place.folder)
        compressed = _form(order, place)
        target = place if compressed is None else place.beside(place.name + RICE_SUFFIX)
        receipt = _receipt_there(order.destination, target, candidate)
        there = order.destination.content(target)
        if receipt is not None and there is not None:
            if there != receipt.content:
                where = order.destination.url(target)
                raise RefusalError("content", f"{where} is not what its receipt says; somebody changed it, or it was damaged")
            _check_line(order.destination, target, there)
            accepted = False  # and it need not be compressed again to know that
        else:
            accepted, new = _keep(order, candidate, compressed, target, there, receipt)
            receipt = receipt or _give_receipt(order, candidate, target, new)
        _add_lines(order.destination, target)
        return Result(
            l0=str(path),
            state="accepted" if accepted else "duplicate",
            url=order.destination.url(target),
            receipt=receipt,
            warnings=candidate.warnings,
        )


def _form(order: Order, place: Place) -> str | None:
    """Return how an L0 is kept: as it was kept before, or else as is wanted now."""
    there = order.destination.names(place.folder)
    plain = any(name in there for name in (place.name, receipt_name(place.name)))
    rice = any(name in there for name in (place.name + RICE_SUFFIX, receipt_name(place.name + RICE_SUFFIX)))
    return RICE if rice or (order.compress and not plain) else None


def _receipt_there(destination: Destination, target: Place, candidate: Candidate) -> Receipt | None:
    """Return the receipt that is there, of the same L0."""
    try:
        receipt = read_receipt(destination, target)
    except ValueError as error:
        raise RefusalError("content", f"{destination.url(target)} has a receipt that is none: {error}") from None
    if receipt is not None and receipt.l0.content != candidate.l0.content:
        told = f"{destination.url(target)} was archived with other content"
        if receipt.l0.version != candidate.l0.version:
            told += f": it is version {receipt.l0.version}, and this is version {candidate.l0.version}"
        raise RefusalError("content", told)
    return receipt


def _keep(
    order: Order, candidate: Candidate, compressed: str | None, target: Place, there: Content | None, receipt: Receipt | None
) -> tuple[bool, Receipt]:
    """Copy an L0 to where there is none, or see that what is there is the same; return whether it was copied, and its receipt."""
    destination = order.destination
    where = destination.url(target)
    with as_archived(candidate, compressed) as (stream, content):
        if receipt is not None and receipt.content != content:
            raise RefusalError("content", f"{where} is gone, and its receipt tells of a file that this L0 does not give")
        _check_line(destination, target, content)
        new = _new_receipt(order, candidate, compressed, target, content)
        if there is None:
            try:
                destination.add(target, stream, content)
            except TakenError:  # another archiver was quicker
                there = destination.content(target)
            except InputError as error:
                raise InputError(f"{candidate.path}: {error}", retry=error.retry) from error
            else:
                return True, new
        if there != content:
            raise RefusalError("content", f"{where} exists with other content, and nothing in an archive is overwritten")
        return False, new


def _new_receipt(order: Order, candidate: Candidate, compressed: str | None, target: Place, content: Content) -> Receipt:
    receipt = Receipt(
        name=target.name,
        content=content,
        compressed=compressed,
        archived=format_iso(order.clock() // SECOND * SECOND, digits=0),
        archiver=order.version,
        rules=order.rules.sha256 if order.rules else None,
        l0=candidate.l0,
        sources=candidate.sources,
        findings=candidate.findings,
        warnings=candidate.warnings,
    )
    if len(receipts.to_json(receipt)) > receipts.LONGEST:
        raise RefusalError("verification", f"it has more findings than the {receipts.LONGEST >> 20} MiB of a receipt can hold")
    return receipt


def _give_receipt(order: Order, candidate: Candidate, target: Place, receipt: Receipt) -> Receipt:
    """Write a receipt, or find that another archiver of the same L0 did."""
    text = receipts.to_json(receipt)
    try:
        order.destination.add(target.beside(receipt_name(target.name)), BytesIO(text), read_content(BytesIO(text).read))
    except TakenError:
        written = _receipt_there(order.destination, target, candidate)
        if written is None or written.content != receipt.content:
            raise RefusalError("content", f"{order.destination.url(target)} has a receipt that tells of another file") from None
        return written
    return receipt


def _check_line(destination: Destination, target: Place, content: Content) -> None:
    """Raise when SHA256SUMS says something else of a file."""
    sums = target.beside(SHA256SUMS)
    if contradicts(destination.read(sums, _LONGEST_SUMS) or b"", target.name, content.sha256):
        raise RefusalError("content", f"{destination.url(sums)} has another SHA-256 for {target.name}; look which of them is right")


def _add_lines(destination: Destination, target: Place) -> None:
    """Add to SHA256SUMS what the receipts of the folder tell and it does not, until nothing is missing.

    Where a store has no locks, another archiver may replace the file by one without our line. It looks again after that, as we do, and
    finds our receipt, which was there before.
    """
    sums = target.beside(SHA256SUMS)
    with destination.alone(target.folder):
        for _ in range(_MOST_ROUNDS):
            text = destination.read(sums, _LONGEST_SUMS) or b""
            missing = _digests_missing(destination, target, text)
            if not missing:
                return
            destination.replace(sums, with_digests(text, missing))
    raise OutputError(f"{destination.url(sums)}: others replace it all the time")


def _digests_missing(destination: Destination, target: Place, text: bytes) -> dict[str, str]:
    """Return by name the SHA-256 of each file of a folder that has a receipt, and no line yet."""
    lines = digests_in(text)
    names = destination.names(target.folder)
    found = {}
    for name in sorted(n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX)):
        if name in lines or name not in names:
            continue
        try:
            receipt = read_receipt(destination, target.beside(name))
        except ValueError:  # of a stranger; ours was read before
            continue
        except OutputError as error:
            if error.retry:
                raise
            continue  # a link of a stranger, or what is too large
        if receipt is not None:
            found[name] = receipt.content.sha256
    return found
