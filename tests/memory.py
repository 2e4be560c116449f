"""Exposures in memory: the core needs no directory."""

from collections.abc import Sequence

import kpf_night
import kpf_telemetry
import numpy as np

from assembler.core.candidates import read_candidate
from assembler.core.cards import read_record
from assembler.core.corrections import Change
from assembler.core.exposure import Exposure, Hdu, SubFits
from assembler.core.findings import Finding
from assembler.core.instants import SECOND, parse_iso, round_to
from assembler.core.instrument import Instrument
from assembler.core.plan import Plan, plan_l0
from assembler.core.samples import Aggregate, Answers, Sample
from assembler.core.times import reconcile, with_durations


class Scales:
    """Time scales of one leap second, long ago: TAI is 37 s ahead of UTC."""

    def to_utc(self, instant: int, scale: str) -> int:
        assert scale == "TAI"
        return instant - 37 * SECOND

    def expires(self) -> int:
        return parse_iso("2030-01-01T00:00:00")


SCALES = Scales()
WRITTEN = parse_iso("2024-04-22T08:11:30.5")


def sub_fits(path: str, hdus: Sequence[tuple[Sequence[str], int]]) -> SubFits:
    """Return a sub-FITS of (cards, length of the data unit [bytes])."""
    found, position = [], 0
    for index, (cards, length) in enumerate(hdus):
        images = tuple(card.ljust(80) for card in cards)
        offset = position + -(-80 * (len(images) + 1) // 2880) * 2880
        filled = -(-length // 2880) * 2880
        found.append(Hdu(index=index, images=images, offset=offset, length=filled, header_sum=0))
        position = offset + filled
    return SubFits(path=path, compressed=False, hdus=tuple(found), signature=(position, 0, 0))


def kpf_subs(number: int = 0, amplifiers: int = 2) -> dict[str, SubFits]:
    """Return the sub-FITS of one exposure of the fixtures' night, by origin."""
    one = kpf_night.exposure(number)
    rng = np.random.default_rng(number)
    subs = {}
    for origin in kpf_night.PATHS:
        hdus = kpf_night.sub_fits(origin, one, amplifiers, (32, 24), rng)
        subs[origin] = sub_fits(f"/data/2024apr21/{one.path(origin)}", [(h.cards, len(h.data)) for h in hdus])
    return subs


def answers_for(instrument: Instrument, begin: int, end: int) -> Answers:
    """Return a history's answers: the fixtures' values, each broadcast a second before it was asked for."""
    one = kpf_night.exposure(0)
    instants = {"begin": begin + 10**8, "middle": round_to((begin + end) // 2, 1000), "end": end + 10**8}
    known = {k.source for s in instrument.snapshots for k in s.keywords} & kpf_telemetry.telemetry_values().keys()
    told = {source: kpf_telemetry.value_at(source, one) for source in known} | {k.source: "20.00000" for k in instrument.table}
    return Answers(
        instants=instants,
        values={m: {s: Sample(time=i / 1e9 - 1, value=v) for s, v in told.items()} for m, i in instants.items()},
        aggregates={k.source: Aggregate(samples=40, average=20.0, stddev=0.5, minimum=19.0, maximum=21.0) for k in instrument.table},
        asked=True,
    )


def plan_of(
    instrument: Instrument,
    exposure: Exposure,
    answers: Answers | None = None,
    *,
    changes: Sequence[Change] = (),
    told: Sequence[Finding] = (),
) -> Plan:
    """Plan an exposure with the files' own times."""
    read = [read_candidate(o, s, SCALES) for o, s in exposure.attached]
    times, reconciled = reconcile(instrument.exposure, None, [c for c, _ in read], SCALES)
    if answers is None and times.begin is not None and times.end is not None:
        answers = answers_for(instrument, times.begin, times.end)
    lengths = {source: sample.value for source, sample in (answers or Answers()).values.get("end", {}).items()}
    times, measured = with_durations(instrument.exposure, times, lengths, SCALES)
    told = (*told, *(f for _, fs in read for f in fs), *reconciled, *measured)
    return plan_l0(
        instrument,
        exposure,
        times,
        answers or Answers(),
        changes=changes,
        told=told,
        directory="/data/2024apr21/L0",
        version="1.0",
        written=WRITTEN,
    )


def primary_values(plan: Plan) -> dict[str, object]:
    """Return the values of the planned primary by keyword."""
    return {r.keyword: r.value for r in map(read_record, range(10**6), plan.hdus[0].cards) if r.kind == "value"}
