"""Replay: an L0 stands in for the keyword history that it was made with, and tells what changed there since."""

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assembler.core.instants import format_iso, from_unix, is_unix_time, parse_iso, unix_seconds
from assembler.core.samples import NOTHING, Aggregate, Sample
from assembler.core.snapshots import LONGEST
from assembler.core.telemetry import recorded
from assembler.errors import ConfigurationError, InputError, TelemetryError
from assembler.fits.blocks import scan
from assembler.service.reader import own_table, snapshot_instants
from assembler.telemetry import urls
from assembler.telemetry.history import PATIENCE, History

SCHEME = "l0://"


class RecordedHistory:
    """The samples that an L0 holds, under the protocol of `assembler.telemetry.history`.

    Asked for the instants that the L0 was made for, it answers as the history did; of any other instant it knows no more.

    Raises
    ------
    TelemetryError
        When there is no such file, or it is no L0 with all it takes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            found = scan(str(path))
            self.instants = snapshot_instants(found)
            self._recorded = recorded(own_table(found, "TELEMETRY"), self.instants)
            codes = {row[0] for row in own_table(found, "FINDINGS").rows}
            told = [found.hdus[0].value(keyword) for keyword in ("DATE-BEG", "DATE-END")]
            self.interval = tuple(parse_iso(t) for t in told if isinstance(t, str))
        except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise TelemetryError(f"{path}: holds no telemetry to replay: {error}") from error
        if codes & {"no-history", "history-unavailable"}:
            raise TelemetryError(f"{path}: was made without telemetry, so there is none to replay")
        self._times = {name: [s.time for s in samples] for name, samples in self._recorded.samples.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The history keywords that it has a row for."""
        return tuple(self._recorded.samples)

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one."""
        answers: list[Mapping[str, Sample]] = []
        for instant in instants:
            places = {name: bisect_right(self._times[name], instant) for name in names if name in self._times}
            answers.append({name: self._recorded.samples[name][place - 1] for name, place in places.items() if place})
        return answers

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end came to; only those of the L0's own exposure are known."""
        if [begin, end] != [unix_seconds(i) for i in self.interval]:
            known = " to ".join(map(format_iso, self.interval))
            raise TelemetryError(f"{self.path}: its telemetry is that of {known or 'no exposure'}, it cannot stand in for another one")
        result = {}
        for name in names:
            numbers = self._recorded.aggregates.get(name)
            if numbers:
                within = [s for s in self._recorded.samples[name] if begin <= s.time <= end]
                edges = {"first": within[0], "last": within[-1]} if within else {}
                result[name] = Aggregate(
                    samples=numbers.samples,
                    average=numbers.average,
                    stddev=numbers.stddev,
                    minimum=numbers.minimum,
                    maximum=numbers.maximum,
                    **edges,
                )
        return result

    def interrupt(self) -> None:
        """Do nothing: everything is in memory."""

    def close(self) -> None:
        """Do nothing: the file was closed when it had been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a history tells otherwise than an L0 has it; ``what`` is a moment, or which numbers over the exposure."""

    keyword: str
    what: str
    l0: str
    history: str


def compare(l0: RecordedHistory, asked: History) -> list[Change]:
    """Return what a history tells by now otherwise than it did when an L0 was made.

    Raises
    ------
    TelemetryError
        When the history cannot be read.
    """
    moments = list(l0.instants)
    instants = [unix_seconds(l0.instants[m]) for m in moments]
    changes = []
    for moment, then, now in zip(moments, l0.as_of(l0.names, instants), asked.as_of(l0.names, instants), strict=True):
        for name in l0.names:
            old, new = then.get(name), now.get(name)
            if (old and old.value) != (new and new.value[:LONGEST]):
                changes.append(Change(keyword=name, what=moment, l0=_shown(old), history=_shown(new)))
    if len(l0.interval) == 2:
        begin, end = map(unix_seconds, l0.interval)
        before, after = l0.during(l0.names, begin, end), asked.during(l0.names, begin, end)
        for name in l0.names:
            old_numbers, new_numbers = before.get(name, NOTHING), after.get(name, NOTHING)
            if old_numbers.samples != new_numbers.samples or (old_numbers.average is not None and _differ(old_numbers, new_numbers)):
                changes.append(Change(keyword=name, what="numbers", l0=_numbers(old_numbers), history=_numbers(new_numbers)))
    return changes


def open_history(url: str, patience: float = PATIENCE) -> History:
    """Open the history that a URL names: that of a backend, or an L0 in its place, ``l0://PATH``.

    Raises
    ------
    ConfigurationError
        When nobody knows such a URL.
    TelemetryError
        When a file is not there, or is no history.
    """
    if not url.startswith(SCHEME):
        return urls.open_history(url, patience)
    path = url.removeprefix(SCHEME)
    if not path:
        raise ConfigurationError(f"{url}: no path; expected l0://L0.fits")
    return RecordedHistory(Path(path))


def absolute_history(url: str) -> str:
    """Return the URL by which another process knows a history in a file, whatever its working directory is.

    >>> absolute_history("sqlite:////data/../night.db"), absolute_history("l0:///data/kp.fits"), absolute_history("influx3://host/kpf")
    ('sqlite:////night.db', 'l0:///data/kp.fits', 'influx3://host/kpf')
    """
    if url.startswith(SCHEME):
        return f"{SCHEME}{os.path.abspath(url.removeprefix(SCHEME))}"
    scheme = url.partition("://")[0]
    return f"{scheme}:///{os.path.abspath(urls.path_of(url))}" if scheme in urls.FILES else url


def _differ(old: Aggregate, new: Aggregate) -> bool:
    return (old.average, old.stddev, old.minimum, old.maximum) != (new.average, new.stddev, new.minimum, new.maximum)


def _shown(sample: Sample | None) -> str:
    if sample is None:
        return "not available"
    when = f" ({format_iso(from_unix(sample.time))} UTC)" if is_unix_time(sample.time) else ""
    return f"{sample.value[:200]!a}{when}"


def _numbers(told: Aggregate) -> str:
    mean = f", mean {told.average!r}, {told.minimum!r} to {told.maximum!r}" if told.average is not None else ""
    return f"{told.samples} samples{mean}"
