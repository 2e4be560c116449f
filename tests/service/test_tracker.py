"""Sub-FITS as they come: settled when they are whole and stay so, never before, and noticed when they change again."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kpf_night
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.instants import SECOND
from assembler.fits.complete import Completeness, look
from assembler.service.scanner import Scanner, Spotted
from assembler.service.tracker import MOST_LOOKS, Tracker

T0 = 1_790_000_000 * SECOND
SETTLING = 3 * SECOND


class Files:
    """A night whose files have the modification times that a test gives them."""

    def __init__(self, directory: Path, exposures: int = 1) -> None:
        self.night = kpf_night.make_night(directory, exposures, shape=(4, 4))
        self.directory = self.night.directory
        self.contents = {path: path.read_bytes() for frame in self.night.frames for path in self.night.sub_fits(frame).values()}
        for path in self.contents:
            path.unlink()

    def path(self, origin: str = "green", number: int = 0) -> Path:
        return self.night.sub_fits(self.night.frames[number])[origin]

    def content(self, origin: str = "green", number: int = 0) -> bytes:
        return self.contents[self.path(origin, number)]

    def write(self, at: int, origin: str = "green", content: bytes | None = None, number: int = 0) -> Path:
        """Write a file as it is to be found at an instant [ns]."""
        path = self.path(origin, number)
        path.write_bytes(self.content(origin, number) if content is None else content)
        os.utime(path, ns=(at, at))
        return path


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def tracker(kpf) -> Tracker:
    return Tracker(kpf, SETTLING)


@pytest.fixture
def spot(kpf, files) -> Callable[[Tracker, int], None]:
    """Return what lets a tracker see what there is."""

    def spot_all(tracker: Tracker, now: int) -> None:
        for _, spotted in Scanner(kpf, files.directory, files.directory / "L0").scan():
            tracker.spot(spotted, now)

    return spot_all


def settled(tracker: Tracker, *instants: int) -> list[tuple[str, int | None, int]]:
    """Look at some instants, and return which files are settled, each with its frame and the instant."""
    return [(os.path.basename(a.path), a.frame, now) for now in instants for _, a in tracker.look_around(now)]


def looks_until(tracker: Tracker, last: int) -> list[tuple[str, int | None, int]]:
    """Look whenever it is time to, and return which files are settled, each with its frame and the instant."""
    told = []
    while (now := tracker.next_look()) is not None and now <= last:
        told += settled(tracker, now)
    return told


def test_a_file_that_stays_whole_for_the_settling_time_is_settled_then_and_told_once(files, tracker, spot):
    files.write(T0)
    spot(tracker, T0)
    assert looks_until(tracker, T0 + SETTLING - 1) == []
    assert tracker.following == 1
    assert looks_until(tracker, T0 + 100 * SECOND) == [("kpf_215921.fits", 215921, T0 + SETTLING)]
    assert (tracker.following, tracker.next_look()) == (0, None)
    spot(tracker, T0 + 200 * SECOND)
    assert settled(tracker, T0 + 200 * SECOND) == []
    assert tracker.is_settled(str(files.directory), str(files.path()))


def test_an_arrival_tells_origin_night_path_frame_and_times(files, tracker, spot):
    files.write(T0)
    files.write(T0, "guide")
    spot(tracker, T0)
    tracker.was_closed([str(files.path()), str(files.path("guide"))], T0)
    told = {arrival.origin: (night, arrival) for night, arrival in tracker.look_around(T0)}
    one = files.night.exposure(files.night.frames[0])
    assert {night for night, _ in told.values()} == {str(files.directory)}
    assert {origin: (a.path, a.frame, a.at) for origin, (_, a) in told.items()} == {
        "green": (str(files.path()), one.frame, T0),
        "guide": (str(files.path("guide")), None, T0),
    }
    assert told["green"][1].times.begin == round(one.begin.timestamp() * 1e6) * 1000


def test_a_file_that_grows_is_settled_after_its_last_change(files, tracker, spot):
    content = files.content()
    lengths = range(2880, len(content) + 2880, 2880)
    for number, length in enumerate(lengths):
        now = T0 + number * SECOND
        files.write(now, content=content[:length])
        spot(tracker, now)
        assert settled(tracker, now) == []
    assert looks_until(tracker, T0 + 1000 * SECOND) == [("kpf_215921.fits", 215921, now + SETTLING)]


def test_a_file_whose_space_is_reserved_is_not_settled_before_it_is_written(files, tracker, spot):
    files.write(T0, content=bytes(len(files.content())))
    spot(tracker, T0)
    assert looks_until(tracker, T0 + 50 * SECOND) == []
    files.write(T0 + 50 * SECOND)
    assert looks_until(tracker, tracker.next_look() + SETTLING)[0][2] >= T0 + 50 * SECOND + SETTLING


def test_a_file_that_is_renamed_into_place_is_settled_at_one_look_where_the_yaml_says_so(kpf, files, spot):
    renaming = replace(kpf, origins=tuple(replace(o, renamed=o.name == "green") for o in kpf.origins))
    tracker = Tracker(renaming, SETTLING)
    hidden = files.path().with_name(".kpf_215921.fits.part")
    hidden.write_bytes(files.content()[:2880])
    spot(tracker, T0)
    assert tracker.following == 0
    hidden.write_bytes(files.content())
    hidden.rename(files.path())
    files.write(T0, "red")
    spot(tracker, T0)
    assert settled(tracker, T0) == [("kpf_215921.fits", 215921, T0)]
    assert tracker.following == 1


def test_a_file_that_its_writer_closed_is_settled_at_once_and_looked_at_first(files, tracker, spot):
    files.write(T0)
    spot(tracker, T0)
    settled(tracker, T0)
    assert tracker.next_look() > T0 + 1
    tracker.was_closed([str(files.path()), "/somewhere/else.fits"], T0 + 1)
    assert tracker.next_look() == T0 + 1
    assert settled(tracker, T0 + 1) == [("kpf_215921.fits", 215921, T0 + 1)]


def test_that_a_file_was_closed_before_it_was_whole_says_nothing_of_later(files, tracker, spot):
    files.write(T0, content=files.content()[:-2880])
    spot(tracker, T0)
    tracker.was_closed([str(files.path())], T0)
    assert settled(tracker, T0) == []
    files.write(T0 + SECOND)
    assert settled(tracker, T0 + SECOND) == []
    assert looks_until(tracker, T0 + 100 * SECOND)[0][2] >= T0 + SECOND + SETTLING


def test_files_that_are_much_older_than_the_newest_of_their_night_are_settled_at_one_look(kpf, tmp_path, tracker):
    files = Files(tmp_path, exposures=3)
    scanner = Scanner(kpf, files.directory, tmp_path / "out")
    files.write(T0 - 100 * SECOND, "red", number=2)
    for number in (0, 1):
        files.write(T0 - (1000 - number) * SECOND, number=number)
    for _, spotted in scanner.scan():
        tracker.spot(spotted, T0)
    first, second, newest = files.night.frames
    assert [frame for _, frame, _ in settled(tracker, T0)] == [second]
    assert [(frame, now) for _, frame, now in looks_until(tracker, T0 + 100 * SECOND)] == [
        (first, T0 + SETTLING // 2),
        (newest, T0 + SETTLING),
    ]


def test_a_file_from_the_future_makes_no_other_one_old(kpf, tmp_path, tracker):
    files = Files(tmp_path, exposures=2)
    files.write(T0 + 10**6 * SECOND, "ca_hk")
    files.write(T0, number=1)
    for _, spotted in Scanner(kpf, files.directory, tmp_path / "out").scan():
        tracker.spot(spotted, T0)
    assert settled(tracker, T0, T0 + 1, T0 + SETTLING - 1) == []


def test_a_file_that_is_rewritten_after_it_was_settled_arrives_again(files, tracker, spot):
    files.write(T0)
    spot(tracker, T0)
    assert looks_until(tracker, T0 + SETTLING)
    before = tracker.signature(str(files.path()))
    for now in range(T0 + 10 * SECOND, T0 + 13 * SECOND, SECOND):
        tracker.check(now)
        assert tracker.following == 0
    content = bytearray(files.content())
    content[-2880] ^= 1
    files.write(T0 + 20 * SECOND, content=bytes(content))
    tracker.check(T0 + 21 * SECOND)
    assert tracker.signature(str(files.path())) is None
    assert looks_until(tracker, T0 + 100 * SECOND) == [("kpf_215921.fits", 215921, T0 + 24 * SECOND)]
    assert tracker.signature(str(files.path())) != before


def test_all_settled_files_are_checked_in_a_few_calls_and_one_that_was_closed_at_the_next(kpf, tmp_path):
    count = 2 * MOST_LOOKS + 50
    path = tmp_path / "Green"
    path.mkdir()
    tracker = Tracker(kpf, SETTLING)
    for frame in range(count):
        (path / f"kpf_{frame}.fits").touch()
        tracker.know(Spotted(night=str(tmp_path), origin="green", path=str(path / f"kpf_{frame}.fits"), frame=frame), None)
    for frame in range(0, count, 10):
        os.utime(path / f"kpf_{frame}.fits", ns=(T0, T0))
    tracker.was_closed([str(path / "kpf_0.fits")], T0)
    tracker.check(T0)
    assert not tracker.is_settled(str(tmp_path), str(path / "kpf_0.fits"))
    for _ in range(6):
        tracker.check(T0)
    assert tracker.following == count // 10


def test_what_the_journal_knows_is_not_new_unless_the_file_is_another_one(files, tracker, spot):
    path = files.write(T0)
    status = path.stat()
    one = Spotted(night=str(files.directory), origin="green", path=str(path), frame=215921)
    assert tracker.know(one, (status.st_size, status.st_mtime_ns, status.st_ino)) == tracker.know(one, None)
    spot(tracker, T0)
    tracker.check(T0)
    assert tracker.following == 0
    assert tracker.know(one, (1, 2, 3)) == (1, 2, 3)
    tracker.check(T0)
    assert tracker.following == 1
    assert tracker.know(Spotted(night="/n", origin="green", path="/n/gone.fits", frame=1), None) is None
    assert not tracker.is_settled("/n", "/n/gone.fits")


def test_a_file_that_is_removed_is_forgotten_and_is_new_when_it_is_back(files, tracker, spot):
    path = files.write(T0)
    spot(tracker, T0)
    settled(tracker, T0)
    path.unlink()
    assert looks_until(tracker, T0 + 100 * SECOND) == []
    assert tracker.following == 0
    files.write(T0 + 200 * SECOND)
    spot(tracker, T0 + 200 * SECOND)
    assert looks_until(tracker, T0 + 300 * SECOND) == [("kpf_215921.fits", 215921, T0 + 200 * SECOND + SETTLING)]
    path.unlink()
    tracker.check(T0 + 400 * SECOND)
    assert tracker.following == 0


def test_a_file_that_was_found_changed_is_followed_again_though_no_scan_tells_of_it(files, tracker, spot):
    files.write(T0)
    spot(tracker, T0)
    assert looks_until(tracker, T0 + SETTLING)
    tracker.forget(str(files.path()), T0 + 10 * SECOND)
    assert tracker.signature(str(files.path())) is None
    assert looks_until(tracker, T0 + 100 * SECOND) == [("kpf_215921.fits", 215921, T0 + 10 * SECOND + SETTLING)]


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [(b"SIMPLE  =  ", "truncated", "the file has 0"), (bytes(28800), "truncated", "zeros"), (b"no FITS" * 1000, "unreadable", "")],
    ids=["cut", "zeros", "no-fits"],
)
def test_a_file_that_nobody_goes_on_with_is_given_up_once_and_settled_all_the_same_when_it_is_whole_at_last(
    kpf, files, tracker, spot, content, reason, message
):
    files.write(T0, content=files.content()[:-2880] if reason == "truncated" and content[0] else content)
    spot(tracker, T0)
    wait = kpf.origin("green").readout + kpf.margin
    given_up = []
    for now in range(T0, T0 + 2 * wait, SECOND):
        assert settled(tracker, now) == []
        told = tracker.given_up(now)
        given_up += [(now, spotted.path, why) for spotted, why in told]
    ((when, path, why),) = given_up
    assert (when, path) == (T0 + wait, str(files.path()))
    assert message in why
    lost = tracker.unfinished(str(files.directory), kpf.origin("green"), 215921, None)
    assert (lost.origin, lost.reason) == ("green", reason)
    assert tracker.is_idle(str(files.directory))
    files.write(now)
    tracker.was_closed([str(files.path())], now)
    assert settled(tracker, now) == [("kpf_215921.fits", 215921, now)]


def test_a_file_that_goes_on_growing_is_not_given_up(kpf, files, tracker, spot):
    spot(tracker, T0)
    for number in range(400):
        now = T0 + number * SECOND
        files.write(now, content=files.content()[: 2880 + number])
        spot(tracker, now)
        tracker.look_around(now)
        assert tracker.given_up(now) == []
    assert not tracker.is_idle(str(files.directory))
    lost = tracker.unfinished(str(files.directory), kpf.origin("green"), 215921, None)
    assert (lost.origin, lost.reason) == ("green", "still-growing")


def test_why_an_origin_is_not_there_is_told_of_its_own_file_only(kpf, tmp_path, tracker):
    files = Files(tmp_path, exposures=2)
    for origin in ("green", "guide"):
        files.write(T0, origin, files.content(origin, 1)[:-2880], number=1)
    for _, spotted in Scanner(kpf, files.directory, tmp_path / "out").scan():
        tracker.spot(spotted, T0)
    tracker.look_around(T0)
    for number, frame in enumerate(files.night.frames):
        one = files.night.exposure(frame)
        interval = tuple(int(t.timestamp() * 1e9) for t in (one.begin, one.end))
        told = [tracker.unfinished(str(files.directory), kpf.origin(o), frame, interval) for o in ("green", "guide", "red")]
        assert [m and m.origin for m in told] == (["green", "guide", None] if number else [None] * 3)
    assert tracker.unfinished("/another/night", kpf.origin("green"), files.night.frames[1], None) is None


def test_so_many_files_are_looked_at_in_one_go_and_of_each_origin_by_turns(kpf):
    seen = []

    def note(path: str) -> Completeness:
        seen.append(path)
        return Completeness(path=path, verdict="growing", signature=(1, 2, 3))

    tracker = Tracker(kpf, SETTLING, note)
    origins = ("green", "red", "ca_hk", "expmeter", "guide")
    tracker.spot([Spotted(night="/n", origin=o, path=f"/n/{o}/{f:04}", frame=f) for o in origins for f in range(1000)], T0)
    tracker.look_around(T0)
    assert sorted(seen) == sorted(f"/n/{o}/{f:04}" for o in origins for f in range(MOST_LOOKS // len(origins)))
    tracker.look_around(T0 + 1)
    assert len(seen) == len(set(seen)) == 2 * MOST_LOOKS
    tracker.was_closed(["/n/red/0999"], T0 + 2)
    tracker.look_around(T0 + 2)
    assert seen[2 * MOST_LOOKS] == "/n/red/0999"


def test_however_many_files_old_nights_have_those_of_the_newest_night_come_first(kpf):
    seen = []

    def note(path: str) -> Completeness:
        seen.append(path)
        day = int(path.split("/")[1])
        return Completeness(path=path, verdict="complete", signature=(2880, T0 - day * 86_400 * SECOND, 1))

    tracker = Tracker(kpf, SETTLING, note)
    for day in range(1, 7):
        spotted = [Spotted(night=f"/{day}", origin=o, path=f"/{day}/{o}/{f:04}", frame=f) for o in ("green", "red") for f in range(500)]
        tracker.spot(spotted, T0)
    now = T0
    while len({path.split("/")[1] for path in seen}) < 6:
        now += 1
        tracker.look_around(now)
    assert len(seen) <= 6 * MOST_LOOKS
    seen.clear()
    tracker.spot([Spotted(night="/0", origin="green", path="/0/green/9999", frame=9999)], now + SECOND)
    tracker.look_around(now + SECOND)
    assert seen[0] == "/0/green/9999"
    assert {path.split("/")[1] for path in seen} == {"0", "1"}


def test_a_night_that_is_dropped_is_forgotten(files, tracker, spot):
    files.write(T0)
    spot(tracker, T0)
    assert not tracker.is_idle(str(files.directory))
    tracker.drop(str(files.directory))
    assert (tracker.following, tracker.next_look(), tracker.is_idle(str(files.directory))) == (0, None, True)
    spot(tracker, T0)
    assert tracker.following == 1


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Files:
    return Files(tmp_path_factory.mktemp("written"))


STEP = st.tuples(st.sampled_from(["append", "append", "reserve", "fill", "rewrite", "replace", "remove", "wait"]), st.floats(0, 1))


@given(steps=st.lists(st.tuples(STEP, st.integers(0, 4000)), max_size=12), every=st.integers(50, 2000))
def test_whatever_a_writer_does_nothing_is_settled_that_it_has_not_left_alone_and_at_the_end_the_final_file_is(kpf, written, steps, every):
    """A writer appends, reserves space, goes back, starts anew or replaces the file; looks come as often as they may."""
    content, path = written.content(), written.path()
    path.unlink(missing_ok=True)
    tracker = Tracker(kpf, SETTLING, look)
    scanner = Scanner(kpf, written.directory, written.directory / "L0")
    now, changed, known, last = T0, T0, {}, None

    def watch_until(end: int) -> None:
        nonlocal now, last
        while now < end:
            now = min(end, now + every * 10**6)
            for _, spotted in scanner.scan():
                tracker.spot(spotted, now)
            for _, arrival in tracker.look_around(now):
                last = Path(arrival.path).read_bytes()
                assert last == content or now - changed >= SETTLING
                assert known[tracker.signature(arrival.path)] == last
            tracker.check(now)

    def write(new: bytes | None) -> None:
        nonlocal changed, now
        now += 1
        changed = now
        if new is None:
            path.unlink(missing_ok=True)
            return
        path.write_bytes(new)
        os.utime(path, ns=(now, now))
        known[(len(new), now, path.stat().st_ino)] = new

    for (what, much), milliseconds in steps:
        there = path.read_bytes() if path.exists() else b""
        length = int(much * len(content))
        new = {
            "append": content[: max(len(there), length)],
            "reserve": there + bytes(max(0, len(content) - len(there))),
            "fill": content[:length] + bytes(len(content) - length),
            "rewrite": content[:length],
            "replace": content[:length] + content[length:].replace(b"\x01", b"\x02"),
            "remove": None,
        }
        if what in new:
            write(new[what])
        watch_until(now + milliseconds * 10**6)
    write(content)
    watch_until(now + 20 * SECOND + 4 * SETTLING)
    assert last == content
    assert tracker.is_settled(str(written.directory), str(path))
    assert tracker.following == 0
