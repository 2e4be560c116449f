"""The board: each exposure gets exactly its own sub-FITS, in whatever order they come and whatever is done in between."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.candidates import Candidate
from assembler.core.instants import SECOND, parse_iso
from assembler.core.readiness import Arrival, Flight, sort_arrivals
from assembler.instruments import read_instrument
from assembler.service.board import Board, key_of, name_of

NIGHT = "/data/night"
T0 = parse_iso("2024-04-22T08:00:00")
SPACING, LENGTH = 60, 30
CAMERAS = ("green", "red", "ca_hk")
LATER = T0 + 10**6 * SECOND


def origin(prefix: str, name: str, match: str = "frame") -> str:
    return f'  {name}: {{prefix: {prefix}, flag: {prefix}F, file: {prefix}FN, files: "*", readout: 60 s, match: {match}}}'


INSTRUMENT = read_instrument(
    "instrument: four\nfilename: x.fits\nmargin: 60 s\norigins:\n"
    + "\n".join([*(origin(f"C{n}", name) for n, name in zip("ABC", CAMERAS, strict=True)), origin("GC", "guide", "time")]),
    "four.yaml",
)


def arrival(name: str, number: int, at: int, copy: str = "") -> Arrival:
    """Return a sub-FITS of the exposure of a number, settled so many seconds after the night's first begin."""
    begin = T0 + number * SPACING * SECOND
    times = Candidate(source=name, origin=name, begin=begin, end=begin + LENGTH * SECOND, tolerance=SECOND)
    frame = None if name == "guide" else number
    return Arrival(origin=name, path=f"{NIGHT}/{name}_{number}{copy}.fits", frame=frame, times=times, at=T0 + at * SECOND)


class Disk:
    """What a board reads again, as it was when it arrived; it tells neither the frame nor when that was."""

    def __init__(self) -> None:
        self.there: dict[str, Arrival] = {}
        self.reads = 0

    def __call__(self, name: str, path: str) -> Arrival:
        self.reads += 1
        if path not in self.there:
            return Arrival(origin=name, path=path, frame=None, times=Candidate(source=name, origin=name, begin=None, end=None), at=0)
        return replace(self.there[path], at=0)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def board(disk) -> Board:
    return Board(INSTRUMENT, disk)


def arrive(board: Board, disk: Disk, *arrivals: Arrival) -> None:
    for one in arrivals:
        disk.there[one.path] = one
        board.arrive(NIGHT, one)


def numbers(flight: Flight) -> set[str]:
    return {a.path.rpartition("_")[2] for a in flight.arrivals}


def finish(board: Board, now: int = LATER) -> dict[int, set[str]]:
    """Make everything that is to be made, until there is nothing more; return by frame the origins that its last L0 has."""
    made: dict[int, set[str]] = {}
    for _ in range(20):
        decided = board.decide(NIGHT, {}, now)
        board.tell(NIGHT, decided.orphans)
        flights = [*decided.ready, *(f for f, _ in decided.partial), *(f for f, _ in decided.late)]
        for flight in flights:
            assert numbers(flight) == {f"{flight.frame}.fits"}
            made[flight.frame] = set(flight.origins)
            board.close(NIGHT, flight)
        if not flights:
            return made
    raise AssertionError("there is no end of it")


FILES = st.lists(st.tuples(st.sampled_from([*CAMERAS, "guide"]), st.integers(0, 4)), min_size=1, max_size=20, unique=True)


@given(files=FILES, every=st.integers(1, 7), wait=st.booleans())
def test_each_exposure_gets_exactly_its_own_whatever_is_done_in_between(files, every, wait):
    """After every few arrivals what is due is made; at the end it is as if all had come together."""
    disk = Disk()
    board = Board(INSTRUMENT, disk)
    arrivals = [arrival(name, number, at) for at, (name, number) in enumerate(files)]
    made: dict[int, set[str]] = {}
    for place, one in enumerate(arrivals):
        arrive(board, disk, one)
        if place % every == 0:
            made |= finish(board, one.at if wait else LATER)
    made |= finish(board)
    together = sort_arrivals(INSTRUMENT, arrivals)
    assert made == {flight.frame: set(flight.origins) for flight in together.flights}
    loose = {a.path for a in together.loose}
    assert {a.path for flight in board.flights(NIGHT) for a in flight.arrivals} == set()
    assert board._nights[NIGHT].told == loose
    assert set(board._nights[NIGHT].arrivals) == loose
    assert board.is_idle(NIGHT)


