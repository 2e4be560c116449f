"""Finding: the right files of a frame, whoever else is in the directory."""

import shutil
from dataclasses import replace

import kpf_night
import pytest

from assembler.errors import ConfigurationError, InputError
from assembler.service.finder import find_given, find_night

NAMES = ["green", "red", "ca_hk", "expmeter", "guide"]


@pytest.fixture
def three(tmp_path) -> kpf_night.Night:
    return kpf_night.make_night(tmp_path / "three", exposures=3)


def test_each_frame_gets_its_own_files_and_the_guide_cube_of_its_time(kpf, three):
    for frame in three.frames:
        found = find_night(kpf, three.directory, frame)
        assert {n: s.path for n, s in found.subs.items()} == {n: str(p) for n, p in three.sub_fits(frame).items()}
        assert found.missing == ()
        assert found.exposure.frame == frame


def test_a_guide_cube_of_another_exposure_is_not_taken(kpf, three):
    three.sub_fits(three.frames[1])["guide"].unlink()
    found = find_night(kpf, three.directory, three.frames[1])
    assert sorted(found.subs) == sorted(set(NAMES) - {"guide"})
    assert [(m.origin, m.reason) for m in found.exposure.missing] == [("guide", "absent")]


def test_a_file_whose_header_names_another_frame_is_left_out(kpf, three):
    paths = [three.sub_fits(f)["red"] for f in three.frames]
    shutil.copy(paths[1], paths[0])
    found = find_night(kpf, three.directory, three.frames[0])
    (missing,) = found.exposure.missing
    assert (missing.origin, missing.reason) == ("red", "frame-differs")
    assert str(paths[0]) in missing.message


@pytest.mark.parametrize(("content", "reason"), [(b"", "truncated"), (b"no FITS at all", "unreadable"), (None, "truncated")])
def test_a_bad_file_costs_only_its_own_origin(kpf, night, content, reason):
    path = night.sub_fits(night.frames[0])["green"]
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    found = find_night(kpf, night.directory, night.frames[0])
    assert sorted(found.subs) == sorted(set(NAMES) - {"green"})
    assert [(m.origin, m.reason) for m in found.exposure.missing] == [("green", reason)]


def test_other_files_of_the_directory_are_no_matter(kpf, night):
    folder = night.sub_fits(night.frames[0])["green"].parent
    for name in (".kpf_215921.fits", "kpf_215921.fits.tmp", "kpf_x.fits", "notes.txt", "kpf_.fits", "kpf_99999999999999999999999.fits"):
        (folder / name).write_text("something else")
    (folder / "kpf_7.fits").mkdir()
    assert sorted(find_night(kpf, night.directory, night.frames[0]).subs) == sorted(NAMES)


def test_a_night_that_is_not_there_is_one_clear_error(kpf, tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        find_night(kpf, tmp_path / "nowhere", 1)


def test_a_frame_that_nobody_took_has_everybody_missing(kpf, night):
    found = find_night(kpf, night.directory, 1)
    assert not found.subs
    assert {m.origin for m in found.exposure.missing} == set(NAMES)


def test_given_files_are_told_apart_by_their_paths(kpf, night):
    paths = [str(p) for p in night.sub_fits(night.frames[0]).values()]
    assert sorted(find_given(kpf, reversed(paths)).subs) == sorted(NAMES)


def test_a_file_whose_name_tells_nothing_is_told_by_its_origin(kpf, night, tmp_path):
    other = tmp_path / "anything.fits"
    shutil.copy(night.sub_fits(night.frames[0])["red"], other)
    assert {n: s.path for n, s in find_given(kpf, [f"red={other}"]).subs.items()} == {"red": str(other)}
    with pytest.raises(ConfigurationError, match="ORIGIN=PATH"):
        find_given(kpf, [str(other)])
    with pytest.raises(ConfigurationError, match=r"has .* already"):
        find_given(kpf, [f"red={other}", f"red={other}"])


def test_a_pattern_without_the_frame_is_told_by_the_header(one, three):
    camera = replace(one.origins[0], files="Green/*.fits", frame="FRAMENO")
    instrument = replace(one, origins=(camera,))
    for frame in three.frames:
        assert find_night(instrument, three.directory, frame).subs["cam"].path == str(three.sub_fits(frame)["green"])
    assert not find_night(instrument, three.directory, 7).subs
