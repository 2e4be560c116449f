"""What one exposure asks of a keyword history; where the history fails, that is one finding, and the L0 is made without it."""

from collections.abc import Mapping, Sequence

from assembler.core.candidates import SERVICE, Candidate, read_instant
from assembler.core.findings import Finding, finding
from assembler.core.instants import SECOND, format_iso, from_unix, is_unix_time, parse_iso, parse_number, unix_seconds
from assembler.core.instrument import MOMENTS, Instrument, Snapshot
from assembler.core.samples import Aggregate, Answers, Sample
from assembler.core.times import Times, service_moments
from assembler.errors import ConfigurationError, InputError, TelemetryError
from assembler.telemetry.history import History

_APART = SECOND
"""How much earlier than the exposure the previous one began, at least [ns]."""


class Inquiry:
    """Asks the history of one exposure, and remembers which samples decided something."""

    def __init__(self, instrument: Instrument, history: History | None) -> None:
        self._instrument = instrument
        self._history = history
        self._failure = ""
        self._further: dict[str, dict[float, Sample]] = {}

    def service_times(self, files: Sequence[Candidate]) -> tuple[Candidate | None, tuple[Finding, ...]]:
        """Ask the exposure service for its times, as of the files' end plus the settling time."""
        rule = self._instrument.exposure
        moments = service_moments(rule, files)
        sources = [asked.source if asked else "" for asked in (rule.begin, rule.end)]
        if self._history is None or moments is None or not any(sources):
            return None, ()
        settled, earlier = self._as_of([s for s in sources if s], moments, keep=True)
        if self._failure:
            return None, ()
        findings: list[Finding] = []
        told: list[int | None] = []
        for source in sources:
            instant, doubts = _service_time(source, settled.get(source))
            if instant is not None and instant > moments[1]:
                instant, doubts = _service_time(source, earlier.get(source))
            findings += doubts
            told.append(instant)
        return Candidate(source=SERVICE, origin="", begin=told[0], end=told[1]), tuple(findings)

    def last_exposure(self, instant: int) -> Candidate:
        """Ask the exposure service for the begin and end that it told last as of an instant [ns].

        Raises
        ------
        ConfigurationError
            When the YAML does not say which keywords tell both.
        InputError
            When there was no begin by then.
        TelemetryError
            When the history does not answer.
        """
        begin, end = self._instrument.exposure.begin, self._instrument.exposure.end
        if begin is None or end is None:
            told = "the YAML names no keyword of the history for the exposure's begin and end (exposure: begin, end)"
            raise ConfigurationError(f"{self._instrument.name}: {told}, so telemetry alone tells of no exposure")
        (told_then,) = self._as_of([begin.source, end.source], [instant])
        if self._failure:
            raise TelemetryError(self._failure)
        times = [_service_time(source, told_then.get(source))[0] for source in (begin.source, end.source)]
        if times[0] is None:
            sample = told_then.get(begin.source)
            shown = f"is {sample.value[:60]!a}" if sample else "has no value"
            raise InputError(f"{begin.source} {shown} as of {format_iso(instant)}, so telemetry tells of no exposure")
        return Candidate(source=SERVICE, origin="", begin=times[0], end=times[1])

    def snapshots(self, times: Times) -> tuple[Answers, tuple[Finding, ...]]:
        """Ask for the last value of every telemetry keyword at each moment, and for the numbers over the exposure."""
        instrument = self._instrument
        offsets = {snapshot.moment: snapshot.offset for snapshot in instrument.snapshots}
        instants = {m: at + offsets.get(m, 0) for m in MOMENTS if (at := times.at(m)) is not None}
        if self._history is None:
            return Answers(instants=instants), ()
        if times.begin is None or times.end is None:
            return Answers(instants=instants, asked=not self._failure, failure=self._failure), ()
        events, findings = self._events(times.begin, times.end)
        instants |= events
        previous, before = self._previous(times.begin)
        sources = instrument.sources()
        values = self._as_of(sources, list(instants.values()))
        aggregates = self._during(sources, times.begin, times.end)
        if self._failure:
            return Answers(instants=instants, failure=self._failure), ()
        answers = Answers(
            instants=instants,
            values=dict(zip(instants, values, strict=True)),
            aggregates=aggregates,
            previous=previous,
            before=before,
            further={source: tuple(samples.values()) for source, samples in self._further.items()},
            asked=True,
        )
        return answers, findings

    def _events(self, begin: int, end: int) -> tuple[dict[str, int], tuple[Finding, ...]]:
        """Return the instants [ns] of the moments that the history tells."""
        named = [(s, s.event.source) for s in self._instrument.snapshots if s.event]
        settling = self._instrument.exposure.settling
        if not named:
            return {}, ()
        (told,) = self._as_of([source for _, source in named], [end + settling], keep=True)
        instants: dict[str, int] = {}
        findings = []
        for snapshot, source in named:
            sample = told.get(source)
            instant = _event_time(snapshot, sample)
            if instant is not None and begin - settling <= instant <= end + settling:
                instants[snapshot.moment] = instant + snapshot.offset
                continue
            shown = f"is {sample.value[:60]!a}" if sample else "has no value"
            when = f", which is {format_iso(instant)}, not in this exposure" if instant is not None else ""
            findings.append(finding("moment-unknown", f"moment {snapshot.moment}: {source} {shown}{when}"))
        return instants, tuple(findings)

    def _previous(self, begin: int) -> tuple[int | None, Mapping[str, Sample]]:
        """Return when the previous exposure began [ns], and the values then of what has to change between exposures."""
        names = {s for snapshot in self._instrument.snapshots for k in snapshot.keywords if k.must_refresh for s in k.sources}
        asked = self._instrument.exposure.begin
        if not names or asked is None:
            return None, {}
        instant = begin - SECOND // 1000
        for _ in range(2):  # the first answer may be this exposure's begin, told before the shutter opened
            (told,) = self._as_of([asked.source], [instant], keep=True)
            sample = told.get(asked.source)
            if sample is None or not is_unix_time(sample.time):
                return None, {}
            previous, _ = _service_time(asked.source, sample)
            if previous is not None and previous <= begin - _APART:
                (before,) = self._as_of(sorted(names), [previous])
                return previous, before
            instant = from_unix(sample.time) - 1000
        return None, {}

    def _as_of(self, names: Sequence[str], instants: Sequence[int], *, keep: bool = False) -> list[Mapping[str, Sample]]:
        nothing: list[Mapping[str, Sample]] = [{} for _ in instants]
        if self._history is None or self._failure:
            return nothing
        try:
            answers = self._history.as_of(list(dict.fromkeys(names)), [unix_seconds(i) for i in instants])
        except TelemetryError as error:
            self._failure = str(error)
            return nothing
        for name, sample in (pair for answer in answers for pair in answer.items()) if keep else ():
            self._further.setdefault(name, {})[sample.time] = sample
        return answers

    def _during(self, names: Sequence[str], begin: int, end: int) -> Mapping[str, Aggregate]:
        if self._history is None or self._failure:
            return {}
        try:
            return self._history.during(names, unix_seconds(begin), unix_seconds(end))
        except TelemetryError as error:
            self._failure = str(error)
            return {}


def _service_time(source: str, sample: Sample | None) -> tuple[int | None, list[Finding]]:
    if sample is None:
        return None, []
    return read_instant(sample.value[:60], "iso", origin="", keyword=source.partition(".")[2][:8], where=source)


def _event_time(snapshot: Snapshot, sample: Sample | None) -> int | None:
    """Return when an event was [ns]: the time that its keyword tells, or when it was broadcast."""
    if snapshot.event is None or sample is None:
        return None
    form = snapshot.event.form
    try:
        if form == "broadcast":
            return from_unix(sample.time)
        return parse_iso(sample.value) if form == "iso" else parse_number(sample.value.strip(), form)
    except ValueError:
        return None
