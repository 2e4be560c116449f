"""The history that an L0 was made with, where several plans of its exposure are compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from assembler.core.instants import unix_seconds
from assembler.core.samples import Aggregate, Sample
from assembler.core.tables import Table
from assembler.errors import InputError, TelemetryError
from assembler.service.recorded import Recording
from assembler.service.replay import RecordedHistory
from assembler.telemetry.history import History

T = TypeVar("T")


def recorded_history(path: Path, recording: Recording, now: History | None) -> History | None:
    """Return the history that an L0 was made with.

    Parameters
    ----------
    path : Path
        The L0's.
    recording : Recording
    now : History or None
        Stands in where the L0 does not know: for keywords and moments that another YAML asks for.

    Raises
    ------
    InputError
        When TELEMETRY, or a time of the L0, is not as an assembler writes it.
    """
    failed = [f.message.rpartition("; ")[0] for f in recording.findings if f.code == "history-unavailable"]
    if failed:
        return _Failed(failed[0])
    if any(f.code == "no-history" for f in recording.findings):
        return None
    try:
        recorded = RecordedHistory(path)
    except TelemetryError as error:  # no server is away: it is the L0 that cannot be read
        raise InputError(str(error), path=str(path)) from error
    return _Former(recorded, recording.tables["TELEMETRY"], now)


class Remembered:
    """A history that is asked each question once: several plans of one exposure are made of the same answers."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._as_of: dict[tuple[tuple[str, ...], tuple[float, ...]], list[Mapping[str, Sample]] | TelemetryError] = {}
        self._during: dict[tuple[tuple[str, ...], float, float], Mapping[str, Aggregate] | TelemetryError] = {}

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one."""
        key = (tuple(names), tuple(instants))
        if key not in self._as_of:
            try:
                self._as_of[key] = self._history.as_of(names, instants)
            except TelemetryError as error:
                self._as_of[key] = error
        return _answered(self._as_of[key])

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end, both included, come to, of each name that has any."""
        key = (tuple(names), begin, end)
        if key not in self._during:
            try:
                self._during[key] = self._history.during(names, begin, end)
            except TelemetryError as error:
                self._during[key] = error
        return _answered(self._during[key])

    def interrupt(self) -> None:
        """End a question that is under way."""
        self._history.interrupt()

    def close(self) -> None:
        """Let go of the history."""
        self._history.close()


class _Former:
    """The history as an L0 recorded it; the one of now answers what the L0 was not made with."""

    def __init__(self, recorded: RecordedHistory, table: Table, now: History | None) -> None:
        self._recorded = recorded
        self._now = now
        self._instants = {unix_seconds(instant) for instant in recorded.instants.values()}
        self._interval = [unix_seconds(instant) for instant in recorded.interval]
        names = [c.name for c in table.columns]
        keyword, further = names.index("keyword"), names.index("further")
        self._decided = {str(row[keyword]) for row in table.rows if row[further]}
        """Names of which samples of other moments are recorded too: those that decided something."""

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Return for each instant the last sample at or before it, of each name that has one."""
        answers = self._recorded.as_of(names, instants)
        if self._now is None:
            return answers
        known = set(self._recorded.names)
        result: list[Mapping[str, Sample]] = []
        for instant, answer in zip(instants, answers, strict=True):
            asked = [n for n in names if not (n in self._decided or (n in known and instant in self._instants))]
            mine = {n: s for n, s in answer.items() if n not in asked}
            result.append(mine | dict(self._now.as_of(asked, [instant])[0]) if asked else mine)
        return result

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, Aggregate]:
        """Return what the samples from begin to end, both included, come to, of each name that has any."""
        if self._now is None or not names:
            return self._recorded.during(names, begin, end)
        if [begin, end] != self._interval:
            return self._now.during(names, begin, end)
        known = set(self._recorded.names)
        unknown = [n for n in names if n not in known]
        return dict(self._recorded.during(names, begin, end)) | (dict(self._now.during(unknown, begin, end)) if unknown else {})

    def interrupt(self) -> None:
        """End a question that is under way."""
        if self._now is not None:
            self._now.interrupt()

    def close(self) -> None:
        """Do nothing: whoever opened the history of now closes it."""


class _Failed:
    """A history that did not answer."""

    def __init__(self, message: str) -> None:
        self._message = message

    def as_of(self, _names: Sequence[str], _instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        """Raise a TelemetryError."""
        raise TelemetryError(self._message)

    def during(self, _names: Sequence[str], _begin: float, _end: float) -> Mapping[str, Aggregate]:
        """Raise a TelemetryError."""
        raise TelemetryError(self._message)

    def interrupt(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _answered(answer: T | TelemetryError) -> T:
    if isinstance(answer, TelemetryError):
        raise answer
    return answer
