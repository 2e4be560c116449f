"""The lender: a history that is away costs little, and is used again when it is back; none of that is ever raised."""

from collections.abc import Mapping, Sequence

import pytest
from recording import Recording
from samples import Memory

from assembler.core.instants import SECOND, parse_iso, unix_seconds
from assembler.core.samples import Sample
from assembler.errors import ConfigurationError, TelemetryError
from assembler.service.lender import Lender

T0 = parse_iso("2024-04-22T08:00:00")
TRIGGERED = "kpfconfig.TRIGTARG"


class Times:
    """A clock that a test sets [s]."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """A history that is there or not; it counts how often it was asked and opened."""

    def __init__(self, told: dict[str, dict[float, str]]) -> None:
        self.memory = Memory(told)
        self.away: TelemetryError | None = None
        self.asked = self.opened = 0
        self.closed = False

    def open(self) -> "Server":
        self.opened += 1
        self._answer()
        return self

    def _answer(self) -> None:
        if self.away:
            raise self.away

    def as_of(self, names: Sequence[str], instants: Sequence[float]) -> list[Mapping[str, Sample]]:
        self.asked += 1
        self._answer()
        return self.memory.as_of(names, instants)

    def during(self, names: Sequence[str], begin: float, end: float) -> Mapping[str, object]:
        self.asked += 1
        self._answer()
        return self.memory.during(names, begin, end)

    def interrupt(self) -> None: ...

    def close(self) -> None:
        self.closed = True


LATER = T0 + 1000 * SECOND
AWAY = TelemetryError("the server is away")  # not to be tried again at once, so that nobody waits here


@pytest.fixture
def clock() -> Times:
    return Times()


@pytest.fixture
def log() -> Recording:
    return Recording()


@pytest.fixture
def server() -> Server:
    t = unix_seconds(T0)
    return Server({TRIGGERED: {t: "Green,Red", t + 60: "Green", t + 120: " ", t + 180: "nobody"}, "kpfexpose.EXPTIME": {t + 200: "30"}})


@pytest.fixture
def lender(kpf, server, log, clock) -> Lender:
    return Lender(kpf, server.open, 10.0, log, clock)


def ask(lender: Lender) -> object:
    return lender.lend().as_of([TRIGGERED], [unix_seconds(T0)])


def test_it_opens_the_history_once_and_lends_it_again_and_again(lender, server, log):
    for _ in range(3):
        ((answer,),) = [told.values() for told in ask(lender)]
        assert answer.value == "Green,Red"
    assert (server.opened, server.asked, log.events()) == (1, 3, [])
    lender.close()
    assert server.closed


def test_an_exposure_waits_as_long_as_it_may_and_only_for_a_moment_while_the_history_is_away(lender, server, log):
    assert lender.lend()._left == 10.0
    lender.failed("no answer")
    assert lender.lend()._left == 0.5
    lender.answered()
    assert lender.lend()._left == 10.0
    assert log.events() == ["history_away", "history_answers_again"]
    lender.close()


def test_whoever_gives_less_time_than_a_moment_is_believed(kpf, server, log, clock):
    lender = Lender(kpf, server.open, 0.25, log, clock)
    lender.lend()
    lender.failed("no answer")
    assert lender.lend()._left == 0.25
    lender.close()


def test_a_history_that_is_away_at_the_start_says_so_and_is_opened_when_it_is_back(lender, server, clock, log):
    server.away = AWAY
    for _ in range(3):
        with pytest.raises(TelemetryError, match="the server is away"):
            ask(lender)
    assert (server.opened, lender.failure, log.events()) == (1, "the server is away", ["history_away"])
    server.away = None
    with pytest.raises(TelemetryError):
        ask(lender)
    clock.now += 1
    assert ask(lender)
    assert server.opened == 2
    lender.close()


def test_one_that_goes_away_is_asked_again_after_pauses_that_double_up_to_a_limit(lender, server, clock, log):
    ask(lender)
    server.away = AWAY
    assert lender.newest(T0) is None
    begun, pauses = clock.now, []
    for _ in range(300):
        asked = server.asked
        assert not lender.is_back(T0)
        if server.asked > asked:
            pauses.append(clock.now - begun)
            begun = clock.now
        clock.now += 1
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert log.events() == ["history_away"]
    server.away = None
    clock.now += 60
    assert lender.is_back(T0)
    assert log.events() == ["history_away", "history_answers_again"]
    server.away = AWAY
    lender.newest(T0)
    server.away = None
    clock.now += 1
    assert lender.is_back(T0)
    lender.close()


def test_who_took_part_is_told_by_frame_where_the_history_tells(lender, server):
    middles = {1: T0, 2: T0 + 60 * SECOND, 3: T0 - SECOND, 4: T0 + 130 * SECOND, 5: T0 + 180 * SECOND}
    assert lender.triggered(middles, LATER) == {1: {"green", "red"}, 2: {"green"}, 5: frozenset()}
    asked = server.asked
    assert lender.triggered({}, LATER) == {}
    assert server.asked == asked
    lender.close()


def test_a_history_that_lags_does_not_tell_of_an_exposure_what_it_knew_of_the_one_before(lender):
    middles = {1: T0 + 10 * SECOND, 2: T0 + 65 * SECOND}
    assert lender.triggered(middles, T0 + 61 * SECOND) == {1: {"green", "red"}}
    assert lender.triggered(middles, LATER) == {1: {"green", "red"}, 2: {"green"}}
    lender.close()


def test_that_nobody_answers_is_never_raised(lender, server, clock):
    for how in ("opening", "asking"):
        if how == "asking":
            server.away = None
            clock.now += 100
            ask(lender)
        server.away = AWAY
        for _ in range(3):
            clock.now += 100
            assert lender.triggered({1: T0}, LATER) == {}
            assert lender.newest(T0) is None
            assert not lender.is_back(T0)
            lender.lend()
    lender.close()


def test_while_it_is_away_nobody_asks_who_took_part_before_the_pause_is_over(lender, server, clock):
    ask(lender)
    server.away = AWAY
    lender.triggered({1: T0}, LATER)
    asked = server.asked
    assert lender.triggered({1: T0}, LATER) == {}
    assert server.asked == asked
    server.away = None
    clock.now += 1
    assert lender.triggered({1: T0}, LATER) == {1: {"green", "red"}}
    assert lender.failure == ""
    lender.close()


def test_a_server_that_says_to_come_again_is_asked_until_the_time_is_up(kpf, server, log):
    lender = Lender(kpf, server.open, 0.2, log)
    ask(lender)
    server.away = TelemetryError("try again", retry=True)
    assert lender.newest(T0) is None
    assert server.asked > 2
    assert lender.failure == "try again"
    lender.close()


def test_the_newest_sample_of_the_instrument_is_told(lender):
    assert lender.newest(T0 - SECOND) is None
    assert lender.newest(T0 + 100 * SECOND) == unix_seconds(T0) + 60
    assert lender.newest(T0 + 10**6 * SECOND) == unix_seconds(T0) + 200
    lender.close()


def test_a_setting_that_is_wrong_is_no_outage(kpf, log, clock):
    def wrong() -> Server:
        raise ConfigurationError("no such scheme")

    with pytest.raises(ConfigurationError):
        Lender(kpf, wrong, 1.0, log, clock).lend()


def test_one_that_was_never_opened_is_closed_as_well(lender, server):
    server.away = AWAY
    away = lender.lend()
    with pytest.raises(TelemetryError, match="the server is away"):
        away.during([TRIGGERED], 0.0, 1.0)
    away.interrupt()
    away.close()
    lender.close()
