"""Finding over NFS: a name that somebody asked for too early hides nothing."""

from contextlib import suppress

from assembler.core.exposure import SubFits
from assembler.fits.complete import look
from assembler.service.finder import find_night, fitting_files
from assembler.service.scanner import Scanner


def test_a_name_that_was_asked_for_before_it_was_there_hides_no_file(one, sub_fits, mounts):
    (origin,) = one.origins
    path = mounts.b / "frame.fits"
    with suppress(FileNotFoundError):
        path.stat()
    assert look(str(path)).verdict == "absent"
    assert fitting_files(origin, mounts.b) == []
    sub_fits(mounts.a)
    assert fitting_files(origin, mounts.b) == [(str(path), None)]
    assert look(str(path)).verdict == "complete"


def test_a_frame_that_was_looked_for_too_early_is_found_when_it_is_there(kpf, night, mounts):
    frame = night.frames[0]
    paths = {name: path.relative_to(night.directory) for name, path in night.sub_fits(frame).items()}
    for path in paths.values():
        (mounts.a / path).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (mounts.b / path).stat()
    assert find_night(kpf, mounts.b, frame).subs == {}
    for name, path in paths.items():
        (mounts.a / path).write_bytes((night.directory / path).read_bytes())
        found: dict[str, SubFits] = dict(find_night(kpf, mounts.b, frame).subs)
        assert name in found or name in ("ca_hk", "guide")
    assert set(find_night(kpf, mounts.b, frame).subs) == set(paths)


def test_a_night_whose_directory_comes_later_is_found(kpf, night, mounts):
    (mounts.a / "kpf").mkdir()
    there = mounts.b / "kpf" / "Green"
    with suppress(FileNotFoundError):
        there.stat()
    assert find_night(kpf, mounts.b / "kpf", night.frames[0]).subs == {}
    green = night.sub_fits(night.frames[0])["green"]
    (mounts.a / "kpf" / "Green").mkdir()
    (mounts.a / "kpf" / "Green" / green.name).write_bytes(green.read_bytes())
    assert list(find_night(kpf, mounts.b / "kpf", night.frames[0]).subs) == ["green"]


def test_a_place_that_was_watched_before_it_was_there_is_there_at_once(kpf, mounts):
    scanner = Scanner(kpf, mounts.b / "kpf" / "2024apr21", mounts.b / "out")
    assert not scanner.is_there()
    (mounts.a / "kpf" / "2024apr21").mkdir(parents=True)
    assert scanner.is_there()
