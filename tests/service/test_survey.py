"""The exposures of a night that is over: put together as one by one, and as they are when they come in any order."""

import random
import time

import kpf_night
import pytest

from assembler.core.choice import Choice
from assembler.core.instants import SECOND, from_unix
from assembler.core.rehearsal import write_script
from assembler.errors import InputError
from assembler.service.finder import find_night
from assembler.service.simulator import play, prepare_target, read_recordings
from assembler.service.survey import choose, survey_night


@pytest.mark.parametrize("seed", range(3))
def test_a_night_with_trouble_is_put_together_as_frame_by_frame(kpf, tmp_path, seed):
    recorded = kpf_night.make_night(tmp_path / "recorded", exposures=20, shape=(4, 4))
    minute = dict.fromkeys(kpf_night.PATHS, 60 * SECOND)
    recordings = read_recordings(kpf, recorded.directory)
    script = write_script(recordings, random.Random(seed), deadlines=minute, trust=kpf.exposure.trust, trouble=1.0)
    target = prepare_target(recorded.directory, tmp_path / "played", script)
    play(script, recorded.directory, target, clock=time.monotonic, sleep=time.sleep, speed=float("inf"))
    survey = survey_night(kpf, target)
    for task in survey.tasks:
        found = find_night(kpf, target, task.frame)
        assert {origin: sub.path for origin, sub in found.subs.items()} == dict(task.paths)
        assert {(m.origin, m.reason) for m in found.missing} == {(m.origin, m.reason) for m in task.missing}
    expected = {e.frame: set(e.files) for e in script.expectations if e.frame is not None and e.files}
    assert {task.frame: {origin for origin, _ in task.paths} for task in survey.tasks} == expected
    strays = {str(target / path) for e in script.expectations if e.state == "orphan" for path in e.files.values()}
    assert strays <= {stray.path for stray in survey.strays}


def test_frames_that_nobody_has_are_gaps_and_broken_files_of_no_exposure_are_strays(kpf, tmp_path):
    night = kpf_night.make_night(tmp_path, exposures=5, shape=(4, 4))
    for path in night.sub_fits(night.frames[1]).values():
        path.unlink()
    for path in night.sub_fits(night.frames[2]).values():
        path.write_bytes(path.read_bytes()[:4000])
    survey = survey_night(kpf, night.directory)
    assert [task.frame for task in survey.tasks] == [night.frames[0], night.frames[3], night.frames[4]]
    assert survey.gaps == ((night.frames[1], night.frames[2]),)
    assert {stray.path for stray in survey.strays} == {str(path) for path in night.sub_fits(night.frames[2]).values()}


def test_a_night_that_is_not_there_is_one_clear_error(kpf, tmp_path):
    with pytest.raises(InputError, match="there is no such directory"):
        survey_night(kpf, tmp_path / "nowhere")


def begin_of(night: kpf_night.Night, number: int) -> int:
    """Return when an exposure begins as the file tells that is trusted most [ns], give or take a second."""
    return from_unix(night.exposure(night.frames[number]).begin.timestamp())


def test_a_choice_by_time_takes_what_began_then_and_the_gaps_and_strays_of_that_time(kpf, tmp_path):
    night = kpf_night.make_night(tmp_path, exposures=9, shape=(4, 4))
    for lost in (1, 5):  # of which the guide camera's, which tells no frame, is left: a stray
        for origin, path in night.sub_fits(night.frames[lost]).items():
            if origin != "guide":
                path.unlink()
    survey = survey_night(kpf, night.directory)
    assert all(task.begin is not None for task in survey.tasks)
    chosen = choose(survey, Choice(since=begin_of(night, 4) - 5 * SECOND, until=begin_of(night, 7) - 5 * SECOND))
    assert [task.frame for task in chosen.tasks] == [night.frames[4], night.frames[6]]
    assert chosen.gaps == ((night.frames[5], night.frames[5]),)
    assert [stray.path for stray in chosen.strays] == [str(night.sub_fits(night.frames[5])["guide"])]
    assert chosen.undated == ()


def test_a_choice_by_frame_leaves_out_the_gaps_and_strays_of_others(kpf, tmp_path):
    night = kpf_night.make_night(tmp_path, exposures=6, shape=(4, 4))
    for lost in (1, 2, 3):
        for path in night.sub_fits(night.frames[lost]).values():
            path.write_bytes(path.read_bytes()[:4000])
    survey = survey_night(kpf, night.directory)
    chosen = choose(survey, Choice(frames=((night.frames[2], night.frames[4]),)))
    assert [task.frame for task in chosen.tasks] == [night.frames[4]]
    assert chosen.gaps == ((night.frames[2], night.frames[3]),)
    assert {stray.frame for stray in chosen.strays} == {night.frames[2], night.frames[3]}


def test_a_choice_by_origin_takes_exposures_with_a_sub_fits_of_it_be_it_broken(kpf, tmp_path):
    night = kpf_night.make_night(tmp_path, exposures=4, shape=(4, 4))
    night.sub_fits(night.frames[0])["red"].unlink()
    broken = night.sub_fits(night.frames[1])["red"]
    broken.write_bytes(broken.read_bytes()[:4000])
    night.sub_fits(night.frames[3])["green"].unlink()
    survey = survey_night(kpf, night.directory)
    assert [task.frame for task in choose(survey, Choice(origins=frozenset({"red"}))).tasks] == list(night.frames[1:])
    assert [task.frame for task in choose(survey, Choice(origins=frozenset({"red", "green"}))).tasks] == list(night.frames)


def test_an_exposure_without_a_begin_is_left_out_of_a_choice_by_time_and_named(kpf, tmp_path):
    night = kpf_night.make_night(tmp_path, exposures=2, shape=(4, 4))
    for path in night.sub_fits(night.frames[1]).values():
        path.write_bytes(path.read_bytes().replace(b"DATE-BEG=", b"DATE-XXX="))
    survey = survey_night(kpf, night.directory)
    assert [task.begin is None for task in survey.tasks] == [False, True]
    assert choose(survey, Choice()).undated == ()
    chosen = choose(survey, Choice(since=0))
    assert [task.frame for task in chosen.tasks] == [night.frames[0]]
    assert chosen.undated == (str(night.frames[1]),)


def test_the_directory_of_an_origin_that_cannot_be_read_is_one_clear_error(kpf, tmp_path):
    """Or else all L0s of the night would be made, or superseded, without it."""
    night = kpf_night.make_night(tmp_path, exposures=1, shape=(4, 4))
    (night.directory / "Green").rename(tmp_path / "Green")
    (night.directory / "Green").symlink_to("Green")
    with pytest.raises(InputError, match="Green: cannot be read: Too many levels of symbolic links"):
        survey_night(kpf, night.directory)
    (night.directory / "Green").unlink()
    (task,) = survey_night(kpf, night.directory).tasks
    assert "green" not in task.origins
