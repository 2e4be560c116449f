"""Readiness: what belongs together, what is waited for, and until when; never two exposures in one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.candidates import Candidate
from assembler.core.instants import SECOND, parse_iso
from assembler.core.readiness import Arrival, awaited_origins, deadline, decide, judge, sort_arrivals, triggered_origins
from assembler.instruments import read_instrument

T0 = parse_iso("2024-04-22T08:00:00")
SPACING, LENGTH = 60, 30
CAMERAS = ("green", "red", "ca_hk", "expmeter")


def arrival(origin: str, number: int, at: float, *, frame: int | None = 0, late: float = 0.0) -> Arrival:
    """Return a sub-FITS of the exposure of a number, complete so many seconds after the night's first begin."""
    begin = T0 + int((number * SPACING + late) * SECOND)
    times = Candidate(source=origin, origin=origin, begin=begin, end=begin + LENGTH * SECOND, tolerance=SECOND)
    told = None if origin == "guide" else number if frame == 0 else frame
    return Arrival(origin=origin, path=f"/night/{origin}_{number}.fits", frame=told, times=times, at=T0 + int(at * SECOND))


def camera(prefix: str, name: str, match: str = "frame") -> str:
    return (
        f'  {name}: {{prefix: {prefix}, flag: {prefix}F, file: {prefix}FN, files: "*", triggered: {name}, readout: 60 s, match: {match}}}'
    )


INSTRUMENT = read_instrument(
    "instrument: five\nfilename: x.fits\nmargin: 60 s\norigins:\n"
    + "\n".join([*(camera(f"C{n}", name) for n, name in zip("ABCD", CAMERAS, strict=True)), camera("GC", "guide", "time")]),
    "five.yaml",
)


@pytest.fixture(scope="module")
def instrument():
    """Return four cameras that name their frames, and a guide camera that does not."""
    return INSTRUMENT


NIGHT = st.lists(
    st.tuples(st.sampled_from([*CAMERAS, "guide"]), st.integers(0, 4), st.integers(0, 600)), max_size=25, unique_by=lambda f: f[:2]
)


@given(NIGHT, st.randoms(use_true_random=False))
def test_what_belongs_together_does_not_depend_on_the_order_of_arrival(instrument, files, random):
    arrivals = [arrival(*f) for f in files]
    shuffled = list(arrivals)
    random.shuffle(shuffled)
    assert sort_arrivals(instrument, shuffled) == sort_arrivals(instrument, arrivals)


@given(NIGHT)
def test_two_exposures_are_never_mixed_and_nothing_is_lost(instrument, files):
    arrivals = [arrival(*f) for f in files]
    told = sort_arrivals(instrument, arrivals)
    for flight in told.flights:
        assert {a.path.rpartition("_")[2] for a in flight.arrivals} == {f"{flight.frame}.fits"}
        assert len(set(flight.origins)) == len(flight.origins)
    everywhere = [a.path for flight in told.flights for a in flight.arrivals] + [a.path for a in (*told.loose, *told.doubles)]
    assert sorted(everywhere) == sorted(a.path for a in arrivals)


@given(NIGHT)
def test_a_file_with_a_counter_of_its_own_is_loose_only_where_its_exposure_is_not_there(instrument, files):
    told = sort_arrivals(instrument, [arrival(*f) for f in files])
    frames = {number for origin, number, _ in files if origin != "guide"}
    assert {a.path for a in told.loose} == {f"/night/guide_{n}.fits" for o, n, _ in files if o == "guide" and n not in frames}


def test_of_two_files_for_one_place_the_first_has_it(instrument):
    first, second = arrival("green", 1, 100), replace(arrival("green", 1, 90), path="/night/again.fits", at=T0 + 200 * SECOND)
    told = sort_arrivals(instrument, [second, first])
    assert [f.arrivals for f in told.flights] == [(first,)]
    assert told.doubles == (second,)


def flight(instrument, *arrivals: Arrival):
    (only,) = sort_arrivals(instrument, arrivals).flights
    return only


def test_an_exposure_is_ready_when_all_that_it_waits_for_is_there(instrument):
    four = [arrival(o, 0, 40) for o in CAMERAS]
    waiting = judge(instrument, flight(instrument, *four), None, T0 + 41 * SECOND)
    assert (waiting.state, waiting.awaited) == ("waiting", ("guide",))
    assert judge(instrument, flight(instrument, *four, arrival("guide", 0, 41)), None, T0 + 41 * SECOND).state == "ready"
    assert judge(instrument, flight(instrument, *four), frozenset(CAMERAS), T0 + 41 * SECOND).state == "ready"