@given(files=FILES, split=st.integers(0, 20))
def test_a_board_that_learns_from_the_journal_goes_on_as_the_one_before(files, split):
    """It is told what was done, and gets only what came later."""
    arrivals = [arrival(name, number, at) for at, (name, number) in enumerate(files)]
    disk = Disk()
    first, second = Board(INSTRUMENT, disk), Board(INSTRUMENT, disk)
    arrive(first, disk, *arrivals[:split])
    made = finish(first) if split else {}
    by_frame = {f.frame: {a.origin: a.path for a in f.arrivals} for f in sort_arrivals(INSTRUMENT, arrivals[:split]).flights}
    for frame, paths in by_frame.items():
        second.know(NIGHT, frame, paths)
        assert second.has(NIGHT, frame)
    done = {path for paths in by_frame.values() for path in paths.values()}
    arrive(second, disk, *(a for a in arrivals if a.path not in done))
    made |= finish(second)
    assert made == {flight.frame: set(flight.origins) for flight in sort_arrivals(INSTRUMENT, arrivals).flights}


@given(files=FILES, data=st.data())
def test_in_flight_it_agrees_with_sorting_everything_at_once(files, data):
    disk = Disk()
    board = Board(INSTRUMENT, disk)
    arrivals = [arrival(name, number, data.draw(st.integers(0, 5))) for name, number in files]
    arrive(board, disk, *arrivals)
    assert board.flights(NIGHT) == sort_arrivals(INSTRUMENT, arrivals).flights


def test_an_exposure_that_is_done_is_kept_as_a_few_words_and_a_latecomer_takes_it_up(board, disk):
    arrive(board, disk, arrival("green", 1, 1), arrival("red", 1, 2), arrival("green", 2, 3))
    assert finish(board) == {1: {"green", "red"}, 2: {"green"}}
    night = board._nights[NIGHT]
    assert (night.arrivals, night.assembled) == ({}, set())
    assert disk.reads == 0
    arrive(board, disk, arrival("guide", 1, 500))
    assert board.has(NIGHT, 1)
    assert [f.frame for f in board.flights(NIGHT)] == [1]
    (late,) = board.decide(NIGHT, {}, LATER).late
    assert (late[0].origins, late[1]) == (("green", "red", "guide"), ("guide",))
    assert finish(board) == {1: {"green", "red", "guide"}}
    assert (night.arrivals, night.assembled) == ({}, set())


def test_an_exposure_that_was_taken_up_for_nothing_is_done_again(board, disk):
    arrive(board, disk, arrival("green", 1, 1), arrival("guide", 1, 2))
    finish(board)
    assert board.decide(NIGHT, {}, LATER).late == ()
    second = arrival("guide", 1, 700, copy="b")
    disk.there[second.path] = second
    board.arrive(NIGHT, second)
    decided = board.decide(NIGHT, {}, LATER)
    assert (decided.ready, decided.partial, decided.late, decided.orphans) == ((), (), (), (second,))
    assert board.has(NIGHT, 1)
    assert set(board._nights[NIGHT].arrivals) == {second.path}


def test_a_sub_fits_that_is_another_file_by_now_makes_a_new_version_of_its_exposure(board, disk):
    arrive(board, disk, arrival("green", 1, 1), arrival("red", 1, 2))
    finish(board)
    arrive(board, disk, arrival("red", 1, 900))
    ((flight, fresh),) = board.decide(NIGHT, {}, LATER).late
    assert (flight.origins, fresh) == (("green", "red"), ("red",))
    assert finish(board) == {1: {"green", "red"}}


@pytest.mark.parametrize("done_first", [False, True])
def test_of_two_for_one_place_the_second_is_told_once_and_never_has_it(board, disk, done_first):
    first, second = arrival("green", 1, 1), replace(arrival("green", 1, 2), path=f"{NIGHT}/again_1.fits")
    arrive(board, disk, first)
    if done_first:
        assert finish(board) == {1: {"green"}}
    arrive(board, disk, second)
    decided = board.decide(NIGHT, {}, T0 + 3 * SECOND)
    assert decided.orphans == (second,)
    board.tell(NIGHT, decided.orphans)
    assert finish(board) == ({} if done_first else {1: {"green"}})
    assert board.decide(NIGHT, {}, LATER).orphans == ()
    assert board.flights(NIGHT) == ()
    assert board.is_idle(NIGHT)


def test_a_loose_sub_fits_is_told_once_and_has_its_exposure_when_that_turns_up(board, disk):
    loose = arrival("guide", 3, 1)
    arrive(board, disk, loose)
    soon = board.decide(NIGHT, {}, T0 + 2 * SECOND)
    assert (soon.orphans, soon.until) == ((), loose.at + 120 * SECOND)
    told = board.decide(NIGHT, {}, soon.until)
    assert told.orphans == (loose,)
    assert not board.is_idle(NIGHT)
    board.tell(NIGHT, told.orphans)
    assert board.is_idle(NIGHT)
    assert board.decide(NIGHT, {}, soon.until).orphans == ()
    arrive(board, disk, *(arrival(name, 3, 400) for name in CAMERAS))
    assert finish(board, T0 + 401 * SECOND) == {3: {*CAMERAS, "guide"}}


