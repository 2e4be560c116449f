"""What a watcher must not get wrong where it is used otherwise than at Keck: patterns without directories, links, wrong places."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import kpf_night
import pytest
from stepping import ORIGINS, Site
from watching import PATIENCE, Mounts, Watched, wait_for

from assembler.cli import run
from assembler.config import load_instrument
from assembler.core.candidates import Candidate
from assembler.core.instants import SECOND
from assembler.core.readiness import Arrival, Flight, deadline
from assembler.service.board import Board
from assembler.service.scanner import Scanner

ROOT = Path(__file__).resolve().parents[2]
FLAT = load_instrument(ROOT / "examples/lco.yaml")
"""An instrument with one camera, whose pattern has no directory."""


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Return what runs a command, and returns its exit code and what it tells."""

    def invoke(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["assembler", *map(str, words)])
        return run(), capsys.readouterr().err

    return invoke


def arrival(path: str, begin: int = 0, end: int = 60, at: int = 100) -> Arrival:
    """Return a sub-FITS of frame 7."""
    times = Candidate(source="sinistro", origin="sinistro", begin=begin * SECOND, end=end * SECOND)
    return Arrival(origin="sinistro", path=path, frame=7, times=times, at=at * SECOND)


def make(path: Path) -> Path:
    """Make an empty file, with its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(scanner: Scanner) -> set[str]:
    """Return the paths that a scan finds."""
    return {one.path for _, spotted in scanner.scan() for one in spotted}


def test_a_night_with_two_names_counts_once(tmp_path):
    mine = make(tmp_path / "root/20240101/a.fits")
    (tmp_path / "root/tonight").symlink_to("20240101")
    (tmp_path / "root/0").symlink_to(tmp_path / "root/20240101")
    (tmp_path / "root/archive").symlink_to(tmp_path / "out")
    make(tmp_path / "out/b.fits")
    assert found(Scanner(FLAT, tmp_path / "root", tmp_path / "out")) == {str(mine)}


def test_a_night_that_is_elsewhere_is_found_by_its_link(tmp_path):
    make(tmp_path / "disk/20240101/a.fits")
    (tmp_path / "root").mkdir()
    for name in ("20240101", "tonight"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "disk/20240101")
    assert found(Scanner(FLAT, tmp_path / "root", tmp_path / "out")) == {str(tmp_path / "root/20240101/a.fits")}


@pytest.mark.parametrize("first", ["root", "night"])
def test_files_that_make_the_place_something_else_are_told_once(tmp_path, first):
    night, root = tmp_path / "20240101", tmp_path
    make((root if first == "root" else night) / "astray.fits")
    scanner = Scanner(FLAT, root, tmp_path / "out")
    assert len(found(scanner)) == 1
    make((night if first == "root" else root) / "mine.fits")
    found(scanner)
    assert scanner.overlooked() == (str(night if first == "root" else root),)
    assert scanner.overlooked() == ()


@pytest.mark.parametrize("is_night", [True, False])
def test_what_the_place_is_may_be_told(tmp_path, is_night):
    mine, other = make(tmp_path / "a.fits"), make(tmp_path / "20240101/b.fits")
    scanner = Scanner(FLAT, tmp_path, tmp_path / "out", is_night)
    assert found(scanner) == {str(mine if is_night else other)}
    assert scanner.overlooked() == ()


@pytest.mark.parametrize("case", ["night", "link", "default"])
def test_l0s_are_not_written_where_they_would_be_taken_for_sub_fits(tmp_path, call, case):
    yaml = tmp_path / "lco.yaml"
    yaml.write_text((ROOT / "examples/lco.yaml").read_text().replace("LCO.{date}.{seconds}.fits", '"{stem}_l0.fits"'))
    night = make(tmp_path / "night/a.fits").parent
    (tmp_path / "link").symlink_to("night")
    words = [] if case == "default" else ["--out", str(tmp_path / case)]
    code, told = call("watch", night, *words, "-i", yaml, "--journal", tmp_path / "journal")
    assert code == 2
    assert "would be taken for sub-FITS of sinistro" in told


@pytest.mark.parametrize("case", ["night", "out"])
def test_a_place_that_is_a_file_is_told_at_once(tmp_path, call, case):
    places = {"night": tmp_path, "out": tmp_path / "out"} | {case: make(tmp_path / "file")}
    code, told = call("watch", places["night"], "--out", places["out"], "--journal", tmp_path / "journal", "-i", ROOT / "prefixes.yaml")
    assert code == 2
    assert "is no directory" in told


def test_origins_that_can_never_be_put_together_are_told_at_the_start(tmp_path, call):
    """The raw frame and the support file of STIS have nothing in common but their names."""
    code, told = call("watch", tmp_path, "--out", tmp_path / "out", "--journal", tmp_path / "journal", "-i", ROOT / "examples/stis.yaml")
    assert code == 2
    assert "sub-FITS of raw and spt tell no frame number" in told


def test_a_double_that_was_told_before_a_start_does_not_become_an_exposure():
    board = Board(FLAT, lambda _origin, path: arrival(path, at=0))
    board.know("/night", 7, {"sinistro": "/night/a.fits"})
    board.arrive("/night", arrival("/night/b.fits"))
    board.tell("/night", [arrival("/night/b.fits")])
    for now in (200, 300):
        decided = board.decide("/night", {}, now * SECOND)
        assert (decided.ready, decided.partial, decided.late, decided.orphans) == ((), (), (), ())


def test_a_clock_that_is_wrong_at_one_end_of_an_exposure_delays_nothing():
    """Such as that of a camera whose date was set while the shutter was open."""
    waiting = Flight(frame=7, arrivals=(arrival("/night/a.fits", end=10 * 365 * 86_400),))
    assert deadline(FLAT, waiting, "sinistro") == 100 * SECOND + FLAT.margin


def test_a_watcher_without_standard_error_works(tmp_path):
    """As under a supervisor that closes it."""
    night = kpf_night.make_night(tmp_path, shape=(4, 3)).directory
    words = [sys.executable, "-m", "assembler", "watch", night, "--out", tmp_path / "out", "--journal", tmp_path / "journal"]
    command = 'exec "$@" 2>&-'
    with subprocess.Popen(["sh", "-c", command, "sh", *map(str, words), "--settling", "0.1 s"], cwd=ROOT) as process:
        wait_for("an L0", lambda: any((tmp_path / "out").glob("*.fits")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.fixture
def site(tmp_path, kpf) -> Iterator[Site]:
    """Return a night of two exposures, and its watcher."""
    made = Site(tmp_path, replace(kpf, margin=2 * SECOND, origins=tuple(replace(o, readout=0) for o in kpf.origins)), exposures=2)
    yield made
    made.stop()


def test_an_exposure_of_which_everything_comes_again_is_made_anew_as_its_next_version(site):
    """As where an instrument has one camera, or a whole night is transferred once more because it was corrupt."""
    site.put_all()
    site.go(5)
    (before,) = site.l0s().items()
    for origin in ORIGINS:
        site.put(origin, content=site.changed(origin))
    site.go(10)
    ((name, told),) = site.l0s().items()
    assert (name, told["version"], site.superseded()) == (before[0], 2, [name.replace(".fits", ".v1.fits")])
    assert site.entry().state == "published"


def test_another_exposure_in_the_place_of_one_leaves_its_l0_where_it_is(site):
    """As where NIGHT is a link that leads to another night by now, or a counter began anew."""
    site.put_all()
    site.go(5)
    (before,) = site.l0s()
    first, second = (str(frame).encode() for frame in site.frames)
    for origin in ORIGINS:
        site.put(origin, content=site.contents[site.path(origin, 1)].replace(second, first))
    site.go(10)
    assert [told["version"] for told in site.l0s().values()] == [1, 1]
    assert before in site.l0s()
    assert site.superseded() == []


def test_a_start_waits_for_no_file_system_that_does_not_answer(tmp_path):
    watched = Watched(tmp_path, mounts=Mounts())
    try:
        holder = watched.block(watched.place)
        watched.begin()
        assert watched.health()[0] in (200, 503)
        watched.process.send_signal(signal.SIGTERM)
        assert watched.process.wait(PATIENCE) == 0
        assert holder.poll() is None
    finally:
        watched.close()
