"""What is chosen of a night: by whatever options together, what each of them says on its own, exposure by exposure."""

import datetime as dt
import json
from itertools import pairwise

import kpf_night
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assembler.core.choice import Choice, read_frames
from assembler.core.exposure import Missing
from assembler.core.shards import Shard
from assembler.service.survey import Stray, Survey, Task, choose

NIGHT = "/data/2024apr21"
ORIGINS = ("green", "red", "guide")
FRAMES = st.integers(0, 30)
INSTANTS = st.integers(0, 50)


@st.composite
def surveys(draw) -> Survey:
    """Make a night: each number is one exposure at most, delivered by anybody, whole or broken, at any time, or at none that is known."""
    frames = sorted(draw(st.sets(FRAMES)))
    tasks = []
    for frame in [*frames, *[None] * draw(st.integers(0, 2))]:
        whole, broken = draw(st.sets(st.sampled_from(ORIGINS), min_size=1)), draw(st.sets(st.sampled_from(ORIGINS)))
        name = f"x_{len(tasks)}.fits"
        paths = tuple((origin, f"{NIGHT}/{origin}/{name}") for origin in sorted(whole))
        missing = tuple(Missing(origin=origin, reason="truncated", message=f"{origin}: is broken") for origin in sorted(broken - whole))
        tasks.append(Task(night=NIGHT, frame=frame, first=name, paths=paths, missing=missing, begin=draw(st.none() | INSTANTS)))
    strays = [
        Stray(origin=origin, path=f"{NIGHT}/{origin}/s_{number}.fits", reason="it is alone", frame=frame, begin=begin)
        for number, (origin, frame, begin) in enumerate(
            draw(st.lists(st.tuples(st.sampled_from(ORIGINS), st.none() | FRAMES, st.none() | INSTANTS), max_size=4))
        )
    ]
    gaps = tuple((a + 1, b - 1) for a, b in pairwise(frames) if b > a + 1)
    return Survey(night=NIGHT, tasks=tuple(tasks), strays=tuple(strays), gaps=gaps)


@st.composite
def frame_lists(draw) -> tuple[str, set[int]]:
    """Make what --frames may be told, in any order, with anything twice, and the numbers that it means."""
    ranges = draw(st.lists(st.tuples(FRAMES, st.integers(0, 8)), min_size=1, max_size=4))
    told = [f"{first}" if not more else f"{first}-{first + more}" for first, more in ranges]
    return ",".join(told), {frame for first, more in ranges for frame in range(first, first + more + 1)}


@given(surveys(), st.none() | frame_lists(), st.none() | INSTANTS, st.none() | INSTANTS, st.sets(st.sampled_from(ORIGINS)))
def test_what_is_chosen_is_what_each_option_says_on_its_own(survey, frames, since, until, origins):
    wanted = frames[1] if frames else None
    choice = Choice(frames=read_frames(frames[0]) if frames else (), since=since, until=until, origins=frozenset(origins))
    chosen = choose(survey, choice)

    def is_then(begin: int) -> bool:
        return (since is None or begin >= since) and (until is None or begin < until)

    by_time = since is not None or until is not None
    expected, undated = [], []
    for task in survey.tasks:
        delivered = {origin for origin, _ in task.paths} | {lost.origin for lost in task.missing}
        if (wanted is None or task.frame in wanted) and (not origins or origins & delivered):
            if by_time and task.begin is None:
                undated.append(task.label)
            elif not by_time or is_then(task.begin):
                expected.append(task)
    assert list(chosen.tasks) == expected
    assert list(chosen.undated) == undated

    there = {task.frame for task in survey.tasks if task.frame is not None}
    then = [t.frame for t in survey.tasks if t.frame is not None and (not by_time or (t.begin is not None and is_then(t.begin)))]
    between = set(range(min(then), max(then) + 1)) - there if then else set()
    assert {frame for first, last in chosen.gaps for frame in range(first, last + 1)} == between & (wanted or between)
    assert all(first <= last for first, last in chosen.gaps)

    for stray in survey.strays:
        is_meant = wanted is None or stray.frame in wanted
        is_meant &= not origins or stray.origin in origins
        is_meant &= stray.begin is None or is_then(stray.begin)
        assert (stray in chosen.strays) == is_meant


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 40))
def test_an_exposure_is_in_one_shard_of_any_number(night, name, count):
    assert sum(Shard(number=number, count=count).has(night, name) for number in range(1, count + 1)) == 1


@pytest.fixture(scope="module")
def random_night(tmp_path_factory) -> kpf_night.Night:
    """Return a night of ten of which red and the guide camera have not delivered everything."""
    night = kpf_night.make_night(tmp_path_factory.mktemp("night"), exposures=10, shape=(4, 4))
    for number in (1, 4, 8):
        night.sub_fits(night.frames[number])["red"].unlink()
    for origin in ("green", "red", "ca_hk", "expmeter", "guide"):
        night.sub_fits(night.frames[6])[origin].unlink()
    return night


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    there=st.sets(st.integers(0, 9)),
    frames=st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted),
    since=st.none() | st.integers(0, 5),
    until=st.none() | st.integers(6, 10),
    origins=st.sets(st.sampled_from(["red", "guide"])),
    shard=st.none() | st.integers(1, 3),
    only_missing=st.booleans(),
)
def test_the_options_of_the_command_together_leave_out_what_any_of_them_does(
    random_night, call, tmp_path_factory, there, frames, since, until, origins, shard, only_missing
):
    night, out = random_night, tmp_path_factory.mktemp("out")
    if there:
        first = ",".join(str(night.frames[number]) for number in there)
        call("night", night.directory, "--out", out, "--frames", first, "--jobs", 1)
    begins = [night.exposure(frame).begin - dt.timedelta(seconds=5) for frame in night.frames]
    begins.append(begins[-1] + dt.timedelta(hours=1))
    words = ["--frames", "-".join(str(night.frames[number]) for number in frames)] if frames else []
    words += ["--since", f"{begins[since]:%Y-%m-%dT%H:%M:%S}"] if since is not None else []
    words += ["--until", f"{begins[until]:%Y-%m-%dT%H:%M:%S}"] if until is not None else []
    words += [word for origin in origins for word in ("--origin", origin)]
    words += ["--shard", f"{shard}/3"] if shard else []
    words += ["--only-missing"] if only_missing else []
    _, told, _ = call("night", night.directory, "--out", out, "--diff", "--json", "--jobs", 1, *words)
    expected = {}
    for number, frame in enumerate(night.frames):
        if number == 6 or (frames and not frames[0] <= number <= frames[1]):
            continue
        if number < (since or 0) or number >= (10 if until is None else until):
            continue
        if origins and not ("guide" in origins or number not in (1, 4, 8)):
            continue
        if (shard and not Shard(number=shard, count=3).has(night.directory.name, str(frame))) or (only_missing and number in there):
            continue
        expected[frame] = "same" if number in there else "new"
    (account,) = json.loads(told)["nights"]
    assert {one["frame"]: one["state"] for one in account["exposures"]} == expected
    assert account["summary"]["exposures"] == len(expected)
    low, high = since or 0, 9 if until is None else until - 1
    is_gap = low < 6 < high and (not frames or frames[0] <= 6 <= frames[1])
    assert account["gaps"] == ([[night.frames[6]] * 2] if is_gap else [])
