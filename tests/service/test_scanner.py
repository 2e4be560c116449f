"""Where sub-FITS are looked for: nothing is missed, nothing else is taken for a night, and old nights cost little."""

import os
import shutil
from pathlib import Path

import pytest

from assembler.service.scanner import Scanner

FOLDERS = ("Green", "Red", "CaHK", "ExpMeter", "CRED2")


def put(night: Path, *frames: int) -> list[str]:
    """Make sub-FITS of green, as far as a scan sees."""
    paths = [night / "Green" / f"kpf_{frame}.fits" for frame in frames]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [str(path) for path in paths]


def age(night: Path, seconds: int) -> None:
    """Make it look as if the last file of a night had been made at an instant [s]."""
    os.utime(night / "Green", (seconds, seconds))


def told(scanner: Scanner) -> dict[str, list[str]]:
    return {os.path.basename(night): [one.path for one in spotted] for night, spotted in scanner.scan()}


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def scanner(kpf, root) -> Scanner:
    return Scanner(kpf, root, root / "L0")


@pytest.fixture
def nights(root) -> list[Path]:
    """Make six nights, the last of which is the newest."""
    found = [root / f"2024apr{day}" for day in range(20, 26)]
    for place, night in enumerate(found):
        put(night, 10 * place)
        age(night, 1000 + place)
    return found


def test_the_directory_of_a_night_is_told_from_one_with_a_directory_for_each(kpf, tmp_path):
    paths = put(tmp_path / "root" / "night", 1, 2)
    for place in ("root", "root/night"):
        scanner = Scanner(kpf, tmp_path / place, tmp_path / "out")
        assert told(scanner) == {"night": paths}
        assert scanner.nights() == scanner.nights_there() == (str(tmp_path / "root" / "night"),)


@pytest.mark.parametrize("is_root", [False, True])
def test_it_is_told_by_the_first_files_even_if_the_cameras_made_their_directories_before(scanner, root, is_root):
    for folder in FOLDERS:
        (root / "2024apr21" / folder if is_root else root / folder).mkdir(parents=True)
    for _ in range(3):
        assert not any(told(scanner).values())
    paths = put(root / "2024apr21" if is_root else root, 1)
    assert [path for found in told(scanner).values() for path in found] == paths
    assert scanner.nights() == ((str(root / "2024apr21"),) if is_root else (str(root),))


def test_a_new_night_is_picked_up_and_is_the_first(scanner, nights, root):
    told(scanner)
    paths = put(root / "2024apr30", 99)
    assert told(scanner)["2024apr30"] == paths
    assert scanner.nights()[0] == str(root / "2024apr30")
    assert len(scanner.nights()) == 3
    assert set(scanner.nights_there()) == {*map(str, nights), str(root / "2024apr30")}


def test_at_the_start_all_nights_are_told_the_newest_first(scanner, nights):
    assert [night for night, _ in scanner.scan()] == [str(night) for night in reversed(nights)]
    assert scanner.nights() == tuple(str(night) for night in reversed(nights[-3:]))


def test_of_the_other_nights_one_is_scanned_each_time_and_told_once_when_its_names_have_changed(scanner, nights):
    told(scanner)
    newest = {night.name for night in nights[-3:]}
    assert set(told(scanner)) == newest
    for night in nights[:2]:
        put(night, 777)
    rounds = [set(told(scanner)) - newest for _ in range(9)]
    assert sorted(name for found in rounds for name in found) == [night.name for night in nights[:2]]
    assert max(map(len, rounds)) == 1
    assert all(rounds.index({night.name}) < len(nights) - 3 for night in nights[:2])


def test_a_night_in_which_something_happened_is_active_and_the_one_that_was_quiet_longest_is_not(scanner, nights):
    told(scanner)
    scanner.touch(str(nights[0]))
    assert scanner.nights() == tuple(str(night) for night in (nights[0], nights[5], nights[4]))
    assert nights[0].name in told(scanner)
    assert sorted(scanner.nights_there()) == sorted(map(str, nights))
    put(nights[3], 778)
    assert sum(nights[3].name in told(scanner) for _ in range(6)) == 1


def test_a_night_that_is_removed_is_forgotten_and_told_anew_when_it_is_back(scanner, nights):
    told(scanner)
    shutil.rmtree(nights[5])
    assert nights[5].name not in told(scanner)
    assert str(nights[5]) not in scanner.nights_there()
    paths = put(nights[5], 50)
    assert told(scanner)[nights[5].name] == paths


def test_output_superseded_and_hidden_directories_and_files_are_no_nights(scanner, root):
    for name in ("L0", "superseded", ".snapshot"):
        put(root / name, 1)
    (root / "notes.txt").touch()
    paths = put(root / "2024apr21", 1)
    for _ in range(3):
        assert told(scanner) == {"2024apr21": paths}


def test_a_name_tells_its_origin_and_its_frame_and_others_are_passed_over(scanner, root):
    put(root, 215921)
    (root / "CRED2").mkdir()
    for name in ("CRED2/kpfguide_cube_13570.fits", "CRED2/.kpfguide_cube_1.fits", "Green/kpf_1.fits.part", "Green/readme"):
        (root / name).touch()
    ((night, spotted),) = scanner.scan()
    assert night == str(root)
    assert {(one.origin, one.frame, os.path.basename(one.path)) for one in spotted} == {
        ("green", 215921, "kpf_215921.fits"),
        ("guide", None, "kpfguide_cube_13570.fits"),
    }
    assert {one.night for one in spotted} == {str(root)}


def test_a_place_that_is_empty_is_there_but_not_where_a_file_system_was_mounted_before(scanner, root, tmp_path):
    """A link stands for the mount point, so that another device may be below the same name."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == root.stat().st_dev:
        pytest.skip("there is no second file system")
    link = tmp_path / "place"
    link.symlink_to(root)
    scanner.place = str(link)
    assert scanner.is_there()
    put(root, 1)
    assert scanner.is_there()
    unmounted = elsewhere / f"unmounted-{os.getpid()}"
    unmounted.mkdir()
    try:
        link.unlink()
        assert not scanner.is_there()
        link.symlink_to(unmounted)
        assert not scanner.is_there()
        (unmounted / "now").touch()
        assert scanner.is_there()
    finally:
        shutil.rmtree(unmounted)


def test_a_path_is_found_by_its_directory_and_only_in_a_night(kpf, scanner, root, nights):
    green = kpf.origin("green")
    (path,) = put(nights[0], 4711)
    assert scanner.find(green, path).frame == 4711
    assert scanner.find(green, path).night == str(nights[0])
    assert scanner.find(green, path.replace("4711", "4712")) is None
    assert scanner.find(kpf.origin("red"), path) is None
    for stranger in (put(root / "L0", 1), put(root / ".hidden", 1), put(root / "deep" / "er", 1), put(root.parent / "beside", 1)):
        assert scanner.find(green, *stranger) is None


def test_below_a_night_there_is_no_other_night(kpf, scanner, root):
    (path,), (below,) = put(root, 1), put(root / "2024apr21", 2)
    told(scanner)
    assert scanner.find(kpf.origin("green"), path)
    assert scanner.find(kpf.origin("green"), below) is None


def test_changes_are_to_be_told_of_the_directories_of_the_active_nights_and_of_the_place(scanner, root, nights):
    told(scanner)
    active = [str(night) for night in nights[-3:]]
    assert set(scanner.directories()) == {str(root), *active, *(f"{night}/{folder}" for night in active for folder in FOLDERS)}