def test_a_known_orphan_is_not_told_again(board, disk):
    loose = arrival("guide", 3, 1)
    arrive(board, disk, loose)
    board.tell(NIGHT, [loose])
    assert board.decide(NIGHT, {}, LATER).orphans == ()


def test_one_that_is_withdrawn_is_not_in_its_exposure(board, disk):
    arrive(board, disk, *(arrival(name, 1, 1) for name in (*CAMERAS, "guide")))
    board.withdraw(NIGHT, arrival("red", 1, 1).path)
    board.withdraw("/another/night", "/another/night/x.fits")
    assert [f.origins for f in board.flights(NIGHT)] == [("green", "ca_hk", "guide")]
    assert board.decide(NIGHT, {}, T0).ready == ()
    arrive(board, disk, arrival("red", 1, 5))
    assert len(board.decide(NIGHT, {}, T0).ready) == 1


def test_two_nights_with_the_same_frame_numbers_are_never_mixed(board, disk):
    arrive(board, disk, arrival("green", 1, 1))
    other = replace(arrival("red", 1, 2), path="/data/other/red_1.fits")
    board.arrive("/data/other", other)
    assert [f.origins for f in board.flights(NIGHT)] == [("green",)]
    assert [f.origins for f in board.flights("/data/other")] == [("red",)]
    finish(board)
    assert [f.origins for f in board.flights("/data/other")] == [("red",)]
    board.drop("/data/other")
    assert board.nights() == (NIGHT,)
    assert not board.has("/data/other", 1)


def test_one_of_which_a_sub_fits_is_gone_is_taken_up_without_its_times(board, disk):
    arrive(board, disk, arrival("green", 1, 1), arrival("red", 1, 2))
    finish(board)
    del disk.there[arrival("green", 1, 1).path]
    arrive(board, disk, arrival("guide", 1, 500))
    ((flight, fresh),) = board.decide(NIGHT, {}, LATER).late
    assert (flight.origins, fresh) == (("green", "red", "guide"), ("guide",))


def test_exposures_without_frame_numbers_are_known_by_their_one_file(disk):
    board = Board(INSTRUMENT, disk)
    first, second = (replace(arrival("green", number, number), frame=None) for number in (1, 2))
    guide = arrival("guide", 2, 3)
    arrive(board, disk, first, second, guide)
    told = board.flights(NIGHT)
    assert [f.arrivals for f in told] == [(first,), (second, guide)]
    assert [key_of(INSTRUMENT, f) for f in told] == [first.path, second.path]
    assert [name_of(INSTRUMENT, NIGHT, f).first for f in told] == ["green_1.fits", "green_2.fits"]
    for flight in told:
        board.close(NIGHT, flight)
    again = replace(second, at=T0 + 900 * SECOND)
    arrive(board, disk, again)
    ((flight, fresh),) = board.decide(NIGHT, {}, LATER).late
    assert (flight.arrivals[0], flight.origins, fresh) == (again, ("green", "guide"), ("green",))


def test_of_a_thousand_exposures_only_those_in_flight_are_kept_and_none_is_read_again(board, disk):
    for number in range(1000):
        arrive(board, disk, *(arrival(name, number, 60 * number) for name in (*CAMERAS, "guide")))
        (flight,) = board.decide(NIGHT, {}, T0).ready
        board.close(NIGHT, flight)
    night = board._nights[NIGHT]
    assert (len(night.arrivals), len(night.assembled), len(night.told), len(night.done)) == (0, 0, 0, 1000)
    assert disk.reads == 0


def test_a_whole_night_at_once_is_sorted_by_looking_at_what_can_share_time_only():
    """Each with each would be a million comparisons."""

    class Counting(Candidate):
        compared = 0

        def shared_with(self, begin: int, end: int) -> int | None:
            Counting.compared += 1
            return super().shared_with(begin, end)

    files = [arrival(name, number, 0) for number in range(1000) for name in ("green", "guide")]
    counting = [
        replace(a, times=Counting(source="guide", origin="guide", begin=a.times.begin, end=a.times.end)) if a.origin == "guide" else a
        for a in files
    ]
    told = sort_arrivals(INSTRUMENT, counting)
    assert {len(f.arrivals) for f in told.flights} == {2}
    assert Counting.compared < 3000
