"""The script of a rehearsal: what it does is what it says, and a watcher that sees only the files agrees with what is expected."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.instants import SECOND
from assembler.core.rehearsal import TROUBLES, Recording, write_script
from assembler.core.writers import write_growing, write_hidden

ORIGINS = ("ca", "green", "red", "guide")
LOST = {"too-late", "never", "truncated", "dies"}
BEGIN = 1_713_772_800 * SECOND
MINUTE = dict.fromkeys(ORIGINS, 60 * SECOND)


def content(recording: Recording) -> bytes:
    """Return bytes that no other recording has, and no zeros."""
    return bytes(random.Random(recording.path).choices(range(1, 256), k=recording.size))


def exposure(number: int, origins=ORIGINS, size: int = 9000) -> list[Recording]:
    begin = BEGIN + number * 45 * SECOND
    end = begin + 30 * SECOND
    made = [
        Recording(origin=o, path=f"{o}/{o}_{number}.fits", frame=number, begin=begin, end=end, size=size, changeable=5)
        for o in origins
        if o != "guide"
    ]
    if "guide" in origins:
        cube = f"guide/cube_{7 * number}.fits"
        made.append(Recording(origin="guide", path=cube, frame=None, begin=begin - SECOND, end=end + SECOND // 5, size=size, by_time=True))
    return made


@st.composite
def nights(draw) -> list[Recording]:
    sets = draw(st.lists(st.sets(st.sampled_from(ORIGINS), min_size=1), min_size=1, max_size=6))
    recordings = [r for number, origins in enumerate(sets) for r in exposure(number, origins)]
    sizes = draw(st.lists(st.integers(12, 20_000), min_size=len(recordings), max_size=len(recordings)))
    return [replace(r, size=size) for r, size in zip(recordings, sizes, strict=True)]


DEADLINES = st.fixed_dictionaries({name: st.integers(SECOND // 100, 100 * SECOND) for name in ORIGINS})
SCRIPTS = st.tuples(nights(), st.integers(0, 2**32), DEADLINES, st.floats(0, 1))


def written(night, seed, deadlines, share):
    return write_script(night, random.Random(seed), deadlines=deadlines, trouble=share)


class Disk:
    """Does the steps in memory; remembers of each final name when there was what, closed or not."""

    def __init__(self, script, night) -> None:
        self.files: dict[str, bytearray] = {}
        self.open: set[str] = set()
        self.seen: dict[str, list[tuple[int, bytes | None]]] = {}
        sources = {r.path: content(r) for r in night}
        for step in script.steps:
            self.do(step, sources)

    def do(self, step, sources) -> None:
        path = step.path
        if step.action == "create":
            assert path not in self.files
        if step.action in ("create", "reopen"):
            assert path not in self.open
            self.files[path] = bytearray()
            self.open.add(path)
        elif step.action == "write":
            assert path in self.open
            part = bytearray(sources[step.source][step.offset : step.offset + step.length])
            assert len(part) == step.length > 0
            if step.changed is not None:
                part[step.changed - step.offset] ^= 1
            self.files[path][step.offset : step.offset + step.length] = part
        elif step.action == "truncate":
            self.files[path] = self.files[path][: step.length].ljust(step.length, b"\0")
        elif step.action == "rename":
            assert path not in self.open
            path = step.to
            self.files[path] = self.files.pop(step.path)
        else:
            self.open.remove(path)
        if not path.rpartition("/")[2].startswith("."):
            self.seen.setdefault(path, []).append((step.at, None if path in self.open else bytes(self.files[path])))


def watch(files: dict[str, Recording], disk: Disk, deadlines) -> tuple[int, dict[str, str], set[str]]:
    """Return what a watcher makes of one exposure: how many versions, who is in the newest, and who is not in the first."""

    def has(origin: str, at: int) -> bytes | None:
        there = [what for when, what in disk.seen.get(files[origin].path, []) if when <= at]
        return there[-1] if there and there[-1] is not None and len(there[-1]) == files[origin].size else None

    appeared = [disk.seen[r.path][0][0] for r in files.values() if r.path in disk.seen]
    if not appeared:
        return 0, {}, set()
    limits = {origin: min(appeared) + deadlines[origin] for origin in files}
    moments = sorted({*limits.values(), *(at for r in files.values() for at, _ in disk.seen.get(r.path, []))})
    versions: list[dict[str, bytes]] = []
    for at in moments:
        now = {origin: what for origin in files if (what := has(origin, at)) is not None}
        if not versions and now and all(origin in now or at >= limits[origin] for origin in files):
            versions.append(now)
        elif versions and any(versions[-1].get(origin) != what for origin, what in now.items()):
            versions.append(versions[-1] | now)
    if not versions:
        return 0, {}, set()
    return len(versions), {origin: files[origin].path for origin in versions[-1]}, set(files) - set(versions[0])


@given(SCRIPTS)
def test_a_watcher_that_sees_only_the_files_agrees_with_what_is_expected(given_script):
    night, _, deadlines, _ = given_script
    script = written(*given_script)
    disk = Disk(script, night)
    told = {e.frame: e for e in script.expectations if e.frame is not None}
    orphans = {path for e in script.expectations if e.state == "orphan" for path in e.files.values()}
    for number in range(6):
        files = {r.origin: r for r in night if r.path.endswith((f"_{number}.fits", f"cube_{7 * number}.fits"))}
        if not any(not r.by_time for r in files.values()) or not any(r.path in disk.seen for r in files.values() if not r.by_time):
            assert number not in told
            assert {r.path for r in files.values()} & disk.seen.keys() <= orphans
            continue
        versions, newest, lacked = watch(files, disk, deadlines)
        expected = told[number]
        assert (versions > 1, newest) == (expected.state == "superseded", expected.files)
        assert versions <= 1 + len(expected.late)
        assert set(expected.missing) == set(files) - set(newest)
        assert (expected.state == "partial") == (bool(expected.missing) and not expected.late)
        assert lacked == set(expected.missing) | {o for o, reason in expected.late.items() if reason != "changed"}


@given(SCRIPTS)
def test_every_byte_of_every_untroubled_sub_fits_arrives(given_script):
    night = given_script[0]
    script = written(*given_script)
    disk = Disk(script, night)
    troubled = {path for e in script.expectations if e.trouble for path in e.files.values()}
    about = {e.frame for e in script.expectations if e.trouble}
    for recording in night:
        lost = any(e.trouble in LOST | {"stray"} for e in script.expectations)
        if recording.path not in disk.files:
            assert lost
        elif recording.path not in troubled and recording.frame not in about and not recording.by_time:
            assert bytes(disk.files[recording.path]) == content(recording)
    assert disk.open == set()
    whole = {path for e in script.expectations for path in e.files.values()}
    changed = {e.files[e.origin] for e in script.expectations if e.trouble == "again-other"}
    for recording in night:
        if recording.path in whole:
            differing = sum(a != b for a, b in zip(disk.files[recording.path], content(recording), strict=True))
            assert differing == (recording.path in changed)


@given(SCRIPTS)
def test_the_same_seed_gives_the_same_script_in_whatever_order_the_night_is_listed(given_script):
    night, seed, deadlines, share = given_script
    shuffled = random.Random(0).sample(night, len(night))
    assert written(*given_script) == written(shuffled, seed, deadlines, share)


@given(SCRIPTS)
def test_no_step_is_before_its_time(given_script):
    night = given_script[0]
    script = written(*given_script)
    ends = {r.path: r.end for r in night}
    assert [s.at for s in script.steps] == sorted(s.at for s in script.steps)
    of = {step.path: step.to for step in script.steps if step.action == "rename"}
    for step in script.steps:
        final = step.to or of.get(step.path, step.path)
        if final in ends:
            assert script.start + step.at >= ends[final]


@given(SCRIPTS)
def test_no_part_of_a_file_could_be_taken_for_a_shorter_fits_file(given_script):
    script = written(*given_script)
    sizes = {r.path: r.size for r in given_script[0]}
    for step in script.steps:
        if step.action == "write" and step.offset + step.length != sizes[step.source]:
            assert (step.offset + step.length) % 2880
            assert step.offset + step.length >= 10


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_as_many_exposures_are_in_trouble_as_was_asked_for_and_no_kind_is_left_out(seed, share):
    night = [r for number in range(40) for r in exposure(number, size=100)]
    script = written(night, seed, MINUTE, share)
    kinds = Counter(e.trouble for e in script.expectations if e.trouble)
    assert kinds.total() == round(share * 40)
    assert kinds.total() < len(TROUBLES) or set(kinds) == set(TROUBLES)
    assert len(script.expectations) == 40


@pytest.mark.parametrize("kind", TROUBLES)
def test_each_trouble_ends_in_its_state(kind):
    states = {"never": "partial", "truncated": "partial", "dies": "partial", "too-late": "superseded", "again-other": "superseded"}
    night = [r for number in range(40) for r in exposure(number)]
    script = written(night, 1, MINUTE, 1.0)
    found = [e for e in script.expectations if e.trouble == kind]
    assert {e.state for e in found} == {states.get(kind, "orphan" if kind == "stray" else "published")}
    reasons = {reason for e in found for reason in (e.missing | e.late).values()}
    assert reasons <= {"again-other": {"changed"}, "truncated": {"truncated"}, "dies": {"absent", "truncated"}}.get(kind, {"absent"})


def test_an_exposure_of_one_sub_fits_loses_it_never():
    night = [r for number in range(60) for r in exposure(number, ("red",))]
    script = written(night, 5, MINUTE, 1.0)
    assert {e.state for e in script.expectations} == {"published", "superseded"}
    assert not {e.trouble for e in script.expectations} & (LOST | {"stray"})


def test_what_the_recorded_night_lacks_is_expected_to_be_missing_where_it_is_awaited():
    script = write_script(exposure(1, ("red", "guide")), random.Random(1), deadlines=MINUTE, awaited={1: frozenset({"red", "green"})})
    (expected,) = script.expectations
    assert (expected.state, expected.missing) == ("partial", {"green": "absent"})
    assert set(expected.files) == {"red", "guide"}


def test_what_is_broken_in_the_recorded_night_is_played_as_it_is_and_has_no_trouble_on_top():
    night = [replace(r, reason="truncated") if r.origin == "red" else r for r in exposure(1)]
    (expected,) = written(night, 1, MINUTE, 1.0).expectations
    assert (expected.state, expected.missing, expected.trouble) == ("partial", {"red": "truncated"}, "")
    (alone,) = written([replace(r, reason="unreadable") for r in exposure(1, ("red",))], 1, MINUTE, 0.0).expectations
    assert (alone.state, alone.missing, alone.files) == ("failed", {"red": "unreadable"}, {})


def test_a_sub_fits_without_frame_or_of_nobody_s_time_is_an_orphan():
    cube = replace(exposure(5)[-1], begin=BEGIN + 5000 * SECOND, end=BEGIN + 5010 * SECOND)
    nameless = replace(exposure(1, ("red",))[0], path="red/x.fits", frame=None)
    script = written([*exposure(1), cube, nameless], 1, MINUTE, 0.0)
    assert [(e.state, dict(e.files)) for e in script.expectations][1:] == [
        ("orphan", {"red": "red/x.fits"}),
        ("orphan", {"guide": cube.path}),
    ]


def test_an_exposure_that_tells_no_time_comes_after_the_one_before():
    night = [*exposure(1), *(replace(r, begin=None, end=None) for r in exposure(2, ("red",)))]
    script = written(night, 1, MINUTE, 0.0)
    assert [e.state for e in script.expectations] == ["published", "published"]
    assert min(s.at for s in script.steps if "_2.fits" in s.path) > 30 * SECOND


@given(st.integers(0, 2**32), st.integers(12, 9000))
def test_a_part_of_a_file_that_has_to_tell_its_exposure_itself_does(seed, telling):
    """Cut before its header ends, nobody could say whose it is."""
    night = [replace(r, telling=telling) if r.by_time else r for r in (e for n in range(30) for e in exposure(n))]
    script = written(night, seed, MINUTE, 1.0)
    disk = Disk(script, night)
    for expected in script.expectations:
        if expected.missing.get("guide") == "truncated":
            assert telling <= len(disk.files[f"guide/cube_{7 * expected.frame}.fits"]) < 9000


def test_nothing_is_played_of_nothing():
    assert written([], 1, MINUTE, 0.5).steps == ()


@pytest.mark.parametrize("way", [write_growing, write_hidden])
@pytest.mark.parametrize("size", [0, 1, 10, 12, 2881])
def test_a_file_of_any_size_is_written_whole(way, size):
    writing = way("a/b", size, random.Random(1), (0, 100))
    pieces = sorted((s.offset, s.offset + s.length) for s in writing.steps if s.action == "write")
    assert [0, *(end for _, end in pieces)][-1] == size
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
