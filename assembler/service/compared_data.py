"""What is compared of the data of L0s and of sub-FITS: sums, lengths, and where bytes differ."""

from collections.abc import Mapping
from dataclasses import dataclass

from assembler.core.exposure import Hdu, SubFits
from assembler.core.plan import Source
from assembler.fits.data import DataDifference, Span, compare_data, sum_data
from assembler.fits.pace import Pace
from assembler.service.recorded import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """A data unit: what it sums up to, and what tells it from others."""

    total: int
    digest: str


Data = Mapping[tuple[str, int], Datum]
"""By origin and number of the HDU in its sub-FITS."""


def datum_of(data: Data, source: Source) -> Datum:
    """Return what is known of a data unit of a sub-FITS."""
    return data.get((source.origin, source.hdu), Datum(total=0, digest=f"{source.length} bytes that nobody has any more"))


def data_now(recording: Recording, subs: Mapping[str, SubFits], pace: Pace) -> tuple[dict[str, str], Data, Data]:
    """Compare the data of an L0 with those of the sub-FITS by now.

    Returns
    -------
    digests : dict of str to str
        By name, the data of the L0's HDUs as they are.
    then, now : Data
        What the L0 says that they are, and what they are in the sub-FITS.
    """
    digests: dict[str, str] = {}
    then: dict[tuple[str, int], Datum] = {}
    now: dict[tuple[str, int], Datum] = {}
    wanted = {(n, h.index): Span(path=s.path, offset=h.offset, length=h.length) for n, s in subs.items() for h in s.hdus if h.length}
    for key, hdu in recording.extensions.items():
        if hdu.length:
            mine, theirs = span_of(recording, hdu), wanted.pop(key, None)
            told = compare_data(mine, theirs or mine, pace)
            total = recording.datasum(*key)
            digests[hdu.extname] = _told(mine, told.old_sum)
            then[key] = Datum(total=total, digest=_told(mine, total))
            if theirs:
                now[key] = Datum(total=told.new_sum, digest=_told(theirs, told.new_sum) + _where(told))
                if told.new_sum == total != told.old_sum:  # it is the L0 that is another one
                    then[key] = now[key]
    for key, span in wanted.items():
        total = sum_data(span, pace)
        now[key] = Datum(total=total, digest=_told(span, total))
    return digests, then, now


def data_of_two(mine: Recording, theirs: Recording) -> tuple[dict[str, str], dict[str, str], Data, Data]:
    """Compare the data of two L0s; return by name those of each as they are, then what each says that they are."""
    here = {h.extname: span_of(mine, h) for h in mine.extensions.values() if h.length}
    there = {h.extname: span_of(theirs, h) for h in theirs.extensions.values() if h.length}
    digests, others = {}, {}
    for name in {**here, **there}:
        old, new = here.get(name), there.get(name)
        told = compare_data(old or there[name], new or here[name])
        if old:
            digests[name] = _told(old, told.old_sum)
        if new:
            others[name] = _told(new, told.new_sum) + (_where(told) if old else "")
    then = {
        k: Datum(total=mine.datasum(*k), digest=_told(here[h.extname], mine.datasum(*k))) for k, h in mine.extensions.items() if h.length
    }
    now = {k: Datum(total=theirs.datasum(*k), digest=others[h.extname]) for k, h in theirs.extensions.items() if h.length}
    return digests, others, then, now


def span_of(recording: Recording, hdu: Hdu) -> Span:
    """Return where the data unit of an HDU of an L0 is."""
    return Span(path=recording.found.path, offset=hdu.offset, length=hdu.length)


def _told(span: Span, total: int) -> str:
    return f"{span.length} bytes, DATASUM {total}"


def _where(told: DataDifference) -> str:
    if told.count == 1:
        return f", 1 byte differs, byte {told.first}"
    return f", {told.count} bytes differ, the first is byte {told.first}" if told.count else ""
