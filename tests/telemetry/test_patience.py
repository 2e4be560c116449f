"""Patience: an answer, or an error by the deadline; never a wait without end, never two threads in one history."""

import threading
from collections.abc import Callable

import pytest

from assembler.core.samples import Sample
from assembler.errors import TelemetryError
from assembler.telemetry.patience import Patience

SOON = 30.0
"""Seconds that no test waits for."""


class Moody:
    """A history that answers as it is told to, one call after the other."""

    def __init__(self, *moods: Callable[[], object] | object) -> None:
        self.moods = list(moods)
        self.calls = 0
        self.inside = 0
        self.interrupted = threading.Event()
        self.closed = False

    def as_of(self, names, instants):
        self.calls += 1
        self.inside += 1
        assert self.inside == 1
        try:
            mood = self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]
            if isinstance(mood, BaseException):
                raise mood
            return mood() if callable(mood) else mood
        finally:
            self.inside -= 1

    def during(self, names, begin, end):
        return self.as_of(names, [begin, end])

    def interrupt(self):
        self.interrupted.set()

    def close(self):
        self.closed = True

    def hang(self):
        """Wait until somebody interrupts."""
        self.interrupted.wait(SOON)
        raise TelemetryError("interrupted", retry=True)


ANSWER = [{"svc.A": Sample(time=1.0, value="x")}]
AWAY = TelemetryError("db: connection refused", retry=True)


def test_an_answer_is_handed_on():
    lent = Patience(Moody(ANSWER), SOON)
    assert lent.exposure().as_of(["svc.A"], [2.0]) == ANSWER
    assert lent.exposure().during(["svc.A"], 1.0, 2.0) == ANSWER


def test_a_server_that_comes_back_is_asked_again():
    moody = Moody(AWAY, AWAY, AWAY, ANSWER)
    assert Patience(moody, SOON).exposure().as_of(["svc.A"], [2.0]) == ANSWER
    assert moody.calls == 4


def test_what_asking_again_does_not_mend_is_an_error_at_once():
    moody = Moody(TelemetryError("db: no permission"))
    with pytest.raises(TelemetryError, match="no permission"):
        Patience(moody, SOON).exposure().as_of([], [])
    assert moody.calls == 1


def test_a_server_that_stays_away_is_an_error_when_the_time_is_up():
    moody = Moody(AWAY)
    with pytest.raises(TelemetryError, match="connection refused"):
        Patience(moody, 0.3).exposure().as_of([], [])
    assert moody.calls > 1


def test_a_server_that_hangs_is_interrupted():
    moody = Moody(ANSWER)
    moody.moods = [moody.hang]
    lent = Patience(moody, 0.1)
    with pytest.raises(TelemetryError, match="no answer within"):
        lent.exposure().as_of([], [])
    assert moody.interrupted.is_set()
    moody.moods = [ANSWER]
    assert lent.exposure().as_of([], []) == ANSWER


def test_the_questions_of_an_exposure_share_its_time():
    seconds = [0.0]

    def answer_after_six_seconds():
        seconds[0] += 6.0
        return ANSWER

    moody = Moody(ANSWER)
    moody.moods = [answer_after_six_seconds]
    lent = Patience(moody, 10.0, clock=lambda: seconds[0])
    one = lent.exposure()
    assert one.as_of([], []) == ANSWER

    def refuse_after_a_second():
        seconds[0] += 1.0
        raise AWAY

    moody.moods = [refuse_after_a_second]
    seconds[0] += 100.0  # spent on something else, such as copying
    calls = moody.calls
    with pytest.raises(TelemetryError, match="refused"):
        one.as_of([], [])
    assert moody.calls > calls
    moody.moods = [answer_after_six_seconds]
    assert lent.exposure().as_of([], []) == ANSWER


def test_nobody_joins_a_thread_that_cannot_be_interrupted():
    stuck = threading.Event()
    moody = Moody(lambda: stuck.wait(SOON) and ANSWER, ANSWER)
    lent = Patience(moody, 0.1)
    for told in ("no answer within", "an earlier question is still stuck"):
        with pytest.raises(TelemetryError, match=told):
            lent.exposure().as_of([], [])
    assert moody.calls == 1
    stuck.set()
    moody.moods = [ANSWER]
    assert lent.ask(lambda history: history.as_of([], []), SOON) == ANSWER


def test_a_bug_of_a_backend_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        Patience(Moody(ZeroDivisionError()), SOON).exposure().as_of([], [])


def test_closing_closes_the_history():
    moody = Moody(ANSWER)
    lent = Patience(moody, SOON)
    lent.exposure().as_of([], [])
    lent.close()
    assert moody.closed


def test_opening_is_waited_for_no_longer_than_an_answer():
    stuck = threading.Event()
    with pytest.raises(TelemetryError, match="cannot be opened within"):
        Patience.opening(lambda: stuck.wait(SOON) and Moody(ANSWER), 0.1)
    stuck.set()
    with pytest.raises(TelemetryError, match="no such file"):
        Patience.opening(lambda: (_ for _ in ()).throw(TelemetryError("h.db: no such file")), SOON)
    assert Patience.opening(lambda: Moody(ANSWER), SOON).exposure().as_of([], []) == ANSWER
