"""What is compared of the data of L0s and of sub-FITS: sums, lengths, and where bytes differ."""

from collections.abc import Mapping
from dataclasses import dataclass

from assembler.core.exposure import Hdu, SubFits
from assembler.core.plan import Source
from assembler.fits.data import DataDifference, Span, compare_data, sum_data
from assembler.fits.pace import Pace, at_once
from assembler.fits.verifier import checksum_faults
from assembler.service.recorded import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """A data unit: what it sums up to, and what tells it from others."""

    total: int
    digest: str


Data = Mapping[tuple[str, int], Datum]
"""By origin and number of the HDU in its sub-FITS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedData:
    """The data of two L0s, side by side.

    Attributes
    ----------
    digests : (mapping, mapping)
        By name, the data of the HDUs of the old L0 and of the new one, as they are; of a plan there are none.
    sides : (Data, Data)
        What the sub-FITS had that the old L0 was made of, and those of the new one.
    totals : (mapping, mapping)
        By number of an HDU of the old L0 and of the new one, what its data sum up to.
    """

    digests: tuple[Mapping[str, str], Mapping[str, str]]
    sides: tuple[Data, Data]
    totals: tuple[Mapping[int, int], Mapping[int, int]]


def datum_of(data: Data, source: Source) -> Datum:
    """Return what is known of a data unit of a sub-FITS."""
    return data.get((source.origin, source.hdu), Datum(total=0, digest=f"{source.length} bytes that nobody has any more"))


def data_now(recording: Recording, subs: Mapping[str, SubFits], places: Mapping[tuple[str, int], str], pace: Pace) -> ComparedData:
    """Compare the data of an L0 with those of the sub-FITS by now.

    Parameters
    ----------
    recording : Recording
    subs : mapping of str to SubFits
        By origin, with their SHA-256.
    places : mapping of (str, int) to str
        By origin and number of an HDU in its sub-FITS, the HDU of the L0 that would have its data by now.
    pace : callable
        What reading keeps to.
    """
    digests: dict[str, str] = {}
    then: dict[tuple[str, int], Datum] = {}
    now: dict[tuple[str, int], Datum] = {}
    totals: dict[int, int] = {}
    same = {told.origin for told in recording.sources if told.origin in subs and told.digest == subs[told.origin].digest != ""}
    wanted = {(n, h.index): Span(path=s.path, offset=h.offset, length=h.length) for n, s in subs.items() for h in s.hdus if h.length}
    partners = _partners(recording, places)
    for key, hdu in recording.extensions.items():
        if hdu.length:
            partner = partners.get(key)
            mine, theirs = span_of(recording, hdu), wanted.pop(partner, None) if partner else None
            told = compare_data(mine, theirs or mine, pace)
            total = recording.datasum(*key)
            totals[hdu.index] = told.old_sum
            digests[hdu.extname] = _told(mine, told.old_sum)
            then[key] = Datum(total=total, digest=_told(mine, total))
            if partner and theirs:
                now[partner] = Datum(total=told.new_sum, digest=_told(theirs, told.new_sum) + _where(told))
                if key[0] in same or not told.count or told.new_sum == total != told.old_sum:
                    then[key] = now[partner]  # where they differ all the same, it is the L0 that is another one
    for key, span in wanted.items():
        total = sum_data(span, pace)
        now[key] = Datum(total=total, digest=_told(span, total))
    return ComparedData(digests=(digests, {}), sides=(then, now), totals=(totals, {}))


def data_of_two(mine: Recording, theirs: Recording) -> ComparedData:
    """Compare the data of two L0s, those of one name with each other."""
    hdus = [{h.extname: h for h in recording.extensions.values() if h.length} for recording in (mine, theirs)]
    here, there = ({n: span_of(r, h) for n, h in some.items()} for r, some in zip((mine, theirs), hdus, strict=True))
    delivered = [{one.origin: one.digest for one in recording.sources if one.digest} for recording in (mine, theirs)]
    same = {origin for origin, digest in delivered[0].items() if delivered[1].get(origin) == digest}
    digests: dict[str, str] = {}
    others: dict[str, str] = {}
    totals: tuple[dict[int, int], dict[int, int]] = ({}, {})
    alike = set()
    for name in {**here, **there}:
        old, new = here.get(name), there.get(name)
        told = compare_data(old or there[name], new or here[name])
        if old:
            digests[name] = _told(old, told.old_sum)
            totals[0][hdus[0][name].index] = told.old_sum
        if new:
            others[name] = _told(new, told.new_sum) + (_where(told) if old else "")
            totals[1][hdus[1][name].index] = told.new_sum
        if old and new and not told.count:
            alike.add(name)
    now = {k: Datum(total=theirs.datasum(*k), digest=others[h.extname]) for k, h in theirs.extensions.items() if h.length}
    by_name = {theirs.extensions[k].extname: datum for k, datum in now.items()}
    then = {
        k: by_name[h.extname]
        if h.extname in by_name and (k[0] in same or h.extname in alike)
        else Datum(total=mine.datasum(*k), digest=_told(here[h.extname], mine.datasum(*k)))
        for k, h in mine.extensions.items()
        if h.length
    }
    return ComparedData(digests=(digests, others), sides=(then, now), totals=totals)


def faults_of(recording: Recording, totals: Mapping[int, int], pace: Pace = at_once) -> dict[int, tuple[str, ...]]:
    """Return by number of an HDU of an L0 what of its checksums does not fit, and, of the last one, what follows it.

    Parameters
    ----------
    recording : Recording
    totals : mapping of int to int
        By number of an HDU what its data sum up to, as far as that is known.
    pace : callable
        What reading the others keeps to.
    """
    faults = {}
    for hdu in recording.found.hdus:
        total = totals[hdu.index] if hdu.index in totals else sum_data(span_of(recording, hdu), pace)
        faults[hdu.index] = checksum_faults(hdu, total)
    if recording.found.trailing:
        last = recording.found.hdus[-1].index
        faults[last] = (*faults[last], f"{recording.found.trailing} bytes after the last HDU")
    return faults


def _partners(recording: Recording, places: Mapping[tuple[str, int], str]) -> dict[tuple[str, int], tuple[str, int]]:
    """Return for HDUs of sub-FITS then which they are by now: those that go to the HDU of one name; else, of one number.

    An HDU that was put before others changes the numbers of all behind it, and another YAML may change names.
    """
    by_name = {(origin, name): (origin, number) for (origin, number), name in places.items()}
    named = {k: by_name[k[0], h.extname] for k, h in recording.extensions.items() if (k[0], h.extname) in by_name}
    taken = set(named.values())
    return {k: k for k in recording.extensions if k not in named and k not in taken} | named


def span_of(recording: Recording, hdu: Hdu) -> Span:
    """Return where the data unit of an HDU of an L0 is."""
    return Span(path=recording.found.path, offset=hdu.offset, length=hdu.length)


def _told(span: Span, total: int) -> str:
    return f"{span.length} bytes, DATASUM {total}"


def _where(told: DataDifference) -> str:
    if told.count == 1:
        return f", 1 byte differs, byte {told.first}"
    return f", {told.count} bytes differ, the first is byte {told.first}" if told.count else ""
