"""What an exposure asks of its history: in which order, as of when, and what it makes of an answer that it does not like."""

from dataclasses import replace

import pytest
from samples import Memory

from assembler.core.candidates import Candidate
from assembler.core.instants import SECOND, format_iso, parse_iso
from assembler.core.instrument import Event, Snapshot, TelemetryKeyword
from assembler.core.times import Times
from assembler.errors import TelemetryError
from assembler.service.inquiry import Inquiry

BEGIN = parse_iso("2024-04-22T08:00:32.5")
END = BEGIN + 30 * SECOND
TIMES = Times(begin=BEGIN, end=END, begin_from="green", end_from="green")
GREEN = Candidate(source="green", origin="green", begin=BEGIN, end=END, tolerance=SECOND // 10)


def after(seconds: float) -> float:
    """Return UNIX seconds, counted from the exposure's begin."""
    return BEGIN / 1e9 + seconds


def iso(seconds: float) -> str:
    return format_iso(BEGIN + int(seconds * SECOND))


def keyword(card: str, source: str, **facts: object) -> TelemetryKeyword:
    return TelemetryKeyword(**({"card": card, "source": source, "type": "str", "unit": "", "comment": ""} | facts))


@pytest.fixture
def instrument(kpf):
    """Return KPF with no telemetry of its own."""
    return replace(kpf, snapshots=(), table=())


def opened(instrument, form, told):
    """Return the instant of a moment that the history tells, None where it is unknown, and the codes of the findings."""
    event = Event(source="shutter.OPEN", form=form)
    snapshot = Snapshot(moment="opened", offset=SECOND // 2, keywords=(keyword("AZ", "dome.AZ"),), event=event)
    history = Memory({"shutter.OPEN": told, "dome.AZ": {after(-9): "early", after(3.4): "right", after(3.6): "late"}})
    answers, findings = Inquiry(replace(instrument, snapshots=(snapshot,)), history).snapshots(TIMES)
    value = answers.value("opened", "dome.AZ")
    return answers.instants.get("opened"), value and value.value, [f.code for f in findings]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("iso", {after(3.1): iso(3)}),
        ("iso", {after(-60): iso(-61), after(31): iso(3), after(33): iso(60)}),
        ("unix", {after(3.1): f"{after(3):.6f}"}),
        ("mjd", {after(3.1): "60422.333744212963"}),
        ("broadcast", {after(-60): "closed", after(3): "open"}),
    ],
)
def test_a_moment_may_be_an_event_that_the_history_tells(instrument, form, told):
    instant, value, codes = opened(instrument, form, told)
    assert abs(instant - (BEGIN + 3 * SECOND + SECOND // 2)) < 100_000
    assert (value, codes) == ("right", [])


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("iso", {}),
        ("iso", {after(3.1): "open"}),
        ("iso", {after(-60): iso(-60)}),
        ("iso", {after(3): iso(60)}),
        ("unix", {after(3.1): "nan"}),
        ("broadcast", {after(-60): "open"}),
    ],
)
def test_an_event_that_was_not_in_this_exposure_is_no_moment_of_it(instrument, form, told):
    assert opened(instrument, form, told) == (None, None, ["moment-unknown"])


@pytest.mark.parametrize(
    ("begins", "previous"),
    [
        ({after(-60): iso(-60.1), after(0): iso(0)}, -60.1),
        ({after(-60): iso(-60.1), after(-0.5): iso(0)}, -60.1),
        ({after(-0.5): iso(0)}, None),
        ({}, None),
        ({after(-60): "never"}, None),
        ({after(60): iso(60), after(-120): iso(-120)}, -120),
    ],
)
def test_the_previous_exposure_is_the_last_one_that_the_service_told_before(instrument, begins, previous):
    snapshot = Snapshot(moment="begin", offset=0, keywords=(keyword("TARG", "dcs.TARG", must_refresh="dcs.RA"),))
    history = Memory({"kpfexpose.STARTTIME": begins, "dcs.RA": {after(-90): "old", after(-30): "new"}})
    answers, _ = Inquiry(replace(instrument, snapshots=(snapshot,)), history).snapshots(TIMES)
    assert answers.previous == (None if previous is None else BEGIN + int(previous * SECOND))
    assert {name: s.value for name, s in answers.before.items()} == ({"dcs.RA": "old"} if previous == -60.1 else {})


class Failing(Memory):
    """A history that answers so many questions and then no more."""

    def __init__(self, answers: int) -> None:
        super().__init__({"kpfexpose.STARTTIME": {after(0.1): iso(0.001)}, "kpfexpose.ENDTIME": {after(30.1): iso(30.001)}})
        self.left = answers
        self.asked = 0

    def as_of(self, names, instants):
        self.asked += 1
        self.left -= 1
        if self.left < 0:
            raise TelemetryError("db: away", retry=True)
        return super().as_of(names, instants)

    def during(self, names, begin, end):
        self.as_of(names, [])
        return super().during(names, begin, end)


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_after_a_failure_nothing_more_is_asked_and_what_was_told_counts(instrument, answers):
    history = Failing(answers)
    inquiry = Inquiry(instrument, history)
    service, findings = inquiry.service_times([GREEN])
    assert findings == ()
    assert (service is not None) == (answers > 0)
    told, _ = inquiry.snapshots(TIMES)
    assert (told.asked, told.failure, dict(told.values)) == (False, "db: away", {})
    assert history.asked == answers + 1


def test_without_a_history_nothing_is_asked(instrument):
    inquiry = Inquiry(instrument, None)
    assert inquiry.service_times([GREEN]) == (None, ())
    told, findings = inquiry.snapshots(TIMES)
    assert (told.asked, told.failure, findings) == (False, "", ())