def test_a_deadline_counts_from_the_end_or_the_first_arrival_whichever_is_later(instrument):
    live = flight(instrument, arrival("green", 0, 45))
    assert deadline(instrument, live, "red") == T0 + (45 + 120) * SECOND
    early = flight(instrument, arrival("green", 0, 10))
    assert deadline(instrument, early, "red") == T0 + (LENGTH + 120) * SECOND
    replayed = flight(instrument, arrival("green", 0, 10**6))
    assert deadline(instrument, replayed, "red") == T0 + (10**6 + 120) * SECOND
    timeless = replace(arrival("green", 0, 45), times=Candidate(source="green", origin="green", begin=None, end=None))
    assert deadline(instrument, flight(instrument, timeless), "red") == T0 + (45 + 120) * SECOND


@given(st.sets(st.sampled_from(CAMERAS), min_size=1), st.integers(0, 400), st.integers(0, 400))
def test_waiting_ends_once_and_for_all(instrument, there, now, later):
    one = flight(instrument, *(arrival(o, 0, 40) for o in there))
    first, second = (judge(instrument, one, None, T0 + s * SECOND) for s in sorted((now, later)))
    if first.state == "give up":
        assert second == first
    if first.state == "waiting":
        assert judge(instrument, one, None, first.until - 1).state == "waiting"
        assert judge(instrument, one, None, first.until).state == "give up"
        assert first.awaited == tuple(o.name for o in instrument.origins if o.name not in there)


def test_each_origin_has_a_deadline_of_its_own(instrument):
    slow = replace(instrument, origins=tuple(replace(o, readout=300 * SECOND) if o.name == "red" else o for o in instrument.origins))
    without_both = flight(slow, *(arrival(o, 0, 40) for o in ("green", "ca_hk", "expmeter")))
    assert judge(slow, without_both, None, T0 + 200 * SECOND).until == T0 + (40 + 360) * SECOND
    without_guide = flight(slow, *(arrival(o, 0, 40) for o in CAMERAS))
    assert judge(slow, without_guide, None, T0 + 200 * SECOND).state == "give up"


def test_who_is_awaited_comes_from_telemetry_or_from_the_yaml(instrument):
    assert triggered_origins(instrument, "Green, ca_hk,,nobody") == {"green", "ca_hk"}
    assert awaited_origins(instrument, frozenset({"red", "green"})) == ("green", "red")
    optional = replace(instrument, origins=tuple(replace(o, required=o.name != "guide") for o in instrument.origins))
    assert awaited_origins(optional, None) == CAMERAS[:1] + CAMERAS[1:]


def test_an_instrument_without_frame_numbers_has_an_exposure_for_each_file(instrument):
    a, b = (replace(arrival("green", n, 40), frame=None) for n in (0, 1))
    told = sort_arrivals(instrument, [a, b])
    assert [f.arrivals for f in told.flights] == [(a,), (b,)]


@given(NIGHT)
def test_a_night_ends_with_every_file_in_an_l0_or_told_to_be_an_orphan(instrument, files):
    """Play a night: files come at their instants, and what is decided is done at once."""
    coming = sorted((arrival(*f) for f in files), key=lambda a: a.at)
    arrivals: list[Arrival] = []
    done: set[str] = set()
    orphans: set[str] = set()
    assembled: list[int | None] = []
    now, until = T0, None
    while coming or until is not None:
        now = min(i for i in (coming[0].at if coming else None, until) if i is not None)
        while coming and coming[0].at <= now:
            arrivals.append(coming.pop(0))
        told = decide(instrument, arrivals, done, orphans, {}, now)
        assert told.until is None or told.until > now
        until = told.until
        for flight in (*told.ready, *(f for f, _ in told.partial), *(f for f, _ in told.late)):
            fresh = {a.path for a in flight.arrivals} - done
            assert fresh
            done |= fresh
        assembled += [f.frame for f in (*told.ready, *(f for f, _ in told.partial))]
        orphans |= {a.path for a in told.orphans}
        again = decide(instrument, arrivals, done, orphans, {}, now)
        assert (again.ready, again.partial, again.late, again.orphans) == ((), (), (), ())
    assert done | orphans == {a.path for a in arrivals}
    assert len(arrivals) == len(files)
    assert sorted(assembled) == sorted({number for origin, number, _ in files if origin != "guide"})


def test_a_latecomer_is_due_for_a_new_version_of_its_exposure_only(instrument):
    first = [arrival(o, n, 40 + 60 * n) for n in (0, 1) for o in (*CAMERAS, "guide") if (o, n) != ("red", 1)]
    late = arrival("red", 1, 5000)
    told = decide(instrument, [*first, late], {a.path for a in first}, (), {}, T0 + 5001 * SECOND)
    ((flight, origins),) = told.late
    assert (flight.frame, origins) == (1, ("red",))
    assert (told.ready, told.partial, told.orphans, told.until) == ((), (), (), None)
